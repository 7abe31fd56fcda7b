"""What an extraction has to do: the cache it fills, and the images that were never forwarded."""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import os
import shutil
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import fastcls
from fastcls import files
from fastcls.bases.hub import is_preset
from fastcls.bases.loader import is_function, load_base
from fastcls.bases.registry import find_architecture
from fastcls.cache import record, store
from fastcls.cache.index import locate_views
from fastcls.cache.listing import check_name
from fastcls.cache.samples import Failure, FileState, SampleRow
from fastcls.cache.store import Cache, Manifest
from fastcls.cutter import Cut, bottleneck_model, cut, tail_model
from fastcls.data.dataset import Dataset
from fastcls.data.decoder import pixel_rule
from fastcls.engines.tensorflow import Trunk
from fastcls.errors import CacheError
from fastcls.extraction.tasks import Wanted
from fastcls.specs import NAMED_WEIGHTS, CutSpec, PixelRule, ViewSpec

# What decides a bottleneck's value, as the fingerprint has it.
DECIDING = (
    *("size", "decode", "resize", "pool", "dtype", "precision", "policies", "float32_layers"),
    *("architecture", "weights_digest", "version"),
)
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Order:
    """What is to have its bottlenecks.

    Attributes:
        dataset: The images.
        views: What each image to train on is to have.
        name: What the user calls the data set; None for its own name.
    """

    dataset: Dataset
    views: ViewSpec
    name: str | None = None

    def __post_init__(self) -> None:
        if self.name is not None:
            check_name(self.name)

    def served_by(self, cache: Cache) -> Cache:
        """A cache, speaking of this data set."""
        name, origin = self.name or self.dataset.name, self.dataset.origin
        return cache.serving(name, origin, is_asked=self.name is not None)


@dataclass(frozen=True)
class Plan:
    """What is known of every sample of a cache, and what it lacks.

    Attributes:
        rows: One per sample, in the data set's order; digest and state where they are known.
        missing: Images without a bottleneck of each of their views.
        failures: Images that are known to be unreadable.
        is_new: Whether `rows` differs from the table beside the shards.
    """

    rows: list[SampleRow]
    missing: list[Wanted]
    failures: list[Failure]
    is_new: bool


class Requested:
    """A request and the caches that serve it, one for each precision.

    Args:
        request: What to cut, or a base that is cut already.
        root: Folder of caches.
        base_of: Another request, of the same base.

    Attributes:
        precision: As asked for.
        is_new: Whether `open` made the cache that it opened last.
    """

    def __init__(self, request: CutSpec | Cut, root: Path, base_of: Requested | None = None) -> None:
        self.precision = request.precision
        self._request, self._root, self._base_of = request, root, base_of
        self.is_new = False
        self._token = _request_token(request) if isinstance(request, CutSpec) else None

    @property
    def pixels(self) -> PixelRule:
        """How the images become pixels; the base is built only where nothing else tells their size.

        Raises:
            OptionError: The base cannot be used.
        """
        known, base = self.known(), self._request.base
        named = find_architecture(base.name)
        size = known.manifest.size if known else base.size
        size = size or ((named.side, named.side) if named else self._built[0].base.size)
        return pixel_rule(size, full_decode=self._request.full_decode)

    def known(self) -> Cache | None:
        """The cache that served this request before, recognized without TensorFlow."""
        return store.find_request(self._root, self._token) if self._token else None

    def folder(self, precision: str) -> Path:
        """Where the cache of a precision is, or would be.

        Raises:
            OptionError: The base, layer or weights cannot be used.
        """
        known = self._known_in(precision)
        return known.folder if known else self._root / store.folder_name(self._describe(precision))

    def open(self, precision: str) -> tuple[Cache, Trunk]:
        """The cache of a precision, and its trunk; what is not there, or damaged, is made.

        Raises:
            OptionError: The base, layer or weights cannot be used.
        """
        known, self.is_new = self._known_in(precision), False
        if known and not record.damage(*known.models):
            return known, Trunk(known.trunk_path)
        manifest = self._describe(precision)
        folder = self._root / store.folder_name(manifest)
        self.is_new = not (folder / "manifest.json").exists()
        _, model, tail = self._built
        for saved, name in ((tail, "tail.keras"), (model, "trunk.keras")):
            if saved:
                _keep_model(folder / name, saved, manifest.fingerprint)
        cache = _whole_cache(folder, manifest) or Cache.create(self._root, manifest)
        return cache, Trunk(cache.trunk_path, model)

    def _known_in(self, precision: str) -> Cache | None:
        known = self.known()
        return known if known and known.manifest.precision == precision else None

    def _describe(self, precision: str) -> Manifest:
        made, model, tail = self._built
        manifest = replace(_describe(made, model, tail, self._weights), precision=precision)
        return replace(manifest, fingerprint=_fingerprint(manifest))

    def settle(self, cache: Cache) -> None:
        """Remember that this cache, and no other, serves the request."""
        before = self.known()
        if self._token:
            if before and before.folder != cache.folder:
                before.remove_request(self._token)
            cache.add_request(self._token)

    def discard(self, cache: Cache) -> None:
        """Remove a cache that `open` made just now and that nobody can fill."""
        if self.is_new and not cache.shards_folder.exists():
            shutil.rmtree(cache.folder)

    def check(self) -> None:
        """Raise OptionError for a base or a cut that cannot be used, before anything is made."""
        _ = self._built

    @property
    def cut(self) -> Cut:
        """The base, cut."""
        return self._built[0]

    @cached_property
    def _built(self) -> tuple[Cut, Any, Any]:
        made = self._request
        if isinstance(made, CutSpec):
            kept = {name: getattr(made, name) for name in ("pool", "dtype", "precision", "full_decode")}
            base = self._base_of.cut.base if self._base_of else load_base(made.base)
            made = cut(base, made.layer, **kept)
        return made, bottleneck_model(made), tail_model(made)

    @property
    def _weights(self) -> str:
        given = self._request.base.weights if isinstance(self._request, CutSpec) else None
        own = "imagenet" if find_architecture(self._built[0].base.name) else "own"
        return Path(given).name if given else own  # the digest tells files of one name apart


def make_plan(order: Order, cache: Cache) -> Plan:
    """Find the images of a data set that lack a bottleneck of one of their views.

    An image whose file has not changed since its digest was taken is not read.

    Args:
        order: The images.
        cache: The cache, speaking of this data set.
    """
    dataset, views, recalled = order.dataset, order.views, cache.listing.recall()
    is_last = recalled.is_last and recalled.task is dataset.task
    known = {failure.digest: failure for failure in recalled.failures if failure.digest}
    rows, is_changed = _known_rows(dataset, recalled.samples)
    lacking = locate_views(cache.index(), rows, views).lacking
    failures, missing = [], []
    for place in np.flatnonzero(lacking):
        row = rows[place]
        if row.digest in known:
            failures.append(replace(known[row.digest], path=row.path))
        else:
            missing.append(
                Wanted(row.path, views.of_split(row.split), int(lacking[place]), digest=row.digest)
            )
    return Plan(rows, missing, failures, is_changed or not is_last)


def _request_token(spec: CutSpec) -> str | None:
    """Digest of a request; None when only running the user's code, or keras_hub's, tells what it means."""
    base = spec.base
    if is_function(base.name) or is_preset(base.name):
        return None
    named = find_architecture(base.name)
    asked = asdict(spec)
    asked["base"]["name"] = named.name if named else _path_digest(Path(base.name))
    if base.weights not in (None, *NAMED_WEIGHTS):
        asked["base"]["weights"] = _path_digest(Path(str(base.weights)))
    rule = pixel_rule((0, 0), full_decode=spec.full_decode)  # the size is in the request, or the base's own
    made_by = [fastcls.__version__, importlib.metadata.version("keras"), asdict(rule), store.VERSION]
    return files.json_digest([asked, made_by])


def _path_digest(path: Path) -> str:
    if path.is_file():
        return files.file_digest(path)
    inside = sorted(entry for entry in path.rglob("*") if entry.is_file())
    return files.json_digest([[str(entry.relative_to(path)), files.file_digest(entry)] for entry in inside])


def _describe(made: Cut, model: Any, tail: Any, weights: str) -> Manifest:
    """Describe a cache, all but its precision and the fingerprint that depends on it."""
    from fastcls import graph

    rule = pixel_rule(made.base.size, full_decode=made.full_decode)
    return Manifest(
        fingerprint="",
        base=made.base.name,
        weights=weights,
        layer=made.layer,
        pool=made.pool if len(made.trunk.outputs[0].shape) == 4 else "none",
        normalize=made.base.normalize,
        **asdict(rule),
        dtype=made.dtype,
        precision=made.precision,
        shape=tuple(model.outputs[0].shape[1:]),
        policies=graph.policies(model),
        architecture=graph.architecture_digest(model),
        weights_digest=graph.weights_digest(model),
        # Two bases may share a trunk and go on in two ways.
        tail_digest=_tail_digest(tail) if tail else "",
        versions={"fastcls": fastcls.__version__}
        | {name: importlib.metadata.version(name) for name in ("keras", "tensorflow")},
    )


def _tail_digest(tail: Any) -> str:
    from fastcls import graph

    return files.json_digest([graph.architecture_digest(tail, trained=True), graph.weights_digest(tail)])


def _fingerprint(manifest: Manifest) -> str:
    """Hash of all that decides a bottleneck's value."""
    deciding = {name: getattr(manifest, name) for name in DECIDING}
    tail = {"tail": manifest.tail_digest} if manifest.tail_digest else {}
    return files.json_digest(deciding | tail)


def _known_rows(dataset: Dataset, stored: list[SampleRow]) -> tuple[list[SampleRow], bool]:
    """A row per sample, and whether they differ from the rows beside the shards, which are used up."""
    stored.reverse()
    rows, is_changed = [], False
    names: dict[tuple[int, ...], tuple[str, ...]] = {}  # one tuple for all images of the same classes
    for sample in dataset.samples:
        # Both are sorted by path. Old rows leave memory while new ones come.
        while stored and stored[-1].path < sample.path:
            stored.pop()
            is_changed = True
        old = stored.pop() if stored and stored[-1].path == sample.path else None
        known = (old.digest, old.state) if old and _is_unchanged(dataset.root, old) else ()
        labels = names.setdefault(sample.labels, dataset.names_of(sample))
        row = SampleRow(sample.path, labels, sample.split, sample.group, *known)
        is_changed |= row != old
        rows.append(row)
    return rows, is_changed or bool(stored)


def _whole_cache(folder: Path, manifest: Manifest) -> Cache | None:
    """The cache in a folder; None if there is none, or its manifest is damaged or of another one."""
    with contextlib.suppress(CacheError):
        cache = Cache(folder)
        if cache.manifest.fingerprint == manifest.fingerprint:
            return cache
    if (folder / "manifest.json").exists():
        logger.warning(
            "%s is damaged or of another cache. It is made anew, and no bottleneck is lost",
            folder / "manifest.json",
        )
    return None


def _keep_model(path: Path, model: Any, fingerprint: str) -> None:
    """Save a model, unless it is there and whole."""
    reason = record.damage(path)
    if not reason:
        return
    if path.exists():
        logger.warning("%s. It is made anew from the base", reason)
    record.keep(path, model.save, of=fingerprint)


def _is_unchanged(root: Path, row: SampleRow) -> bool:
    """Whether a file is the one that the row's digest was taken of."""
    try:
        return row.state == FileState.of(os.path.join(root, row.path))  # noqa: PTH118 (10 times quicker)
    except OSError:
        return False

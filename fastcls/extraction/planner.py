"""What an extraction has to do: the cache it fills, and the images that were never forwarded."""

from __future__ import annotations

import importlib.metadata
import logging
import math
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

import fastcls
from fastcls import files
from fastcls.bases.hub import is_preset
from fastcls.bases.loader import is_function, load_base
from fastcls.bases.registry import find_architecture
from fastcls.cache import store
from fastcls.cache.samples import FileState, SampleRow
from fastcls.cache.store import Cache, Failure, Manifest, locate_views
from fastcls.cutter import Cut, bottleneck_model, cut, tail_model
from fastcls.data.dataset import Dataset
from fastcls.data.decoder import RECIPE
from fastcls.engines.tensorflow import Trunk
from fastcls.errors import CacheError
from fastcls.specs import NAMED_WEIGHTS, CutSpec, ViewSpec

_DECIDING = ("size", "recipe", "dtype", "precision", "architecture", "weights_digest", "version")
_Row = TypeVar("_Row")
logger = logging.getLogger(__name__)


class Wanted(NamedTuple):
    """An image that lacks a row.

    Attributes:
        path: POSIX path.
        views: How many views it is to have.
        rows: How many of them are not there, as far as is known before the file is read.
        caches: Which of the caches that are filled at once lack one, by their places.
    """

    path: str
    views: int = 1
    rows: int = 1
    caches: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class ShardTask:
    """The unit of work: images to turn into the rows of one shard of each cache.

    Attributes:
        root: Folder that the paths are relative to, absolute.
        images: What to read.
        views: What their views are.
    """

    root: Path
    images: tuple[Wanted, ...]
    views: ViewSpec


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


@dataclass(frozen=True)
class Work:
    """What has to be forwarded.

    Attributes:
        root: Folder that the paths are relative to, absolute.
        images: Images that some cache lacks a row of.
        views: What each image to train on is to have.
    """

    root: Path
    images: list[Wanted]
    views: ViewSpec

    @classmethod
    def of(cls, dataset: Dataset, plans: Sequence[Plan], views: ViewSpec) -> Work:
        """What the caches of some plans lack, each image once."""
        images: dict[str, Wanted] = {}
        for place, plan in enumerate(plans):
            for image in plan.missing:
                same = images.get(image.path, image._replace(caches=()))
                rows = max(same.rows, image.rows)
                images[image.path] = same._replace(rows=rows, caches=(*same.caches, place))
        return cls(dataset.root.absolute(), sorted(images.values()), views)

    @property
    def rows(self) -> int:
        """How many bottlenecks of one cut, at most, have to be computed."""
        return sum(image.rows for image in self.images)

    def tasks(self, size: int, batch_size: int, workers: int) -> list[ShardTask]:
        """Divide what is missing into shard tasks: as many rows for each worker, in whole batches.

        The views of one image stay together.

        Args:
            size: Rows per task at most, unless one image has more.
            batch_size: Rows per forward pass.
            workers: How many share the work.
        """
        rounds = math.ceil(self.rows / (size * max(1, workers)))
        fair = math.ceil(self.rows / max(1, rounds * max(1, workers)))
        size = min(size, math.ceil(fair / batch_size) * batch_size)
        groups: list[list[Wanted]] = []
        rows = size  # of the last group
        for image in self.images:
            if rows + image.rows > size:
                groups.append([])
                rows = 0
            groups[-1].append(image)
            rows += image.rows
        return [ShardTask(self.root, tuple(group), self.views) for group in groups]


class Requested:
    """A request and the caches that serve it, one for each precision.

    Args:
        request: What to cut, or a base that is cut already.
        root: Folder of caches.
        base_of: Another request, of the same base.

    Attributes:
        precision: As asked for.
    """

    def __init__(self, request: CutSpec | Cut, root: Path, base_of: Requested | None = None) -> None:
        self.precision = request.precision
        self._request, self._root, self._base_of = request, root, base_of
        self._is_new = False  # the cache that was opened last
        self._token = _request_token(request) if isinstance(request, CutSpec) else None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the images in pixels; the base is built only where nothing else tells.

        Raises:
            OptionError: The base cannot be used.
        """
        known, base = self.known(), self._request.base
        named = find_architecture(base.name)
        size = known.manifest.size if known else base.size
        return size or ((named.side, named.side) if named else self._built[0].base.size)

    def known(self) -> Cache | None:
        """The cache that served this request before, recognized without TensorFlow."""
        return store.find_request(self._root, self._token) if self._token else None

    def open(self, precision: str) -> tuple[Cache, Trunk]:
        """The cache of a precision, made if there is none, and its trunk.

        Raises:
            OptionError: The base, layer or weights cannot be used.
        """
        known = self.known()
        if known and known.manifest.precision == precision:
            return known, Trunk(known.trunk_path)
        made, model, tail = self._built
        manifest = replace(_describe(made, model, tail, self._weights), precision=precision)
        manifest = replace(manifest, fingerprint=_fingerprint(manifest))
        folder = self._root / store.folder_name(manifest)
        self._is_new = not folder.exists()
        for saved, name in ((tail, "tail.keras"), (model, "trunk.keras")):
            if saved and not (folder / name).exists():
                with files.atomic_path(folder / name) as temporary:
                    saved.save(temporary)
        is_known = (folder / "manifest.json").exists()
        cache = Cache(folder) if is_known else Cache.create(self._root, manifest)
        return cache, Trunk(cache.trunk_path, model)

    def settle(self, cache: Cache) -> None:
        """Remember that this cache, and no other, serves the request."""
        before = self.known()
        if before and before.folder != cache.folder:
            before.remove_request(self._token)
        if self._token:
            cache.add_request(self._token)

    def discard(self, cache: Cache) -> None:
        """Remove a cache that `open` made just now and that nobody can fill."""
        if self._is_new and not cache.shards_folder.exists():
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
            kept: dict[str, Any] = {"pool": made.pool, "dtype": made.dtype, "precision": made.precision}
            base = self._base_of.cut.base if self._base_of else load_base(made.base)
            made = cut(base, made.layer, **kept)
        return made, bottleneck_model(made), tail_model(made)

    @property
    def _weights(self) -> str:
        given = self._request.base.weights if isinstance(self._request, CutSpec) else None
        own = "imagenet" if find_architecture(self._built[0].base.name) else "own"
        return Path(given).name if given else own  # the digest tells files of one name apart


def make_plan(dataset: Dataset, cache: Cache, views: ViewSpec) -> Plan:
    """Find the images of a data set that lack a bottleneck of one of their views.

    An image whose file has not changed since its digest was taken is not read.
    """
    rows, is_new = _known_rows(dataset, cache)
    known = {failure.digest: failure for failure in _or_empty(cache.failures) if failure.digest}
    lacking = locate_views(cache.index(), rows, views).lacking
    failures, missing = [], []
    for place in np.flatnonzero(lacking):
        row = rows[place]
        if row.digest in known:
            failures.append(replace(known[row.digest], path=row.path))
        else:
            missing.append(Wanted(row.path, views.of_split(row.split), int(lacking[place])))
    return Plan(rows, missing, failures, is_new)


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
    made_by = [fastcls.__version__, importlib.metadata.version("keras"), RECIPE, store.VERSION]
    return files.json_digest([asked, made_by])


def _path_digest(path: Path) -> str:
    if path.is_file():
        return files.file_digest(path)
    inside = sorted(entry for entry in path.rglob("*") if entry.is_file())
    return files.json_digest([[str(entry.relative_to(path)), files.file_digest(entry)] for entry in inside])


def _describe(made: Cut, model: Any, tail: Any, weights: str) -> Manifest:
    """Describe a cache, all but its precision and the fingerprint that depends on it."""
    from fastcls import graph

    return Manifest(
        fingerprint="",
        base=made.base.name,
        weights=weights,
        layer=made.layer,
        pool=made.pool,
        normalize=made.base.normalize,
        size=made.base.size,
        recipe=RECIPE,
        dtype=made.dtype,
        precision=made.precision,
        shape=tuple(model.outputs[0].shape[1:]),
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
    deciding = {name: getattr(manifest, name) for name in _DECIDING}
    tail = {"tail": manifest.tail_digest} if manifest.tail_digest else {}
    return files.json_digest(deciding | tail)


def _known_rows(dataset: Dataset, cache: Cache) -> tuple[list[SampleRow], bool]:
    """A row per sample, and whether they differ from the rows beside the shards."""
    stored = _or_empty(cache.samples)[::-1]
    rows, is_new = [], cache.multi_label != dataset.multi_label
    names: dict[tuple[int, ...], tuple[str, ...]] = {}  # one tuple for all images of the same classes
    for sample in dataset.samples:
        # Both are sorted by path. Old rows leave memory while new ones come.
        while stored and stored[-1].path < sample.path:
            stored.pop()
            is_new = True
        old = stored.pop() if stored and stored[-1].path == sample.path else None
        known = (old.digest, old.state) if old and _is_unchanged(dataset.root, old) else ()
        labels = names.setdefault(sample.labels, dataset.names_of(sample))
        row = SampleRow(sample.path, labels, sample.split, sample.group, *known)
        is_new |= row != old
        rows.append(row)
    return rows, is_new or bool(stored)


def _or_empty(read: Callable[[], list[_Row]]) -> list[_Row]:
    try:
        return read()
    except CacheError as error:
        logger.warning("%s", error)
        return []


def _is_unchanged(root: Path, row: SampleRow) -> bool:
    """Whether a file is the one that the row's digest was taken of."""
    try:
        return row.state == FileState.of(os.path.join(root, row.path))  # noqa: PTH118 (10 times quicker)
    except OSError:
        return False

"""What an extraction has to do: the cache it fills, and the images that were never forwarded."""

from __future__ import annotations

import importlib.metadata
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

import fastcls
from fastcls import files
from fastcls.bases.hub import is_preset
from fastcls.bases.loader import is_function, load_base
from fastcls.bases.registry import find_architecture
from fastcls.cache import store
from fastcls.cache.samples import FileState, SampleRow
from fastcls.cache.store import Cache, Failure, Manifest
from fastcls.cutter import Cut, bottleneck_model, cut
from fastcls.data.dataset import Dataset
from fastcls.data.decoder import RECIPE
from fastcls.errors import CacheError
from fastcls.specs import NAMED_WEIGHTS, CutSpec

_Row = TypeVar("_Row")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ShardTask:
    """The unit of work: images to turn into the rows of one shard.

    Attributes:
        root: Folder that the paths are relative to, absolute.
        paths: POSIX paths.
    """

    root: Path
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What is known of every sample, and what has to be done.

    Attributes:
        rows: One per sample, in the data set's order; digest and state where they are known.
        tasks: Images without a bottleneck, in shards.
        failures: Images that are known to be unreadable.
        is_new: Whether `rows` differs from the table beside the shards.
    """

    rows: list[SampleRow]
    tasks: list[ShardTask]
    failures: list[Failure]
    is_new: bool

    @property
    def missing(self) -> int:
        """How many images the tasks hold."""
        return sum(len(task.paths) for task in self.tasks)


def prepare_cache(request: CutSpec | Cut, root: Path) -> Cache:
    """The cache folder for a cut, made if there is none.

    A request that was served before is recognized by what it asks for, without TensorFlow.

    Args:
        request: What to cut, or a base that is cut already.
        root: Folder of caches.

    Raises:
        OptionError: The base, layer or weights cannot be used.
    """
    token = _request_token(request) if isinstance(request, CutSpec) else None
    known = store.find_request(root, token) if token else None
    if known:
        return known
    cache = _build_cache(_cut(request), request, root)
    if token:
        cache.add_request(token)
    return cache


def make_plan(dataset: Dataset, cache: Cache, shard_size: int) -> Plan:
    """Find the images of a data set that have no bottleneck yet.

    An image whose file has not changed since its digest was taken is not read.
    """
    rows, is_new = _known_rows(dataset, cache)
    known = {failure.digest: failure for failure in _or_empty(cache.failures) if failure.digest}
    present = cache.index().locate([row.digest for row in rows]).present
    absent = [rows[place] for place in np.flatnonzero(~present)]
    failures = [replace(known[row.digest], path=row.path) for row in absent if row.digest in known]
    missing = [row.path for row in absent if row.digest not in known]
    return Plan(rows, list(_tasks(dataset.root, missing, shard_size)), failures, is_new)


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


def _cut(request: CutSpec | Cut) -> Cut:
    if isinstance(request, Cut):
        return request
    kept = {"pool": request.pool, "dtype": request.dtype, "precision": request.precision}
    return cut(load_base(request.base), request.layer, **kept)


def _build_cache(made: Cut, request: CutSpec | Cut, root: Path) -> Cache:
    model = bottleneck_model(made)
    weights = request.base.weights if isinstance(request, CutSpec) else None
    own = "imagenet" if find_architecture(made.base.name) else "own"
    source = Path(weights).name if weights else own  # the digest tells files of one name apart
    manifest = _describe(made, model, source)
    folder = root / store.folder_name(manifest)
    if not (folder / "trunk.keras").exists():
        with files.atomic_path(folder / "trunk.keras") as temporary:
            model.save(temporary)
    if (folder / "manifest.json").exists():
        return Cache(folder)
    return Cache.create(root, manifest)


def _describe(made: Cut, model: Any, weights: str) -> Manifest:
    from fastcls import graph

    deciding: dict[str, Any] = {
        "size": made.base.size,
        "recipe": RECIPE,
        "dtype": made.dtype,
        "precision": made.precision,
        "architecture": graph.architecture_digest(model),
        "weights_digest": graph.weights_digest(model),
        "version": store.VERSION,
    }
    return Manifest(
        fingerprint=files.json_digest(deciding),
        base=made.base.name,
        weights=weights,
        layer=made.layer,
        pool=made.pool,
        normalize=made.base.normalize,
        shape=tuple(model.outputs[0].shape[1:]),
        versions={"fastcls": fastcls.__version__}
        | {name: importlib.metadata.version(name) for name in ("keras", "tensorflow")},
        **deciding,
    )


def _known_rows(dataset: Dataset, cache: Cache) -> tuple[list[SampleRow], bool]:
    """A row per sample, and whether they differ from the rows beside the shards."""
    stored = _or_empty(cache.samples)[::-1]
    rows, is_new = [], False
    for sample in dataset.samples:
        # Both are sorted by path. Old rows leave memory while new ones come.
        while stored and stored[-1].path < sample.path:
            stored.pop()
            is_new = True
        old = stored.pop() if stored and stored[-1].path == sample.path else None
        known = (old.digest, old.state) if old and _is_unchanged(dataset.root, old) else ()
        label = dataset.class_names[sample.label]
        row = SampleRow(sample.path, label, sample.split, sample.group, *known)
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


def _tasks(root: Path, paths: list[str], size: int) -> Iterator[ShardTask]:
    for start in range(0, len(paths), size):
        yield ShardTask(root.absolute(), tuple(paths[start : start + size]))

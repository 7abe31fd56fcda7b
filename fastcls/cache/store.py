"""A bottleneck cache: a folder of shards, the trunk that made them, and the samples that they serve.

CACHE/manifest.json    what the bottlenecks are: everything that decides their value
CACHE/trunk.keras      the Keras model that made them, RGB uint8 image -> bottleneck
CACHE/tail.keras       what follows in the base, bottleneck -> features; not where nothing follows
CACHE/shards/*.h5      the bottlenecks, found by image digest, or by the digest of an augmented view
CACHE/samples.csv      path, class, split and digest of each image
CACHE/failures.csv     images that gave no bottleneck, and why; without this file they are tried again
CACHE/extraction.json  root of the images, and figures of the last extraction
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fastcls import files
from fastcls.cache import shard
from fastcls.cache.samples import SampleRow, is_multi_label, read_samples, write_samples
from fastcls.cache.tables import read_table, write_table
from fastcls.data.views import row_key
from fastcls.errors import CacheError
from fastcls.parallel import ahead
from fastcls.specs import PixelRule, ViewSpec

VERSION = 2
_ABSENT = -1
# Readers: while one waits for the disk, others compute checksums.
_THREADS = 4
_TUPLES = ("size", "shape", "policies", "float32_layers", "requests")  # of a manifest; lists in JSON
_FAILURE_COLUMNS = ("path", "digest", "reason")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Manifest:
    """What the bottlenecks of a cache are.

    Attributes:
        fingerprint: Hash of all that decides a bottleneck's value; it names the cache folder.
        base: Name of the base.
        weights: Where its weights came from: "imagenet", "none", "own", or the name of a file.
        layer: The cut.
        pool: What became of a spatial cut; "none" where there was nothing to pool.
        normalize: Kind of normalization inside the trunk.
        size: (height, width) of the decoded image in pixels.
        decode: Name of the rule by which a file is decoded.
        resize: Name of the rule by which that comes to the size.
        dtype: Storage type.
        precision: Type in which the trunk computes.
        shape: Shape of one bottleneck.
        policies: Kinds of dtype policies that the trunk's layers have, sorted.
        float32_layers: Layers that compute in float32 whatever the precision.
        architecture: Digest of the trunk's graph.
        weights_digest: Digest of the trunk's weights.
        tail_digest: Digest of the graph and weights of the tail beside the trunk; "" without one.
        requests: Digests of the requests that led here, so that they are recognized without the base.
        fidelity: By engine: how near its bottlenecks of some images come to those of Keras in float32.
        views: Those of the last extraction; the shards may hold others besides.
        versions: Packages that made the cache.
        version: Version of the cache's layout.
    """

    fingerprint: str
    base: str
    weights: str
    layer: str
    pool: str
    normalize: str
    size: tuple[int, int]
    decode: str
    resize: str
    dtype: str
    precision: str
    shape: tuple[int, ...]
    architecture: str
    weights_digest: str
    policies: tuple[str, ...] = ()
    float32_layers: tuple[str, ...] = ()
    tail_digest: str = ""
    requests: tuple[str, ...] = ()
    fidelity: dict[str, dict[str, float]] = field(default_factory=dict)
    views: ViewSpec = field(default_factory=ViewSpec)
    versions: dict[str, str] = field(default_factory=dict)
    version: int = VERSION

    @property
    def pixels(self) -> PixelRule:
        """How pixels are made for the trunk."""
        return PixelRule(self.size, self.decode, self.resize)


@dataclass(frozen=True)
class Failure:
    """An image that gave no bottleneck.

    Attributes:
        path: As in `samples.csv`.
        digest: Its identity; "" when the file could not be read at all.
        reason: One line.
    """

    path: str
    digest: str
    reason: str


@dataclass(frozen=True)
class Rows:
    """Where some bottlenecks are: places in shards, in the order in which they were asked for.

    Attributes:
        shards: The shard files.
        shard: (N,) int32, index into `shards`; -1 where there is no such bottleneck.
        row: (N,) int32, row in that shard.
    """

    shards: tuple[Path, ...]
    shard: np.ndarray
    row: np.ndarray

    def __len__(self) -> int:
        return len(self.shard)

    @property
    def present(self) -> np.ndarray:
        """(N,) bool: which of them exist."""
        return self.shard != _ABSENT

    def take(self, places: np.ndarray) -> Rows:
        """Some of the rows, in another order."""
        return Rows(self.shards, self.shard[places], self.row[places])

    def read(self, into: np.ndarray | None = None) -> np.ndarray:
        """The bottlenecks themselves, (N, ...); each shard is opened once.

        Args:
            into: An array of N such rows or more to put them into: fresh memory costs as much as reading.

        Raises:
            CacheError: A row is damaged or absent.
        """
        if not self.present.all():
            raise CacheError("Some of the bottlenecks asked for are not in the cache")
        if not len(self):
            raise CacheError("No bottlenecks were asked for")
        output = (
            shard.empty_rows(self.shards[self.shard[0]], len(self)) if into is None else into[: len(self)]
        )

        def read_shard(places: np.ndarray) -> None:
            shard.read_into(output, places, self.shards[self.shard[places[0]]], self.row[places])

        for _ in ahead(read_shard, shard.group(self.shard), threads=_THREADS, depth=2 * _THREADS):
            pass
        return output


class Cache:
    """An open cache.

    Args:
        folder: An existing cache folder.

    Raises:
        CacheError: The folder is not a cache, or one of another version.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.manifest = _read_manifest(self.folder)

    @classmethod
    def create(cls, root: Path, manifest: Manifest) -> Cache:
        """Make a new cache folder under `root`, named by base, cut and fingerprint."""
        folder = root / folder_name(manifest)
        files.write_json(folder / "manifest.json", asdict(manifest))
        return cls(folder)

    @classmethod
    def find(cls, path: Path) -> Cache:
        """Open a cache, or the only cache under a root.

        Raises:
            CacheError: There is none, or there are several.
        """
        if (path / "manifest.json").is_file():
            return cls(path)
        folders = cache_folders(path)
        if len(folders) == 1:
            return cls(folders[0])
        if not folders:
            raise CacheError(f"There is no bottleneck cache in {path}. Make one with: fastcls extract DATA")
        listed = "\n".join(f"  {folder}" for folder in folders)
        raise CacheError(f"There are several bottleneck caches in {path}. Name one of them:\n{listed}")

    @property
    def trunk_path(self) -> Path:
        """The Keras model RGB uint8 image (B, H, W, 3) -> bottleneck (B, ...)."""
        return self.folder / "trunk.keras"

    @property
    def tail_path(self) -> Path:
        """The Keras model bottleneck (B, ...) -> features (B, D), where the base goes on behind the cut."""
        return self.folder / "tail.keras"

    @property
    def shards_folder(self) -> Path:
        """Where the shards are."""
        return self.folder / "shards"

    def add_request(self, request: str) -> None:
        """Note that a request leads to this cache."""
        if request not in self.manifest.requests:
            self._note(requests=(*self.manifest.requests, request))

    def remove_request(self, request: str | None) -> None:
        """Forget a request that leads to another cache now."""
        self._note(requests=tuple(known for known in self.manifest.requests if known != request))

    def note_fidelity(self, engine: str, figures: dict[str, float]) -> None:
        """Note how near an engine comes to the reference."""
        self._note(fidelity={**self.manifest.fidelity, engine: figures})

    def note_views(self, views: ViewSpec) -> None:
        """Note which views the table of samples is to have."""
        if views != self.manifest.views:
            self._note(views=views)

    def _note(self, **changes: Any) -> None:
        self.manifest = replace(self.manifest, **changes)
        files.write_json(self.folder / "manifest.json", asdict(self.manifest))

    def index(self) -> Index:
        """Read which bottlenecks there are now."""
        return Index.read(self.shards_folder, self.manifest.fingerprint)

    def samples(self) -> list[SampleRow]:
        """The table of samples; empty before the first extraction.

        Raises:
            CacheError: It is damaged.
        """
        return read_samples(self.folder / "samples.csv")

    @property
    def multi_label(self) -> bool:
        """Whether the samples may have any number of classes each."""
        return is_multi_label(self.folder / "samples.csv")

    def write_samples(self, rows: Iterable[SampleRow], *, multi_label: bool = False) -> None:
        """Replace the table of samples."""
        write_samples(self.folder / "samples.csv", rows, multi_label=multi_label)

    def failures(self) -> list[Failure]:
        """Images of the table that gave no bottleneck.

        Raises:
            CacheError: Their table is damaged.
        """
        return read_table(self._failures_path, _FAILURE_COLUMNS, Failure)

    def write_failures(self, failures: Sequence[Failure]) -> None:
        """Replace the table of failures; no file when there are none."""
        if not failures:
            self._failures_path.unlink(missing_ok=True)
            return
        lines = ((failure.path, failure.digest, failure.reason) for failure in failures)
        write_table(self._failures_path, _FAILURE_COLUMNS, lines)

    @property
    def _failures_path(self) -> Path:
        return self.folder / "failures.csv"


@dataclass(frozen=True)
class Index:
    """Which bottlenecks the shards of a cache hold.

    Attributes:
        shards: The shard files.
        digests: (N,) S32, sorted.
        shard: (N,) int32, index into `shards`.
        row: (N,) int32, row in that shard.
    """

    shards: tuple[Path, ...]
    digests: np.ndarray
    shard: np.ndarray
    row: np.ndarray

    @classmethod
    def read(cls, folder: Path, fingerprint: str) -> Index:
        """Index the shards of a folder; damaged ones count as absent and are named in a warning."""
        whole = list(_whole_shards(folder, fingerprint))
        digests = np.concatenate([np.empty(0, shard.DIGEST_DTYPE), *(found for _, found in whole)])
        numbers = np.repeat(np.arange(len(whole), dtype=np.int32), [len(found) for _, found in whole])
        rows = np.concatenate([np.empty(0, np.int32), *(np.arange(len(f), dtype=np.int32) for _, f in whole)])
        order = np.argsort(digests, kind="stable")
        return cls(tuple(path for path, _ in whole), digests[order], numbers[order], rows[order])

    def __len__(self) -> int:
        return len(self.digests)

    def locate(self, digests: Sequence[str]) -> Rows:
        """Where the bottlenecks of some images are; absent ones are marked."""
        wanted = np.array(digests, shard.DIGEST_DTYPE)
        if not len(self):
            absent = np.full(len(wanted), _ABSENT, np.int32)
            return Rows(self.shards, absent, absent)
        places = np.minimum(np.searchsorted(self.digests, wanted), len(self) - 1)
        found = self.digests[places] == wanted
        numbers, rows = self.shard[places], self.row[places]
        return Rows(self.shards, np.where(found, numbers, _ABSENT), np.where(found, rows, _ABSENT))


@dataclass(frozen=True)
class ViewRows:
    """Where the bottlenecks of some samples' views are.

    Attributes:
        rows: Places of (N, K) views, K being the most that a sample is to have; -1 beyond a sample's own.
        lacking: (N,) int64, how many of its views each sample lacks.
    """

    rows: Rows
    lacking: np.ndarray

    def take(self, places: np.ndarray, count: int) -> Rows:
        """The first views of some samples, image by image."""
        chosen = self.rows.take(places)
        return Rows(chosen.shards, chosen.shard[:, :count].ravel(), chosen.row[:, :count].ravel())


def locate_views(index: Index, samples: Sequence[SampleRow], views: ViewSpec) -> ViewRows:
    """Find the views that each sample is to have."""
    wanted = np.fromiter((views.of_split(sample.split) for sample in samples), np.int64, len(samples))
    shape = len(samples), int(wanted.max(initial=0))
    rows = Rows(index.shards, np.full(shape, _ABSENT, np.int32), np.full(shape, _ABSENT, np.int32))
    for number in range(shape[1]):
        having = wanted > number
        keys = [row_key(s.digest, views, number) for s in itertools.compress(samples, having)]
        found = index.locate(keys)
        rows.shard[having, number], rows.row[having, number] = found.shard, found.row
    return ViewRows(rows, wanted - rows.present.sum(axis=1))


def cache_folders(root: Path) -> list[Path]:
    """The caches directly under a root, sorted."""
    return sorted(path.parent for path in root.glob("*/manifest.json"))


def find_request(root: Path, request: str) -> Cache | None:
    """The cache under `root` that a request led to before, if its models are still there."""
    for folder in cache_folders(root):
        try:
            cache = Cache(folder)
        except CacheError:
            continue  # of another version: left alone
        has_tail = cache.tail_path.exists() or not cache.manifest.tail_digest
        if request in cache.manifest.requests and cache.trunk_path.exists() and has_tail:
            return cache
    return None


def folder_name(manifest: Manifest) -> str:
    """Name of a cache's folder."""
    base = Path(manifest.base).stem if "/" in manifest.base else manifest.base
    named = f"{base}-{manifest.layer}-{manifest.size[0]}x{manifest.size[1]}-{manifest.fingerprint[:12]}"
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in named)


def _read_manifest(folder: Path) -> Manifest:
    path = folder / "manifest.json"
    if not path.is_file():
        raise CacheError(f"{folder} is not a bottleneck cache: it has no manifest.json")
    try:
        values: dict[str, Any] = files.read_json(path)
        version = values["version"]
        if version != VERSION:
            raise CacheError(
                f"Cache {folder} has version {version}, this fastcls reads version {VERSION}. "
                "Choose another --cache, or use the fastcls that made it"
            )
        lists = {name: tuple(values[name]) for name in _TUPLES}
        views = ViewSpec(**values.get("views", {}))
        return Manifest(**{**values, **lists, "views": views})
    except (ValueError, KeyError, TypeError) as error:
        raise CacheError(
            f"{path} is damaged: {error}. Delete this one file and run the same `fastcls extract` again: "
            "no bottleneck is lost"
        ) from error


def _whole_shards(folder: Path, fingerprint: str) -> Iterator[tuple[Path, np.ndarray]]:
    for path in sorted(folder.glob("[!.]*.h5")):
        try:
            yield path, shard.read_digests(path, fingerprint)
        except CacheError as error:
            logger.warning("%s", error)

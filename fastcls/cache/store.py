"""A bottleneck cache: a folder of shards, the trunk that made them, and the data sets that they serve.

CACHE/manifest.json      what the bottlenecks are: everything that decides their value
CACHE/trunk.keras        the Keras model that made them, RGB uint8 image -> bottleneck
CACHE/tail.keras         what follows in the base, bottleneck -> features; not where nothing follows
CACHE/digests.json       the digests of both
CACHE/shards/*.h5        the bottlenecks, found by image digest, or by the digest of an augmented view
CACHE/samples/NAME.csv   the images of a data set (and NAME.json beside it, failures/NAME.csv: see listing.py)
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcls import files
from fastcls.cache import checked_files, mirror, remote_shards, shard
from fastcls.cache.index import Index
from fastcls.cache.listing import Listing, choose_listing, find_listing, listings
from fastcls.cache.manifest import MANIFEST, Manifest, read_manifest
from fastcls.cache.samples import Failure, SampleRow
from fastcls.data.names import safe_name
from fastcls.errors import CacheError, OptionError, shown, spoken
from fastcls.files import PathLike
from fastcls.optional import frame
from fastcls.specs import check_type

if TYPE_CHECKING:
    import pandas

_TRUNK, _TAIL = "trunk.keras", "tail.keras"


class Cache:
    """An open cache.

    Args:
        folder: An existing cache folder, or its URL.
        name: The data set; None for the only one.

    Raises:
        CacheError: The folder is not a cache, or one of another version.
    """

    def __init__(self, folder: PathLike, name: str | None = None) -> None:
        self.folder = mirror.opened(folder, "folder")
        if name is not None:
            check_type("name", name, str)
        self.manifest = read_manifest(self.folder)
        self._name = name
        self._listing: Listing | None = None

    def __repr__(self) -> str:
        known, shape = self.manifest, "x".join(map(str, self.manifest.shape))
        served = [self._listing] if self._listing else listings(self.folder)
        names = ", ".join(listing.name for listing in served) or "no data set"
        told = f"{known.base} cut at {known.layer}, {shape} {known.dtype}, of {names}"
        return f"<Cache {spoken(self.folder)}: {told}>"

    @classmethod
    def of(cls, cache: Cache | PathLike, name: str | None = None) -> Cache:
        """A cache itself, or that of a path or URL: see `find`.

        Raises:
            OptionError: It is neither.
            CacheError: As in `find`.
        """
        if isinstance(cache, Cache):
            return cache if name is None else cls(cache.folder, name)
        return cls.find(mirror.opened(cache, "cache", "a Cache"), name)

    @classmethod
    def create(cls, root: Path, manifest: Manifest) -> Cache:
        """Make a new cache folder under `root`, named by base, cut and fingerprint."""
        folder = root / folder_name(manifest)
        files.write_checked_json(folder / MANIFEST, asdict(manifest))
        return cls(folder)

    @classmethod
    def find(cls, path: PathLike, name: str | None = None) -> Cache:
        """Open a cache, or the only cache under a root.

        Args:
            path: The cache's folder, or the root, or the URL of one.
            name: The data set; None for the only one.

        Raises:
            CacheError: There is none, or there are several, of which not just one holds the data set.
        """
        path = mirror.opened(path, "path")
        if (path / MANIFEST).is_file():
            return cls(path, name)
        folders = cache_folders(path)
        if not folders:
            raise no_cache(path)
        holding = [folder for folder in folders if _holds(folder, name)]
        if len(folders) == 1 or len(holding) == 1:
            return cls((holding or folders)[0], name)
        listed = "\n".join(f"  {folder}: {_told(folder)}" for folder in holding or folders)
        held = f" that hold {name}" if name and holding else "" if not name else f", and none holds {name}"
        raise CacheError(f"Several bottleneck caches in {path}{held}. Give one of these folders:\n{listed}")

    @property
    def trunk_path(self) -> Path:
        """The Keras model RGB uint8 image (B, H, W, 3) -> bottleneck (B, ...)."""
        return mirror.local(self.folder / _TRUNK)

    @property
    def tail_path(self) -> Path:
        """The Keras model bottleneck (B, ...) -> features (B, D), where the base continues after the cut."""
        return mirror.local(self.folder / _TAIL)

    @property
    def models(self) -> list[Path]:
        """The trunk, and the tail where there is to be one."""
        return [self.trunk_path, *([self.tail_path] if self.manifest.tail_digest else [])]

    @property
    def lost_models(self) -> list[str]:
        """Names of those models that are not where the cache is; none is read."""
        names = [_TRUNK, *([_TAIL] if self.manifest.tail_digest else [])]
        return [name for name in names if not mirror.has(self.folder / name)]

    @property
    def shards_folder(self) -> Path:
        """Where the shards are."""
        return self.folder / "shards"

    @property
    def landing_folder(self) -> Path:
        """Where shards are written, to be published; as a rule that is where they are."""
        return remote_shards.landing(self.shards_folder)

    def publish(self, path: Path) -> Path:
        """Put a shard that was written into `landing_folder` among the others, and send it where they are.

        Raises:
            CacheError: It cannot be read as it was written.
            OSError: It cannot be sent.
        """
        return remote_shards.publish(path, self.shards_folder, self.manifest.fingerprint, shard.require_whole)

    def deliver(self) -> None:
        """Publish the shards that an interrupted extraction has left in `landing_folder`."""
        remote_shards.deliver(self.shards_folder, self.manifest.fingerprint, shard.require_whole)

    def add_cut(self, cut: str) -> None:
        """Note that a cut, of this digest, leads to this cache."""
        if cut not in self.manifest.cuts:
            self._note(lambda manifest: {"cuts": (*_without(cut, manifest.cuts), cut)})

    def remove_cut(self, cut: str) -> None:
        """Forget a cut that leads to another cache now."""
        self._note(lambda manifest: {"cuts": _without(cut, manifest.cuts)})

    def note_fidelity(self, engine: str, figures: Mapping[str, Any]) -> None:
        """Note how near an engine comes to the reference."""
        self._note(lambda manifest: {"fidelity": {**manifest.fidelity, engine: figures}})

    def _note(self, change: Callable[[Manifest], dict[str, Any]]) -> None:
        with files.locked(self.folder, f"Another process is writing to {self.folder}. Waiting", wait=True):
            manifest = read_manifest(self.folder)  # others may have noted something meanwhile
            self.manifest = replace(manifest, **change(manifest))
            files.write_checked_json(self.folder / MANIFEST, asdict(self.manifest))

    def index(self, *, warn: bool = True, keep: bool = True) -> Index:
        """Read which bottlenecks there are now; see `Index.read`."""
        return Index.read(self.shards_folder, self.manifest.fingerprint, warn=warn, keep=keep)

    def serving(self, name: str, data: Path, *, is_asked: bool = False) -> Cache:
        """This cache for a data set that it serves or is going to serve: see `choose_listing`."""
        return self.described_by(choose_listing(self.folder, name, data, is_asked=is_asked))

    def described_by(self, listing: Listing) -> Cache:
        """This cache with other tables of a data set."""
        served = copy.copy(self)
        served._listing = listing
        return served

    @property
    def listing(self) -> Listing:
        """The tables of the data set.

        Raises:
            CacheError: There are several to choose from, or none.
        """
        return self._listing or find_listing(self.folder, self._name)

    @property
    def is_shared(self) -> bool:
        """Whether it serves several data sets."""
        return len(listings(self.folder)) > 1

    def samples(self) -> list[SampleRow]:
        """The images of the data set; see `Listing.samples`."""
        return [*self.listing.samples()]

    def failures(self) -> list[Failure]:
        """Those that gave no bottleneck; see `Listing.failures`."""
        return self.listing.failures()

    def read(self, split: str | None = None) -> tuple[np.ndarray, list[SampleRow]]:
        """The bottlenecks of images as they are, without augmentation.

        Args:
            split: "train", "val" or "test", or "" of data that is not split; None for all images.

        Returns:
            An array (N, ...) of `manifest.dtype`, and the N samples that its rows belong to, in the order of
            the table. Images without a bottleneck are in neither.

        Raises:
            CacheError: A table or row is damaged, or the data set has no such split.
            OptionError: `split` is no name.
        """
        if not (split is None or isinstance(split, str)):
            raise OptionError(f"split must be the name of one, or None. Received: {shown(split)}")
        known = self.listing.samples()
        samples = known.take([p for p, own in enumerate(known.splits) if split is None or own == split])
        if not samples:
            splits = sorted({*known.splits})
            raise CacheError(f"The data set has no image of split {split!r}. Its splits are {splits}")
        rows = self.index().locate(samples.digests)
        present = np.flatnonzero(rows.present)
        return rows.take(present).read(), [*samples.take(present)]

    def to_frame(self) -> pandas.DataFrame:
        """A row per image of the data set: as `Dataset.to_frame`, and its digest.

        Raises:
            CacheError: The table is damaged.
            MissingExtraError: pandas is not installed.
        """
        task = self.listing.report().task
        rows = (
            (row.path, task.value(row.labels), row.split, row.group, row.digest)
            for row in self.listing.samples()
        )
        return frame(rows, ("path", task.column, "split", "group", "digest"))


def _without(cut: str, cuts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(known for known in cuts if known != cut)


def cache_folders(root: Path) -> list[Path]:
    """The caches directly under a root, sorted."""
    return sorted(path.parent for path in root.glob(f"*/{MANIFEST}"))


def no_cache(place: Path) -> CacheError:
    """What is said where there is no cache."""
    where = "the current folder" if place == Path() else place
    return CacheError(
        f"No bottleneck cache in {where}. `fastcls cache ls` lists those below a folder. Make one with: "
        "fastcls extract DATA --base BASE"
    )


def caches_at(place: PathLike) -> Iterator[Cache]:
    """The cache of a folder or URL, or those directly under it; damaged ones are left out."""
    path = mirror.opened(place)
    for folder in [path] if (path / MANIFEST).is_file() else cache_folders(path):
        with contextlib.suppress(CacheError, OSError):
            yield Cache(folder)


def is_cache(names: Set[str]) -> bool:
    """Whether a folder of such names is a cache, be it a damaged one."""
    return len(names & {MANIFEST, "shards", "trunk.keras", checked_files.FILE}) > 1


def _holds(folder: Path, name: str | None) -> bool:
    return name is None or any(listing.name == name for listing in listings(folder))


def _told(folder: Path) -> str:
    """What sets a cache apart from others: for a message."""
    try:
        known = Cache(folder).manifest
    except CacheError as error:
        return str(error)
    names = ", ".join(listing.name for listing in listings(folder)) or "no data set"
    pooled = "" if known.pool == "none" else f" ({known.pool})"
    stored = "" if known.dtype == "float32" else f" stored as {known.dtype}"
    return f"{known.base} cut at {known.layer}{pooled}, {known.precision}{stored}, of {names}"


def find_cut(root: Path, cut: str) -> Cache | None:
    """The cache under `root` that a cut, of this digest, led to before, if its models are still there."""
    for folder in cache_folders(root):
        with contextlib.suppress(CacheError):  # of another version, or damaged: left alone
            cache = Cache(folder)
            of = cache.manifest.fingerprint
            if cut in cache.manifest.cuts and all(checked_files.is_noted(m, of=of) for m in cache.models):
                return cache
    return None


def folder_name(manifest: Manifest) -> str:
    """Name of a cache's folder."""
    base = Path(manifest.base).stem if "/" in manifest.base else manifest.base
    size = f"{manifest.size[0]}x{manifest.size[1]}"
    return safe_name(f"{base}-{manifest.layer}-{size}-{manifest.fingerprint[:12]}")

"""Remove the rows of a cache that belong to no image any more: plan, then act."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastcls import files
from fastcls.cache import mirror, shard
from fastcls.cache.index import Index
from fastcls.cache.lease import Leases
from fastcls.cache.listing import Listing, listings
from fastcls.cache.shard_copies import copy_rows
from fastcls.cache.store import Cache
from fastcls.caching.contents import BEGUN, BOARD, Contents, open_cache
from fastcls.caching.runs_of import NamedRuns, find_runs
from fastcls.data.digests import DIGEST_DTYPE
from fastcls.data.views import row_key
from fastcls.errors import CacheError, OptionError
from fastcls.files import PathLike
from fastcls.specs import ViewSpec, as_list

_IDLE_S = 86_400
_BLOCK = 1 << 16  # images whose views are looked up at once


@dataclass(frozen=True)
class ShardGarbage:
    """What is to go of a shard.

    Attributes:
        path: The shard.
        kept: (M,) rows that stay, rising.
        rows: How many it has.
    """

    path: Path
    kept: np.ndarray
    rows: int


@dataclass(frozen=True)
class Garbage:
    """What can be removed from a cache: see `plan_gc`.

    Attributes:
        cache: The cache.
        shards: The shards that lose rows.
        rows: Bottlenecks that go: of images, and of their views, that no table and no run names.
        kept: Bottlenecks that stay.
        unknown: Bottlenecks of which nobody knows to which image they belong; `rows` has them if they are
            to go, else `kept`.
        bytes: Of the rows that go.
        dropped: Data sets whose tables go.
        leftovers: Temporary folders of killed processes, and the board of an extraction by several machines
            on which nothing has happened for a day.
        runs: The runs that were looked at.
    """

    cache: Cache
    shards: tuple[ShardGarbage, ...]
    rows: int
    kept: int
    unknown: int
    bytes: int
    dropped: tuple[Listing, ...]
    leftovers: tuple[Path, ...]
    runs: NamedRuns

    @property
    def is_none(self) -> bool:
        """Whether there is nothing to remove."""
        return not (self.shards or self.dropped or self.leftovers)


def gc_cache(
    cache: Cache | PathLike,
    *,
    runs: Sequence[PathLike],
    drop: Sequence[str] = (),
    unknown: bool = False,
) -> Garbage:
    """Remove the bottlenecks of images that no data set of a cache and no run names.

    A shard that loses rows is written anew without them before the old one goes. Do not use it while
    something trains on the cache.

    Args:
        cache: The cache, or the folder of one.
        runs: Folders below which runs are looked for: the images that they were trained on are kept.
        drop: Names of data sets that are no longer needed: their tables go too.
        unknown: Also remove rows of which nobody knows to which image they belong: views of recipes that no
            data set has now, and rows of versions that did not measure images.

    Returns:
        What was removed.

    Raises:
        CacheError: A table, a shard or a run is damaged, or an extraction has not ended.
        OSError: It cannot be written; every row that is named is still there.
    """
    opened = open_cache(cache)
    with Leases() as leases:
        leases.take([opened.folder])
        garbage = plan_gc(opened, runs=runs, drop=drop, unknown=unknown)
        collect(garbage)
        return garbage


def plan_gc(
    cache: Cache | PathLike,
    *,
    runs: Sequence[PathLike],
    drop: Sequence[str] = (),
    unknown: bool = False,
) -> Garbage:
    """What `gc_cache` would remove now; nothing is changed.

    Raises:
        CacheError: As there.
    """
    opened = open_cache(cache)
    if mirror.url_of(opened.folder):
        raise OptionError(
            f"{opened.folder} is at a URL, where no rows are removed. Give a copy on this machine"
        )
    contents, known = Contents.of(opened.folder), listings(opened.folder)
    dropped = tuple(_found(known, as_list(drop, "drop", str), opened))
    staying = [listing for listing in known if listing.name not in {each.name for each in dropped}]
    found = find_runs(as_list(runs, "runs", str, Path))
    fates = _Fates(opened, [*map(_require_ended, staying)], found, [*known])
    shards, rows, kept, unknowns, size = [], 0, 0, 0, 0
    for path in contents.shards:
        wanted, unsure = fates.of(path)
        unknowns += int(unsure.sum())
        stays = wanted if unknown else wanted | unsure
        if not stays.all():
            shards.append(ShardGarbage(path, np.flatnonzero(stays), len(stays)))
            size += int(path.stat().st_size * (~stays).mean())
        rows, kept = rows + int((~stays).sum()), kept + int(stays.sum())
    counts = rows, kept, unknowns, size
    leftovers = (*contents.leftovers, *_idle_boards(opened.folder))
    return Garbage(opened, tuple(shards), *counts, dropped, leftovers, found)


def collect(garbage: Garbage) -> None:
    """Remove what a plan says; a call that follows one that was killed goes on.

    Raises:
        CacheError: A row that is kept is damaged; its shard stays as it is.
        OSError: It cannot be written.
    """
    cache, fingerprint = garbage.cache, garbage.cache.manifest.fingerprint
    if garbage.shards or garbage.dropped:
        _write_begun(cache, garbage.shards)
    for listing in garbage.dropped:
        for path in (listing.failures_path, listing.samples_path, listing.report_path):
            path.unlink(missing_ok=True)
    for each in garbage.shards:
        made = None
        if len(each.kept):
            try:
                made = copy_rows(each.path, fingerprint, each.kept, each.path.parent)
            except CacheError as error:
                raise CacheError(f"{error}. Or run: fastcls cache repair {cache.folder}") from error
        if made != each.path:
            each.path.unlink()
            files.sync(each.path.parent)
    for folder in sorted({path.parent for path in garbage.leftovers}):
        files.remove_leftovers(folder)
    for board in _idle_boards(cache.folder):
        shutil.rmtree(board, ignore_errors=True)
    (cache.folder / BEGUN).unlink(missing_ok=True)


def _idle_boards(folder: Path) -> list[Path]:
    """The board of an extraction by several machines, if none has written to it for a day: no lock tells."""
    board = folder / BOARD
    times = [path.stat().st_mtime for path in (board, *board.glob("*"))] if board.is_dir() else []
    return [board] if times and max(times) < time.time() - _IDLE_S else []


def _write_begun(cache: Cache, shards: Sequence[ShardGarbage]) -> None:
    """Note all that is to go: once the row of an image has gone, nobody could tell whose its views were."""
    with files.atomic_path(cache.folder / BEGUN) as temporary, temporary.open("wb") as file:
        for each in shards:
            digests = shard.read_digests(each.path, cache.manifest.fingerprint)
            file.write(np.delete(digests, each.kept).tobytes())


def _begun(cache: Cache) -> np.ndarray:
    """What a call that was killed was removing: (N,) S32. A damaged digest is that of no row."""
    with contextlib.suppress(FileNotFoundError):
        found = (cache.folder / BEGUN).read_bytes()
        return np.frombuffer(
            found[: len(found) // DIGEST_DTYPE.itemsize * DIGEST_DTYPE.itemsize], DIGEST_DTYPE
        )
    return np.empty(0, DIGEST_DTYPE)


def _found(known: Sequence[Listing], names: Sequence[str], cache: Cache) -> Iterator[Listing]:
    """The data sets of some names; those that are not there may have gone with a call that was killed."""
    there = {listing.name: listing for listing in known}
    for name in dict.fromkeys(names):
        if name in there:
            yield there[name]
        elif not (cache.folder / BEGUN).exists():
            told = ", ".join(there) or "none"
            raise CacheError(f"Cache {cache.folder} has no data set {name!r}. It has: {told}")


def _require_ended(listing: Listing) -> Listing:
    """Refuse where rows may be in the shards that the table does not name yet."""
    if listing.report().extraction.get("missing"):
        raise CacheError(
            f"The extraction of {listing.name} in {listing.samples_path.parents[1]} has not ended: not all "
            "of its rows are listed yet. Run the same fastcls extract first, or remove the data set with "
            f"--drop {listing.name}"
        )
    return listing


class _Fates:
    """What becomes of each row.

    Args:
        cache: The cache.
        staying: Data sets whose rows are wanted.
        runs: Runs whose images are wanted.
        known: All data sets: their views are known, be they wanted or not.
    """

    def __init__(
        self, cache: Cache, staying: Sequence[Listing], runs: NamedRuns, known: Sequence[Listing]
    ) -> None:
        self._fingerprint = cache.manifest.fingerprint
        index = cache.index()
        named = _unique([*(listing.samples().digests for listing in staying), runs.digests()])
        self._views = sorted({spec for listing in known for spec in _views_of(listing)}, key=str)
        plain = _digest_set([named])
        dropped = [listing for listing in known if listing not in staying]
        removed = _unique([*self._removed(cache, plain), *_named_only_by(dropped, plain)])
        self._wanted = _digest_set([named, *self._keys_of(named, index)])
        self._garbage = _digest_set([_begun(cache), removed, *self._keys_of(removed, index)])

    def of(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """Of each row of a shard, (N,) bool: whether it is wanted, and whether nobody knows."""
        digests = shard.read_digests(path, self._fingerprint)
        wanted = self._wanted.locate(digests).present
        return wanted, ~wanted & ~self._garbage.locate(digests).present

    def _removed(self, cache: Cache, plain: Index) -> Iterator[np.ndarray]:
        """The images of which there is a row, but which nothing names.

        Only plain images were measured: what was not may be a view.
        """
        for path in Contents.of(cache.folder).shards:
            digests = shard.read_digests(path, self._fingerprint)
            is_image = ~np.isnan(shard.read_quality(path)).all(axis=1)
            yield digests[is_image & ~plain.locate(digests).present]

    def _keys_of(self, images: np.ndarray, index: Index) -> Iterator[np.ndarray]:
        """The keys of views of some images, by every recipe of a data set, as long as there are any rows."""
        for start in range(0, len(images), _BLOCK):
            texts = images[start : start + _BLOCK].astype("U32").tolist()
            for spec in self._views:
                for number in itertools.count(1):
                    keys = np.array([row_key(text, spec, number) for text in texts], DIGEST_DTYPE)
                    present = index.locate(keys).present
                    yield keys[present]
                    if number >= spec.views and not present.any():
                        break


def _named_only_by(dropped: Sequence[Listing], plain: Index) -> Iterator[np.ndarray]:
    """The images of data sets that go which nothing else names, measured or not."""
    for listing in dropped:
        with contextlib.suppress(CacheError):  # a damaged table can be dropped, too
            digests = listing.samples().digests
            yield digests[~plain.locate(digests).present]


def _views_of(listing: Listing) -> list[ViewSpec]:
    """The views of a data set, where they are known."""
    with contextlib.suppress(CacheError):
        views = listing.report().views
        return [views] if views.views > 1 else []
    return []


def _unique(parts: Sequence[np.ndarray] | Iterator[np.ndarray]) -> np.ndarray:
    found = np.unique(np.concatenate([np.empty(0, DIGEST_DTYPE), *parts]))
    return found[found != b""]


def _digest_set(parts: Sequence[np.ndarray]) -> Index:
    """Some digests to look others up in."""
    return Index.of(np.concatenate([np.empty(0, DIGEST_DTYPE), *parts]))

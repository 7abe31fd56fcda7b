"""Where bottlenecks are: the rows in the shards of a cache, and how to read them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastcls.cache import kept_index, remote_shards, shard
from fastcls.cache.kept_index import KeptIndex, ShardState
from fastcls.cache.samples import SampleRow, SampleTable
from fastcls.data.digests import DIGEST_DTYPE, as_numbers
from fastcls.data.pixel_quality import COLUMNS
from fastcls.data.views import row_key
from fastcls.errors import CacheError
from fastcls.parallel import ahead
from fastcls.specs import ViewSpec

_ABSENT = -1
_BLOCK = 1 << 18  # digests that are looked up at once
# Readers: while one waits for the disk, others compute checksums.
_THREADS = 4
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rows:
    """Where some bottlenecks are: places in shards, in the requested order.

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

    def blocks(self, count: int) -> Iterator[np.ndarray]:
        """Places of the rows that exist, `count` at a time, those of a shard together."""
        present = np.flatnonzero(self.present)
        order = present[np.argsort(self.shard[present], kind="stable")]
        for start in range(0, len(order), count):
            yield order[start : start + count]

    def read(self, into: np.ndarray | None = None) -> np.ndarray:
        """The bottlenecks themselves, (N, ...); each shard is opened once.

        Args:
            into: An array of N such rows or more to put them into: fresh memory costs as much as reading.

        Raises:
            CacheError: A row is damaged or absent.
        """
        if not self.present.all():
            raise CacheError("Some bottlenecks are not in the cache. Run the same `fastcls extract` again")
        if not len(self):
            raise CacheError("No bottlenecks were requested")
        output = (
            shard.empty_rows(self.shards[self.shard[0]], len(self)) if into is None else into[: len(self)]
        )

        def read_shard(places: np.ndarray) -> None:
            shard.read_into(output, places, self.shards[self.shard[places[0]]], self.row[places])

        for _ in ahead(read_shard, shard.group(self.shard), threads=_THREADS, depth=2 * _THREADS):
            pass
        return output

    def read_quality(self) -> np.ndarray:
        """What was measured of the images when they were decoded.

        Returns:
            (N, Q) float32, in the order of `pixel_quality.COLUMNS`; NaN where that is not known.

        Raises:
            CacheError: A shard is damaged.
        """
        output = np.full((len(self), len(COLUMNS)), np.nan, np.float32)
        for places in shard.group(self.shard):
            number = self.shard[places[0]]
            if number != _ABSENT:
                output[places] = shard.read_quality(self.shards[number])[self.row[places]]
        return output


@dataclass(frozen=True)
class Index:
    """Which bottlenecks the shards of a cache hold.

    Attributes:
        shards: The shard files.
        high: (N,) uint64, first half of each digest as a number, sorted.
        low: (N,) uint64, the other half.
        shard: (N,) int32, index into `shards`.
        row: (N,) int32, row in that shard.
    """

    shards: tuple[Path, ...]
    high: np.ndarray
    low: np.ndarray
    shard: np.ndarray
    row: np.ndarray

    @classmethod
    def read(cls, folder: Path, fingerprint: str, *, warn: bool = True, keep: bool = True) -> Index:
        """Index the shards of a folder; damaged ones count as absent.

        Args:
            folder: Of the shards.
            fingerprint: Of the cache.
            warn: Name damaged ones in warnings.
            keep: Keep the index of many rows in a file beside the folder: the next one is there at once.
        """
        states = kept_index.shard_states(folder)
        place = folder.parent / kept_index.FILE
        kept = kept_index.load(place, fingerprint)
        if kept and kept.shards == states:
            return cls(tuple(folder / state.name for state in states), **kept.columns)
        index, whole = cls._of_shards(folder, fingerprint, states, kept, warn=warn)
        if keep and len(index) >= kept_index.LEAST_ROWS and not (kept and kept.shards == whole):
            kept_index.save(place, fingerprint, whole, index.columns)
        return index

    @classmethod
    def _of_shards(
        cls,
        folder: Path,
        fingerprint: str,
        states: Sequence[ShardState],
        kept: KeptIndex | None,
        *,
        warn: bool,
    ) -> tuple[Index, tuple[ShardState, ...]]:
        """Read the digests of those shards that are not in an earlier index; and which shards are whole."""
        known = {} if kept is None else {state: number for number, state in enumerate(kept.shards)}
        same = [state for state in states if state in known]
        others = [state for state in states if state not in known]
        whole, found = [*same], []
        remote_shards.fetch_digests({folder / state.name: state.size for state in others})
        for state in others:
            digests = _read_digests(folder / state.name, fingerprint, warn=warn)
            if digests is not None:
                whole.append(state)
                found.append(as_numbers(digests))
        columns = _columns(found, len(same))
        if kept and same:
            numbers = np.full(len(kept.shards), _ABSENT, np.int32)
            numbers[[known[state] for state in same]] = np.arange(len(same))
            columns = _joined(kept.columns, numbers, columns)
        order = np.argsort([state.name for state in whole], kind="stable")  # shards are numbered by name
        rank = np.empty(len(whole), np.int32)
        rank[order] = np.arange(len(whole), dtype=np.int32)
        columns["shard"] = rank[columns["shard"]]
        ordered = tuple(whole[place] for place in order)
        return cls.sorted_of(tuple(folder / state.name for state in ordered), columns), ordered

    @classmethod
    def of(cls, digests: np.ndarray) -> Index:
        """Some digests (N,) S32 to look others up in, as if they were those of one shard."""
        return cls.sorted_of((Path(),), _columns([as_numbers(digests)], 0))

    @classmethod
    def sorted_of(cls, paths: tuple[Path, ...], columns: dict[str, np.ndarray]) -> Index:
        """The rows of some shards, in the order of their digests; the columns are emptied on the way."""
        order = np.argsort(columns["high"], kind="stable")
        return cls(paths, **{name: columns.pop(name)[order] for name in [*columns]})

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """The arrays by their names."""
        return {"high": self.high, "low": self.low, "shard": self.shard, "row": self.row}

    def __len__(self) -> int:
        return len(self.high)

    @property
    def digests(self) -> np.ndarray:
        """(N,) S32, the digests in this order."""
        numbers = np.stack([self.high, self.low], axis=1).astype(">u8")
        return np.frombuffer(numbers.tobytes().hex().encode(), DIGEST_DTYPE)

    def locate(self, digests: Sequence[str] | np.ndarray) -> Rows:
        """Where the bottlenecks of some images are; absent ones are marked.

        Args:
            digests: Of the images, as text or as an array of it.
        """
        wanted = np.asarray(digests, DIGEST_DTYPE)
        shard, row = np.full((2, len(wanted)), _ABSENT, np.int32)
        for start in range(0, len(wanted) if len(self) else 0, _BLOCK):
            part = slice(start, start + _BLOCK)
            numbers = as_numbers(wanted[part])
            order = np.argsort(numbers[:, 0])  # neighbors follow each other: they are in the CPU's cache
            places, found = self._find(numbers[order])
            found &= wanted[part][order] != b""
            own, places = order[found], places[found]
            shard[part][own], row[part][own] = self.shard[places], self.row[places]
        return Rows(self.shards, shard, row)

    def _find(self, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places of digests (M, 2) uint64, and which of them are there."""
        high, low = wanted.T
        places = np.searchsorted(self.high, high)
        while True:
            places = np.minimum(places, len(self) - 1)
            found = (self.high[places] == high) & (self.low[places] == low)
            following = np.minimum(places + 1, len(self) - 1)
            others = ~found & (self.high[following] == high) & (following > places)
            if not others.any():
                return places, found
            places = places + others  # some that share their first half


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
    table = SampleTable.of(samples)
    counts = {split: views.of_split(split) for split in {*table.splits}}
    wanted = np.fromiter((counts[split] for split in table.splits), np.int64, len(table))
    shape = len(table), int(wanted.max(initial=0))
    rows = Rows(index.shards, np.full(shape, _ABSENT, np.int32), np.full(shape, _ABSENT, np.int32))
    for number in range(shape[1]):
        having = wanted > number
        digests = table.digests if having.all() else table.digests[having]
        keys = [row_key(digest.decode(), views, number) for digest in digests.tolist()] if number else digests
        found = index.locate(keys)
        rows.shard[having, number], rows.row[having, number] = found.shard, found.row
    return ViewRows(rows, wanted - rows.present.sum(axis=1))


def _read_digests(path: Path, fingerprint: str, *, warn: bool) -> np.ndarray | None:
    """The digests of a shard; None of a damaged one."""
    try:
        return shard.read_digests(path, fingerprint)
    except CacheError as error:
        if warn:
            logger.warning("%s", error)
    return None


def _columns(found: list[np.ndarray], start: int) -> dict[str, np.ndarray]:
    """The columns of an index, not sorted.

    Args:
        found: The digests of each shard, (N, 2) uint64; the list is emptied, which bounds the memory.
        start: The number of the first shard.
    """
    counts = [len(numbers) for numbers in found]
    numbers = np.concatenate([np.empty((0, 2), np.uint64), *found])
    found.clear()
    high, low = (np.ascontiguousarray(half) for half in numbers.T)
    shards = np.repeat(np.arange(start, start + len(counts), dtype=np.int32), counts)
    rows = np.concatenate([np.arange(count, dtype=np.int32) for count in (0, *counts)])
    return {"high": high, "low": low, "shard": shards, "row": rows}


def _joined(
    kept: dict[str, np.ndarray], numbers: np.ndarray, new: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The rows of an earlier index whose shards are still there, and new ones.

    Args:
        kept: Its columns.
        numbers: (S,) int32, what its shards are called now; -1 of one that is gone.
        new: The columns of the others.
    """
    renamed = {**kept, "shard": numbers[kept["shard"]]}
    stays = renamed["shard"] != _ABSENT
    if not stays.all():
        renamed = {name: column[stays] for name, column in renamed.items()}
    return {name: np.concatenate([column, new.pop(name)]) for name, column in renamed.items()}

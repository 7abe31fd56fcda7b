"""Where bottlenecks are: the rows in the shards of a cache, and how to read them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastcls.cache import remote_shards, shard
from fastcls.cache.samples import SampleRow, SampleTable
from fastcls.data.digests import DIGEST_DTYPE, as_numbers
from fastcls.data.pixel_quality import COLUMNS
from fastcls.data.views import row_key
from fastcls.errors import CacheError
from fastcls.parallel import ahead
from fastcls.specs import ViewSpec

_ABSENT = -1
_BLOCK = 1 << 16  # digests that are looked up at once
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
    def read(cls, folder: Path, fingerprint: str) -> Index:
        """Index the shards of a folder; damaged ones count as absent and are named in a warning."""
        paths, found = [], [np.empty((0, 2), np.uint64)]
        for path, digests in _whole_shards(folder, fingerprint):
            paths.append(path)
            found.append(as_numbers(digests))
        counts = [len(numbers) for numbers in found[1:]]
        numbers = np.concatenate(found)
        found.clear()  # memory is bounded by what is sorted below
        shards = np.repeat(np.arange(len(paths), dtype=np.int32), counts)
        rows = np.concatenate([np.arange(count, dtype=np.int32) for count in (0, *counts)])
        order = np.argsort(numbers[:, 0], kind="stable")
        high, low = (numbers[order, half] for half in (0, 1))
        return cls(tuple(paths), high, low, shards[order], rows[order])

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
            places, found = self._find(as_numbers(wanted[part]))
            found = np.flatnonzero(found & (wanted[part] != b""))
            shard[part][found], row[part][found] = self.shard[places[found]], self.row[places[found]]
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


def _whole_shards(folder: Path, fingerprint: str) -> Iterator[tuple[Path, np.ndarray]]:
    for path in remote_shards.list_shards(folder):
        try:
            yield path, shard.read_digests(path, fingerprint)
        except CacheError as error:
            logger.warning("%s", error)

"""Where bottlenecks are: the rows in the shards of a cache, and how to read them."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastcls.cache import shard
from fastcls.cache.samples import SampleRow
from fastcls.data.views import row_key
from fastcls.errors import CacheError
from fastcls.parallel import ahead
from fastcls.specs import ViewSpec

_ABSENT = -1
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


def _whole_shards(folder: Path, fingerprint: str) -> Iterator[tuple[Path, np.ndarray]]:
    for path in sorted(folder.glob("[!.]*.h5")):
        try:
            yield path, shard.read_digests(path, fingerprint)
        except CacheError as error:
            logger.warning("%s", error)

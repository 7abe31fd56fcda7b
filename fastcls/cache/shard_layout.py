"""Where the rows of a shard are in its file, and whether they are what was written."""

from __future__ import annotations

import functools
import io
import itertools
import math
from dataclasses import dataclass
from zlib import crc32

import h5py
import numpy as np

from fastcls.cache.checksums import checksums, of_run, running

_RUN_ROWS = 4  # in a row on average: fewer are read with those between them


@dataclass(frozen=True)
class Layout:
    """Where the rows of a shard are in its file.

    Rows that are not compressed are read without HDF5. docs/benchmarks.md says what that gains: a shard need
    not be opened by HDF5 each time, and threads do not wait for the one lock of h5py.

    Attributes:
        dtype: Of the rows.
        shape: Of one row.
        chunk_rows: Rows that are stored together.
        offsets: (K,) where in the file each chunk begins; empty when the rows are compressed.
        checksums: (N,) uint32.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    chunk_rows: int
    offsets: np.ndarray
    checksums: np.ndarray

    @classmethod
    def of(cls, file: h5py.File) -> Layout:
        rows = file["bottlenecks"]
        starts = () if rows.compression else range(0, len(rows), rows.chunks[0])
        within = (0,) * (rows.ndim - 1)
        offsets = [rows.id.get_chunk_info_by_coord((start, *within)).byte_offset for start in starts]
        places = np.array(offsets, np.int64)
        return cls(rows.dtype, rows.shape[1:], rows.chunks[0], places, file["checksums"][:])

    def empty(self, count: int) -> np.ndarray:
        return np.empty((count, *self.shape), self.dtype)

    def read(self, file: io.FileIO, first: int, stop: int, into: np.ndarray | None = None) -> np.ndarray:
        """Rows that follow each other in the file."""
        rows = self.empty(stop - first) if into is None else into
        chunk, start = divmod(first, self.chunk_rows)
        file.seek(int(self.offsets[chunk]) + start * (rows.nbytes // len(rows)))
        if file.readinto(rows.data.cast("B")) < rows.nbytes:
            raise ValueError("it is truncated")
        return rows

    def check(self, rows: np.ndarray, indices: np.ndarray) -> None:
        """Raise ValueError where rows do not match their checksums."""
        wrong = checksums(rows) != self.checksums[indices]
        if wrong.any():
            raise ValueError(f"row {indices[wrong.argmax()]} does not match its checksum")

    def check_run(self, rows: np.ndarray, first: int) -> None:
        """Do the same for rows that follow each other in the file, in less time."""
        stop = first + len(rows)
        if crc32(rows.data.cast("B")) != of_run(self._running, first, stop, self._row_bytes):
            self.check(rows, np.arange(first, stop))

    @property
    def _row_bytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape)

    @functools.cached_property
    def _running(self) -> np.ndarray:
        return running(self.checksums, self._row_bytes)

    def runs(self, places: np.ndarray, indices: np.ndarray) -> list[slice]:
        """Parts that follow each other in the file and in memory; none where reading chunks is better."""
        if not len(self.offsets):
            return []
        chunks, within = np.divmod(indices, self.chunk_rows)
        size = self._row_bytes
        at = self.offsets[chunks] + within * size
        ends = np.flatnonzero((np.diff(at) != size) | (np.diff(places) != 1)) + 1
        if len(ends) and len(indices) < _RUN_ROWS * len(ends):
            return []
        return [slice(*pair) for pair in itertools.pairwise([0, *ends.tolist(), len(indices)])]

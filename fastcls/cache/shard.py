"""One HDF5 shard: an immutable file of bottlenecks that appears whole or not at all.

Layout: `bottlenecks` (N, ...) float, `digests` (N,) the images' identities as 32 hexadecimal characters,
`checksums` (N,) CRC-32 of each row's bytes; attributes say what the file is and guard the digests.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from fastcls import files
from fastcls.errors import CacheError

FORMAT = "fastcls-shard"
VERSION = 1
DIGEST_DTYPE = np.dtype("S32")
# Since HDF5 1.10 its own structures carry checksums: a flipped bit there is an error, not another value.
_HDF5_VERSION = ("v110", "v110")
_CHUNK_BYTES = 1 << 18
_NOT_DEFLATED = 0b10  # in the mask of a chunk: the second filter, after the shuffle, was left out
_CHUNK_ROWS = 64  # a chunk takes its whole place, however few rows it holds
# What h5py raises for damaged files.
_DAMAGE = (OSError, KeyError, RuntimeError, ValueError, TypeError, IndexError, MemoryError, zlib.error)


class ShardWriter:
    """Collects the rows of one shard; `finish` gives them a place in the folder.

    Rows go to the disk as they come: memory does not grow with the shard. Used as a context manager,
    an unfinished file is removed.

    Args:
        folder: Where the shard will appear.
        shape: Shape of one bottleneck.
        dtype: "float32" or "float16".
        attributes: What the file says of itself besides format and version.
        compress: Let HDF5 shuffle and deflate the rows: smaller files, slower to write and read.
    """

    def __init__(
        self,
        folder: Path,
        shape: tuple[int, ...],
        dtype: str,
        attributes: dict[str, str],
        *,
        compress: bool = False,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._digests: list[str] = []
        self._checksums: list[int] = []
        with contextlib.ExitStack() as stack:
            self._temporary = stack.enter_context(files.temporary_folder(folder)) / "shard.h5"
            self._disk = stack.enter_context(_Disk(self._temporary, "w+b"))
            self._file = stack.enter_context(h5py.File(self._disk, "w", libver=_HDF5_VERSION))
            self._rows = self._begin(shape, dtype, attributes, compress=compress)
            self._resources = stack.pop_all()

    def _begin(
        self, shape: tuple[int, ...], dtype: str, attributes: dict[str, str], *, compress: bool
    ) -> h5py.Dataset:
        self._file.attrs.update({"version": VERSION, "format": np.bytes_(FORMAT)})
        self._file.attrs.update({name: np.bytes_(text.encode()) for name, text in attributes.items()})
        row_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        chunk = (max(1, min(_CHUNK_ROWS, _CHUNK_BYTES // row_bytes)), *shape)
        packing: dict[str, Any] = (
            {"compression": "gzip", "compression_opts": 1, "shuffle": True} if compress else {}
        )
        return self._file.create_dataset(
            "bottlenecks", (0, *shape), dtype, maxshape=(None, *shape), chunks=chunk, **packing
        )

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    def __len__(self) -> int:
        return len(self._digests)

    def append(self, digests: Sequence[str], rows: np.ndarray) -> None:
        """Add rows (N, ...) of the images with these digests.

        Raises:
            OSError: The disk is full, or fails.
        """
        if not len(rows):
            return
        start = len(self._digests)
        self._rows.resize(start + len(rows), axis=0)
        self._rows[start:] = rows
        self._disk.check()
        self._checksums += checksums(rows.astype(self._rows.dtype, copy=False)).tolist()
        self._digests += digests

    def finish(self) -> Path | None:
        """Complete the file and move it to its place, named by its content; None if it has no rows.

        Raises:
            OSError: The disk is full, or fails.
        """
        if not self._digests:
            return None
        digests = np.array(self._digests, DIGEST_DTYPE)
        self._file["digests"] = digests
        self._file["checksums"] = np.array(self._checksums, np.uint32)
        self._file.attrs["digests_checksum"] = zlib.crc32(digests.tobytes())
        self._file.close()
        self._disk.check()
        # Two runs that compute the same rows at once write the same file: the second replaces the first.
        place = self._folder / f"{files.digest(digests.tobytes())[:16]}.h5"
        files.put(self._temporary, place)
        return place


class _Disk(io.FileIO):
    """The file below HDF5, which is not told of a full disk.

    HDF5 that cannot write while it closes a file ends the process with a segmentation fault later. So it
    goes on as if all was well, and `check` raises the error, or a Ctrl-C that came meanwhile.
    """

    _error: BaseException | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data)
        try:
            while rest and not self._error:
                rest = rest[super().write(rest) :]
        except BaseException as error:
            self._error = error
        return len(data)

    def check(self) -> None:
        """Raise the first error there was."""
        if self._error:
            raise self._error


def checksums(rows: np.ndarray) -> np.ndarray:
    """CRC-32 of each row's bytes: (N, ...) -> (N,) uint32."""
    flat = np.ascontiguousarray(rows).reshape(len(rows), -1).view(np.uint8)
    return np.array([zlib.crc32(row.data) for row in flat], np.uint32)


def read_digests(path: Path, fingerprint: str) -> np.ndarray:
    """The digests of a shard.

    Args:
        path: The shard.
        fingerprint: What the shard must have been made with.

    Returns:
        (N,) array of 32 bytes each.

    Raises:
        CacheError: The file is damaged, of another version, or of another cache.
        PermissionError: It may not be read.
    """
    with _damage_named(path), h5py.File(path, "r") as file:
        attributes = dict(file.attrs)
        digests = file["digests"][:]
        counts = {len(digests), len(file["bottlenecks"]), len(file["checksums"])}
    if attributes.get("format") != FORMAT.encode() or attributes.get("version") != VERSION:
        raise CacheError(f"{path} is not a fastcls shard of version {VERSION}")
    if attributes.get("fingerprint") != fingerprint.encode():
        raise CacheError(f"Shard {path} belongs to another cache")
    if zlib.crc32(digests.tobytes()) != attributes.get("digests_checksum") or len(counts) > 1:
        raise _damaged(path, "its digests do not have their checksum")
    return digests


def read_rows(path: Path, indices: np.ndarray) -> np.ndarray:
    """Some bottlenecks of a shard, checked against their checksums.

    Args:
        path: The shard.
        indices: (M,) rows to read, in any order.

    Returns:
        (M, ...) array in the order of `indices`.

    Raises:
        CacheError: A row is damaged.
        PermissionError: The shard may not be read.
    """
    output = empty_rows(path, len(indices))
    read_into(output, np.arange(len(indices)), path, indices)
    return output


def empty_rows(path: Path, count: int) -> np.ndarray:
    """An array for `count` bottlenecks like those of a shard.

    Raises:
        CacheError: The shard is damaged.
        PermissionError: It may not be read.
    """
    with _damage_named(path), path.open("rb") as file:
        return _layout(path, *_state(file)).empty(count)


def read_into(output: np.ndarray, places: np.ndarray, path: Path, indices: np.ndarray) -> None:
    """`output[places] = read_rows(path, indices)`, without the array between.

    Raises:
        CacheError: A row is damaged.
        PermissionError: The shard may not be read.
    """
    with _damage_named(path), path.open("rb", buffering=0) as file:
        layout = _layout(path, *_state(file))
        for part in group(indices // layout.chunk_rows):
            _read_chunk(output, places[part], file, layout, indices[part])


def _read_chunk(
    output: np.ndarray, places: np.ndarray, file: io.FileIO, layout: _Layout, indices: np.ndarray
) -> None:
    """Read rows of one chunk; all between the first and the last of them are read at once."""
    first, stop = int(indices.min()), int(indices.max()) + 1
    in_order = _are_neighbors(indices) and _are_neighbors(places)
    span = output[places[0] :][: stop - first] if in_order else layout.empty(stop - first)
    chunk, start = divmod(first, layout.chunk_rows)
    if layout.packed_bytes:
        file.seek(layout.offsets[chunk])
        span[:] = layout.unpack(chunk, file.read(layout.packed_bytes[chunk]))[start:][: len(span)]
    else:
        file.seek(layout.offsets[chunk] + start * (span.nbytes // len(span)))
        if file.readinto(span.data.cast("B")) < span.nbytes:
            raise ValueError("it ends too early")
    # One long checksum: for each row's own, threads would spend their time handing Python's lock around.
    if zlib.crc32(span.data, int(layout.running[first])) != layout.running[stop]:
        _require_checksums(span[indices - first], indices, layout)
    if not in_order:
        output[places] = span[indices - first]


def _are_neighbors(numbers: np.ndarray) -> bool:
    return bool((np.diff(numbers) == 1).all())


def _require_checksums(rows: np.ndarray, indices: np.ndarray, layout: _Layout) -> None:
    wrong = checksums(rows) != layout.checksums[indices]
    if wrong.any():
        raise ValueError(f"row {indices[wrong.argmax()]} does not have its checksum")


def group(keys: np.ndarray) -> list[np.ndarray]:
    """The places of each key: (N,) -> arrays of indices, by rising key."""
    order = np.argsort(keys, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(keys[order])) + 1)


@dataclass(frozen=True)
class _Layout:
    """Where the rows of a shard are in its file.

    To read them without HDF5 is several times faster, and threads need not wait for the one lock of h5py.

    Attributes:
        dtype: Of the rows.
        shape: Of one row.
        chunk_rows: Rows that are stored together.
        offsets: Where in the file each chunk begins.
        packed_bytes: How many bytes each chunk takes there; empty when rows are not compressed.
        plain: Chunks that HDF5 has not deflated, as that would have made them larger.
        checksums: (N,) uint32.
        running: (N + 1,) uint32, CRC-32 of all rows before the first, the second, ... and of all.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    chunk_rows: int
    offsets: tuple[int, ...]
    packed_bytes: tuple[int, ...]
    plain: frozenset[int]
    checksums: np.ndarray
    running: np.ndarray

    @classmethod
    def of(cls, file: h5py.File) -> _Layout:
        rows, expected = file["bottlenecks"], file["checksums"][:]
        starts = range(0, len(rows), rows.chunks[0])
        within = (0,) * (rows.ndim - 1)
        stored = [rows.id.get_chunk_info_by_coord((start, *within)) for start in starts]
        offsets = tuple(int(chunk.byte_offset) for chunk in stored)
        packed = tuple(int(chunk.size) for chunk in stored) if rows.compression else ()
        plain = frozenset(place for place, chunk in enumerate(stored) if chunk.filter_mask & _NOT_DEFLATED)
        running = _running(expected, rows.dtype.itemsize * int(np.prod(rows.shape[1:])))
        return cls(rows.dtype, rows.shape[1:], rows.chunks[0], offsets, packed, plain, expected, running)

    def empty(self, count: int) -> np.ndarray:
        return np.empty((count, *self.shape), self.dtype)

    def unpack(self, chunk: int, packed: bytes) -> np.ndarray:
        """The rows of a chunk that HDF5 has shuffled (all first bytes, then all second ...) and deflated."""
        shuffled = packed if chunk in self.plain else zlib.decompress(packed)
        planes = np.frombuffer(shuffled, np.uint8).reshape(self.dtype.itemsize, -1)
        return np.ascontiguousarray(planes.T).view(self.dtype).reshape(-1, *self.shape)


def _running(each: np.ndarray, row_bytes: int) -> np.ndarray:
    """CRC-32 of the first 0, 1, ... N rows together: (N,) of each row -> (N + 1,) uint32.

    With crc the checksum of what goes before, `crc32(row, crc) == crc32(zeros, crc) ^ crc32(zeros) ^
    crc32(row)`, zeros being as long as the row: the first two together are linear in the bits of crc.
    """
    lowest, low, high, highest = _after_row(row_bytes)
    crc, running = 0, [0]
    for checksum in each.tolist():
        crc = lowest[crc & 255] ^ low[crc >> 8 & 255] ^ high[crc >> 16 & 255] ^ highest[crc >> 24] ^ checksum
        running.append(crc)
    return np.array(running, np.uint32)


@functools.cache
def _after_row(row_bytes: int) -> list[list[int]]:
    """For each byte of a CRC-32, lowest first, what each of its 256 values becomes after a row of zeros."""
    zeros = bytes(row_bytes)
    bits = [zlib.crc32(zeros, 1 << bit) ^ zlib.crc32(zeros) for bit in range(32)]
    tables = []
    for byte in range(4):
        table = [0]
        for bit in bits[8 * byte : 8 * byte + 8]:
            table += [value ^ bit for value in table]
        tables.append(table)
    return tables


# Shards do not change. What is kept of each is a fraction of what the index of its rows takes.
@functools.lru_cache(maxsize=1 << 16)
def _layout(path: Path, size: int, changed_ns: int) -> _Layout:
    with h5py.File(path, "r") as file:
        return _Layout.of(file)


def _state(file: io.IOBase) -> tuple[int, int]:
    """What differs when a file has been replaced: size and time of the last change in nanoseconds."""
    state = os.fstat(file.fileno())
    return state.st_size, state.st_mtime_ns


@contextlib.contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError:
        raise
    except _DAMAGE as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, reason: str) -> CacheError:
    return CacheError(
        f"Shard {path} is damaged: {reason}. Delete this one file and run `fastcls extract` again: "
        "only its images are forwarded again"
    )

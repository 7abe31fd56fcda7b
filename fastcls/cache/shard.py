"""One HDF5 shard: an immutable file of bottlenecks that appears whole or not at all.

Layout: `bottlenecks` (N, ...) float, `digests` (N,) the images' identities as 32 hexadecimal characters,
`checksums` (N,) CRC-32 of each row's bytes; attributes say what the file is and guard the digests.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
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
_CHUNK_ROWS = 64  # a chunk takes its whole place, however few rows it holds
# What h5py raises for damaged files.
_DAMAGE = (OSError, KeyError, RuntimeError, ValueError, TypeError, IndexError, MemoryError)


class ShardWriter:
    """Collects the rows of one shard; `finish` gives them a place in the folder.

    Rows go to the disk as they come: memory does not grow with the shard. Used as a context manager,
    an unfinished file is removed.

    Args:
        folder: Where the shard will appear.
        shape: Shape of one bottleneck.
        dtype: "float32" or "float16".
        attributes: What the file says of itself besides format and version.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...], dtype: str, attributes: dict[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._digests: list[str] = []
        self._checksums: list[int] = []
        self._temporary = files.temporary_sibling(folder / "shard.h5")
        self._disk = _Disk(self._temporary, "w+b")
        self._file = h5py.File(self._disk, "w", libver=_HDF5_VERSION)
        self._file.attrs.update({"version": VERSION, "format": np.bytes_(FORMAT)})
        self._file.attrs.update({name: np.bytes_(text.encode()) for name, text in attributes.items()})
        row_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        chunk = (max(1, min(_CHUNK_ROWS, _CHUNK_BYTES // row_bytes)), *shape)
        self._rows = self._file.create_dataset(
            "bottlenecks", (0, *shape), dtype, maxshape=(None, *shape), chunks=chunk
        )

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._disk.close()
        self._temporary.unlink(missing_ok=True)

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
        files.sync(self._temporary)
        # Two runs that compute the same rows at once write the same file: the second replaces the first.
        place = self._folder / f"{files.digest(digests.tobytes())[:16]}.h5"
        self._temporary.replace(place)
        files.sync(self._folder)
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
    try:
        with h5py.File(path, "r") as file:
            attributes = dict(file.attrs)
            digests = file["digests"][:]
            counts = {len(digests), len(file["bottlenecks"]), len(file["checksums"])}
    except PermissionError:
        raise
    except _DAMAGE as error:
        raise _damaged(path, str(error)) from error
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
    order, inverse = np.unique(indices, return_inverse=True)
    start, stop = int(order[0]), int(order[-1]) + 1
    try:
        with h5py.File(path, "r") as file:
            rows = file["bottlenecks"][start:stop][order - start]
            expected = file["checksums"][start:stop][order - start]
    except PermissionError:
        raise
    except _DAMAGE as error:
        raise _damaged(path, str(error)) from error
    wrong = checksums(rows) != expected
    if wrong.any():
        raise _damaged(path, f"row {order[wrong.argmax()]} does not have its checksum")
    return rows[inverse]


def _damaged(path: Path, reason: str) -> CacheError:
    return CacheError(
        f"Shard {path} is damaged: {reason}. Delete this one file and run `fastcls extract` again: "
        "only its images are forwarded again"
    )

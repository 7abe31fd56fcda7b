"""One HDF5 shard: an immutable file of bottlenecks that appears whole or not at all.

Layout: `bottlenecks` (N, ...) float, `digests` (N,) the images' identities as 32 hexadecimal characters,
`checksums` (N,) CRC-32 of each row's bytes; attributes say what the file is and guard the digests.
"""

from __future__ import annotations

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
_CHUNK_BYTES = 1 << 18


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

    def __init__(self, folder: Path, shape: tuple[int, ...], dtype: str, attributes: dict[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._digests: list[str] = []
        self._temporary = files.temporary_sibling(folder / "shard.h5")
        self._file = h5py.File(self._temporary, "w")
        self._file.attrs.update({"format": FORMAT, "version": VERSION, **attributes})
        row_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        chunk = (max(1, _CHUNK_BYTES // row_bytes), *shape)
        self._rows = self._file.create_dataset(
            "bottlenecks", (0, *shape), dtype, maxshape=(None, *shape), chunks=chunk
        )
        self._checksums: list[int] = []

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
        except (OSError, RuntimeError):
            if error is None:
                raise
        finally:
            self._temporary.unlink(missing_ok=True)

    def append(self, digests: Sequence[str], rows: np.ndarray) -> None:
        """Add rows (N, ...) of the images with these digests."""
        if not len(rows):
            return
        start = len(self._digests)
        self._rows.resize(start + len(rows), axis=0)
        self._rows[start:] = rows
        self._checksums += checksums(rows.astype(self._rows.dtype, copy=False)).tolist()
        self._digests += digests

    def finish(self) -> Path | None:
        """Complete the file and move it to its place, named by its content; None if it has no rows."""
        if not self._digests:
            return None
        digests = np.array(self._digests, DIGEST_DTYPE)
        self._file["digests"] = digests
        self._file["checksums"] = np.array(self._checksums, np.uint32)
        self._file.attrs["digests_checksum"] = zlib.crc32(digests.tobytes())
        self._file.close()
        files.sync(self._temporary)
        # Two runs that compute the same rows at once write the same file: the second replaces the first.
        place = self._folder / f"{files.digest(digests.tobytes())[:16]}.h5"
        self._temporary.replace(place)
        files.sync(self._folder)
        return place


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
    """
    try:
        with h5py.File(path, "r") as file:
            attributes = dict(file.attrs)
            digests = file["digests"][:]
            count = len(file["bottlenecks"])
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise CacheError(f"Shard {path} is damaged: {error}") from error
    if attributes.get("format") != FORMAT or attributes.get("version") != VERSION:
        raise CacheError(f"Shard {path} is not a fastcls shard of version {VERSION}")
    if attributes.get("fingerprint") != fingerprint:
        raise CacheError(f"Shard {path} belongs to another cache")
    if zlib.crc32(digests.tobytes()) != attributes.get("digests_checksum") or len(digests) != count:
        raise CacheError(f"Shard {path} is damaged: its digests do not have their checksum")
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
    """
    order, inverse = np.unique(indices, return_inverse=True)
    start, stop = int(order[0]), int(order[-1]) + 1
    try:
        with h5py.File(path, "r") as file:
            rows = file["bottlenecks"][start:stop][order - start]
            expected = file["checksums"][start:stop][order - start]
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    if (checksums(rows) != expected).any():
        row = int(order[np.flatnonzero(checksums(rows) != expected)[0]])
        raise _damaged(path, f"row {row} does not have its checksum")
    return rows[inverse]


def _damaged(path: Path, reason: str) -> CacheError:
    return CacheError(
        f"Shard {path} is damaged: {reason}. Delete this one file and run `fastcls extract` again: "
        "only its images are forwarded again"
    )

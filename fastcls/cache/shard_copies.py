"""Whole shards: which of their rows are sound, and new shards made of some of their rows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from fastcls import files
from fastcls.cache import shard
from fastcls.cache.shard import ShardWriter
from fastcls.errors import CacheError

_OWN = ("format", "version", "digests_checksum")  # attributes that the writer sets itself
_BLOCK_BYTES = 1 << 24


def sound_rows(path: Path) -> np.ndarray:
    """Which rows of a shard match their checksums: (N,) bool. All of them are read.

    Raises:
        CacheError: The structure of the file is damaged: no row can be read.
        OSError: It may not be read, or not now.
    """
    with shard.damage_named(path), shard.opened(path) as (layout, read):
        sound = np.zeros(len(layout.checksums), bool)
        for first in range(0, len(sound), layout.chunk_rows):
            stop = min(first + layout.chunk_rows, len(sound))
            with contextlib.suppress(*shard.DAMAGE):  # these rows alone cannot be read
                sound[first:stop] = shard.checksums(read(first, stop)) == layout.checksums[first:stop]
        return sound


def row_form(path: Path) -> tuple[tuple[int, ...], str]:
    """Shape and type of the rows of a shard.

    Raises:
        CacheError: It is damaged.
    """
    row = shard.empty_rows(path, 1)
    return row.shape[1:], str(row.dtype)


def count_rows(path: Path) -> int:
    """How many rows a shard has, without reading any.

    Raises:
        CacheError: It is damaged.
    """
    with shard.damage_named(path), h5py.File(path, "r") as file:
        return len(file["digests"])


def content_name(digests: np.ndarray) -> str:
    """The file name of a shard with these rows: (N,) S32."""
    return f"{files.digest(digests.tobytes())[:16]}.h5"


def copy_rows(path: Path, fingerprint: str, places: np.ndarray, folder: Path) -> Path:
    """Write a new shard of some rows of another one, in blocks; each row is checked on the way.

    Args:
        path: The shard.
        fingerprint: Of its cache.
        places: (M,) which rows, rising; at least one.
        folder: Where the new one appears, whole.

    Returns:
        The new shard. Of all rows, it has the name of the old one.

    Raises:
        CacheError: One of the rows is damaged.
        OSError: The disk is full, or fails.
    """
    digests, quality = shard.read_digests(path, fingerprint).astype("U32"), _quality(path)
    shape, dtype = row_form(path)
    with shard.damage_named(path), h5py.File(path, "r") as file:
        compress = file["bottlenecks"].compression is not None
        own = {name: bytes(text).decode() for name, text in file.attrs.items() if name not in _OWN}
    with ShardWriter(folder, shape, dtype, own, compress=compress) as writer:
        for part in _blocks(places, shape, dtype):
            rows = np.empty((len(part), *shape), dtype)
            shard.read_into(rows, np.arange(len(part)), path, part)
            writer.append(digests[part].tolist(), rows, [*quality[part]])
        made = writer.finish()
    assert made
    return made


def _quality(path: Path) -> np.ndarray:
    """What was measured of the images; unknown where that is damaged, as it is no part of a bottleneck."""
    try:
        return shard.read_quality(path)
    except CacheError:
        return np.full((count_rows(path), len(shard.COLUMNS)), np.nan, np.float32)


def _blocks(places: np.ndarray, shape: tuple[int, ...], dtype: str) -> Iterator[np.ndarray]:
    count = max(1, _BLOCK_BYTES // max(1, int(np.prod(shape)) * np.dtype(dtype).itemsize))
    for start in range(0, len(places), count):
        yield places[start : start + count]

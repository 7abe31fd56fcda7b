"""One HDF5 shard: an immutable file of bottlenecks, written completely or not at all.

Layout: `bottlenecks` (N, ...) float, `digests` (N,) the images' identities as 32 hexadecimal characters,
`checksums` (N,) CRC-32 of each row's bytes; attributes say what the file is and guard the digests. `quality`
(N, Q) float32 is what was measured of each image, with its `columns` and `checksum`; NaN in rows of augmented
views. Shards of earlier versions have none.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import h5py
import numpy as np

from fastcls import files
from fastcls.cache import remote_shards
from fastcls.cache.checksums import checksums
from fastcls.cache.hdf5_disk import Disk
from fastcls.cache.shard_layout import Layout
from fastcls.data.digests import DIGEST_DTYPE
from fastcls.data.pixel_quality import COLUMNS
from fastcls.errors import CacheError

FORMAT = "fastcls-shard"
MADE_BY = "made_by"  # the attribute that says what computed the rows; old shards have none
VERSION = 1
# Since HDF5 1.10 its own structures carry checksums: a flipped bit there is an error, not another value.
_HDF5_VERSION = ("v110", "v110")
_CHUNK_BYTES = 1 << 18
_CHUNK_ROWS = 64  # a chunk takes its whole place, however few rows it holds
_CHECKED = ("format", "version", "fingerprint", "digests_checksum")
_UNKNOWN = np.full(len(COLUMNS), np.nan, np.float32)
# What h5py raises for damaged files.
DAMAGE = (OSError, KeyError, RuntimeError, ValueError, TypeError, IndexError, MemoryError)
# What keeps a file from being read though nothing is wrong with it.
_NO_DAMAGE = {
    errno.EACCES,
    errno.EPERM,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ESTALE,
    errno.ETIMEDOUT,
}


class ForeignShardError(CacheError):
    """A shard is whole, but of another version or of another cache."""


# Moves a complete file to a folder, given its digests; returns where the rows are then.
GivePlace: TypeAlias = Callable[[Path, Path, np.ndarray], Path]


class ShardWriter:
    """Collects the rows of one shard; `finish` gives them a place in the folder.

    Rows go to the disk chunk by chunk: memory does not grow with the shard. Used as a context manager,
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
        self._quality: list[np.ndarray] = []
        self._waiting: list[np.ndarray] = []  # rows that do not fill a chunk yet
        with contextlib.ExitStack() as stack:
            self._temporary = stack.enter_context(files.temporary_folder(folder)) / "shard.h5"
            self._disk = stack.enter_context(Disk(self._temporary, "w+b"))
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

    def append(
        self, digests: Sequence[str], rows: np.ndarray, quality: Sequence[np.ndarray | None] | None = None
    ) -> None:
        """Add rows (N, ...) of the images with these digests.

        Args:
            digests: Their identities.
            rows: Their bottlenecks.
            quality: What was measured of each, by `pixel_quality.measure`; None where nothing was.

        Raises:
            OSError: The disk is full, or fails.
        """
        if not len(rows):
            return
        rows = rows.astype(self._rows.dtype)  # a copy: whoever made them may use their place again
        self._waiting.append(rows)
        self._checksums += checksums(rows).tolist()
        self._digests += digests
        self._quality += [_UNKNOWN if each is None else each for each in quality or [None] * len(rows)]
        if len(self) - len(self._rows) >= self._rows.chunks[0]:
            self._write()

    def _write(self) -> None:
        """Hand on the rows that wait; each call of HDF5 costs as much as writing some rows."""
        start = len(self._rows)
        self._rows.resize(len(self), axis=0)
        self._rows[start:] = np.concatenate(self._waiting)
        self._waiting = []
        self._disk.check()

    def finish(self, give_place: GivePlace | None = None) -> Path | None:
        """Complete the file and move it to its place; None if it has no rows.

        Args:
            give_place: Moves it there; by default it is named by its content.

        Raises:
            OSError: The disk is full, or fails.
        """
        if not self._digests:
            return None
        if self._waiting:
            self._write()
        digests = np.array(self._digests, DIGEST_DTYPE)
        self._file["digests"] = digests
        self._file["checksums"] = np.array(self._checksums, np.uint32)
        self._file.attrs["digests_checksum"] = zlib.crc32(digests.tobytes())
        quality = np.stack(self._quality)
        if not np.isnan(quality).all():
            measured = self._file.create_dataset("quality", data=quality)
            columns = np.array(COLUMNS, "S")
            measured.attrs.update({"columns": columns, "checksum": zlib.crc32(quality.tobytes())})
        self._file.close()
        self._disk.check()
        if give_place:
            return give_place(self._temporary, self._folder, digests)
        # Two runs that compute the same rows at once write the same file: the second replaces the first.
        place = self._folder / f"{content_name(digests)}.h5"
        files.put(self._temporary, place)
        return place


def content_name(digests: np.ndarray) -> str:
    """The name of a shard, without its suffix, by the digests (N,) in it."""
    return files.digest(digests.tobytes())[:16]


def read_digests(path: Path, fingerprint: str) -> np.ndarray:
    """The digests of a shard.

    Args:
        path: The shard.
        fingerprint: What the shard must have been made with.

    Returns:
        (N,) array of 32 bytes each.

    Raises:
        CacheError: The file is damaged, of another version, or of another cache.
        OSError: It may not be read, or not now.
    """
    known = remote_shards.known_digests(path, fingerprint)
    if known is not None:
        return known
    with damage_named(path), h5py.File(path, "r") as file:
        attributes = {name: file.attrs.get(name) for name in _CHECKED}
        digests = file["digests"][:]
        counts = {len(digests), len(file["bottlenecks"]), len(file["checksums"])}
    if attributes.get("format") != FORMAT.encode() or attributes.get("version") != VERSION:
        raise ForeignShardError(f"{path} is not a fastcls shard of version {VERSION}")
    if attributes.get("fingerprint") != fingerprint.encode():
        raise ForeignShardError(f"Shard {path} belongs to another cache")
    if zlib.crc32(digests.tobytes()) != attributes.get("digests_checksum") or len(counts) > 1:
        raise _damaged(path, "its digests do not match their checksum")
    return digests


def fingerprint_of(path: Path) -> str:
    """What a shard says that it was made with.

    Raises:
        CacheError: It is damaged.
    """
    with damage_named(path), h5py.File(path, "r") as file:
        return bytes(file.attrs["fingerprint"]).decode()


def maker_of(path: Path) -> str:
    """What a shard says that computed its rows; "" where it does not, is damaged, or is only in a store."""
    with contextlib.suppress(*DAMAGE), h5py.File(path, "r") as file:
        return bytes(file.attrs.get(MADE_BY, b"")).decode()
    return ""


def require_whole(path: Path) -> np.ndarray:
    """Read all of a shard, and return its digests, (N,) S32; raises CacheError where it is damaged."""
    digests = read_digests(path, fingerprint_of(path))
    for start in range(0, len(digests), _CHUNK_ROWS):
        places = np.arange(min(_CHUNK_ROWS, len(digests) - start))
        read_into(empty_rows(path, len(places)), places, path, start + places)
    return digests


def empty_rows(path: Path, count: int) -> np.ndarray:
    """An array for `count` bottlenecks like those of a shard.

    Raises:
        CacheError: The shard is damaged.
        OSError: It may not be read, or not now.
    """
    with damage_named(path), path.open("rb") as file:
        return _layout(path, *_state(file)).empty(count)


def read_into(output: np.ndarray, places: np.ndarray, path: Path, indices: np.ndarray) -> None:
    """Read some bottlenecks of a shard into `output[places]`, checked against their checksums.

    Args:
        output: (N, ...) array of the shard's dtype.
        places: (M,) where to put them.
        path: The shard.
        indices: (M,) rows to read, in any order.

    Raises:
        CacheError: A row is damaged.
        PermissionError: The shard may not be read.
    """
    with damage_named(path), opened(path) as (layout, read):
        runs = (
            layout.runs(places, indices) if output.flags.c_contiguous and output.dtype == layout.dtype else []
        )
        for run in runs:
            first, stop = int(indices[run.start]), int(indices[run.stop - 1]) + 1
            rows = output[places[run.start] : places[run.stop - 1] + 1]
            layout.check_run(read(first, stop, rows), first)
        for part in [] if runs else group(indices // layout.chunk_rows):
            wanted = indices[part]
            first, stop = int(wanted.min()), int(wanted.max()) + 1
            rows = read(first, stop)[wanted - first]
            layout.check(rows, wanted)
            output[places[part]] = rows


def read_quality(path: Path) -> np.ndarray:
    """What was measured of the images of a shard.

    Args:
        path: The shard.

    Returns:
        (N, Q) float32 in the order of `COLUMNS`; NaN where nothing was measured.

    Raises:
        CacheError: The shard is damaged.
        OSError: It may not be read, or not now.
    """
    with damage_named(path), h5py.File(path, "r") as file:
        found = np.full((len(file["digests"]), len(COLUMNS)), np.nan, np.float32)
        if "quality" in file:
            stored = file["quality"]
            values, columns = stored[:], stored.attrs["columns"].astype(str)
            if zlib.crc32(values.tobytes()) != stored.attrs["checksum"] or len(values) != len(found):
                raise ValueError("what was measured of its images does not match its checksum")
            if tuple(columns) == COLUMNS:  # what was measured otherwise cannot be compared
                found = values
    return found


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[Layout, Callable[..., np.ndarray]]]:
    """The layout of a shard, and what reads the rows from one to before another, of one chunk."""
    with path.open("rb", buffering=0) as file:
        layout = _layout(path, *_state(file))
        if len(layout.offsets):
            yield layout, functools.partial(layout.read, file)
            return
    with h5py.File(path, "r") as hdf5:
        rows = hdf5["bottlenecks"]
        yield layout, lambda first, stop: rows[first:stop]


def group(keys: np.ndarray) -> list[np.ndarray]:
    """The places of each key: (N,) -> arrays of indices, by rising key."""
    order = np.argsort(keys, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(keys[order])) + 1)


def forget_layouts() -> None:
    """Look at each file anew: a disk that fails changes what is in a file, but not its times."""
    _layout.cache_clear()


# Shards do not change. What is kept of each is a fraction of what the index of its rows takes.
@functools.lru_cache(maxsize=1 << 16)
def _layout(path: Path, size: int, changed_ns: int) -> Layout:
    with h5py.File(path, "r") as file:
        return Layout.of(file)


def _state(file: io.IOBase) -> tuple[int, int]:
    """What differs when a file has been replaced: size and time of the last change in nanoseconds."""
    state = os.fstat(file.fileno())
    return state.st_size, state.st_mtime_ns


@contextlib.contextmanager
def damage_named(path: Path) -> Iterator[None]:
    remote_shards.fetched(path, require_whole)
    try:
        yield
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno in _NO_DAMAGE:
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, reason: str) -> CacheError:
    return CacheError(
        f"Shard {path} is damaged: {reason}. Delete this file and run `fastcls extract` again: it forwards "
        "only the images of this shard"
    )

"""The index of a large cache in a file, so that no shard needs to be opened to know what it holds.

CACHE/index.bin   a line of JSON: the shards with their sizes and times, and checksums; then four arrays of N
                  rows, as `Index` has them: high and low uint64, shard and row int32

It is made again wherever it is not right, and can be removed at any time.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np

from fastcls import files
from fastcls.cache import remote_shards
from fastcls.records import Count, as_json, made

FILE = "index.bin"
LEAST_ROWS = 1 << 18  # fewer are read from their shards in a moment
_VERSION = 1
_COLUMNS = (("high", np.uint64), ("low", np.uint64), ("shard", np.int32), ("row", np.int32))
_ROW_BYTES = sum(np.dtype(dtype).itemsize for _, dtype in _COLUMNS)


class ShardState(NamedTuple):
    """What changes when a shard does: name, size in bytes, time of the last change in nanoseconds.

    In a store the last one is its stamp.
    """

    name: str
    size: int
    mtime_ns: int


class _Header(TypedDict):
    version: int
    fingerprint: str
    rows: Count
    crc32: int
    shards: list[tuple[str, int, int]]
    checksum: str


@dataclass(frozen=True)
class KeptIndex:
    """What is in the file.

    Attributes:
        shards: The shards that it knows.
        columns: The four arrays, of N rows each, by their names.
    """

    shards: tuple[ShardState, ...]
    columns: dict[str, np.ndarray]


def shard_states(folder: Path) -> tuple[ShardState, ...]:
    """The shards of a folder as they are now, by name; of a mirror, as the store has them."""
    listed = remote_shards.listed(folder)
    if listed is not None:
        return tuple(sorted(ShardState(name, *stat) for name, stat in listed.items()))
    found = []
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".h5") and not entry.name.startswith("."):
                with contextlib.suppress(FileNotFoundError):  # it has been removed just now
                    state = entry.stat()
                    found.append(ShardState(entry.name, state.st_size, state.st_mtime_ns))
    return tuple(sorted(found))


def load(path: Path, fingerprint: str) -> KeptIndex | None:
    """Open the file; None if there is none, or it is damaged or of another cache. The arrays are mapped."""
    try:
        return _load(path, fingerprint)
    except (OSError, ValueError, RecursionError):
        return None


def damage(path: Path, fingerprint: str) -> str:
    """What is wrong with the file; "" for nothing."""
    try:
        _load(path, fingerprint)
    except (OSError, ValueError, RecursionError) as error:
        return f"it is damaged: {error}"
    return ""


def _load(path: Path, fingerprint: str) -> KeptIndex:
    with path.open("rb") as file:
        line = file.readline()
        header = made(_Header, json.loads(line))
        checked = {name: value for name, value in header.items() if name != "checksum"}
        if header["checksum"] != files.json_digest(checked):
            raise ValueError("its first line does not match its checksum")
        if (header["version"], header["fingerprint"]) != (_VERSION, fingerprint):
            raise ValueError("it is of another cache, or of another version")
        rows = header["rows"]
        if os.fstat(file.fileno()).st_size != len(line) + rows * _ROW_BYTES:
            raise ValueError("its size is wrong")
        mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    if zlib.crc32(mapped[len(line) :]) != header["crc32"]:
        raise ValueError("its rows do not match their checksum")
    columns, start = {}, len(line)
    for name, dtype in _COLUMNS:
        columns[name] = np.frombuffer(mapped, dtype, rows, start)
        start += columns[name].nbytes
    if rows and not 0 <= columns["shard"].min() <= columns["shard"].max() < len(header["shards"]):
        raise ValueError("its rows are of shards that it does not name")
    return KeptIndex(tuple(ShardState(*state) for state in header["shards"]), columns)


def save(path: Path, fingerprint: str, shards: Sequence[ShardState], columns: dict[str, np.ndarray]) -> None:
    """Write the file, where that is possible: a cache that cannot be written to goes without."""
    crc = 0
    for name, _ in _COLUMNS:
        crc = zlib.crc32(columns[name].data, crc)
    rows = len(columns["row"])
    header = {"version": _VERSION, "fingerprint": fingerprint, "rows": rows, "crc32": crc, "shards": shards}
    plain = as_json(header)
    text = json.dumps({**plain, "checksum": files.json_digest(plain)}, separators=(",", ":"))
    padded = text + " " * (-(len(text) + 1) % 64) + "\n"  # numbers begin where processors like them to
    with contextlib.suppress(OSError), files.atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(padded.encode())
        for name, _ in _COLUMNS:
            file.write(columns[name].data)

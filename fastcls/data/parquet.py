"""Images inside Parquet files, as Hugging Face keeps them: a column of bytes, or of {bytes, path}.

The address of one is `FILE.parquet#ROW:COLUMN`. Parquet is read by row groups: the last ones are kept, as
images are mostly read in order.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import os
import threading
import time
from typing import Any

from fastcls import storage
from fastcls.optional import require
from fastcls.storage.ranged import open_url

SUFFIX = ".parquet"
_GROUPS = 2  # kept per process
_RANGE = 1 << 16  # bytes that are asked for at least, of a file at a URL
_FRESH_S = 60  # as long a look at such a file counts
_lock = threading.Lock()  # several threads want the same group at the same time


class DamagedParquetError(OSError):
    """An image cannot be read; the message says why and where."""


def is_parquet(name: str) -> bool:
    """Whether a file name is one of Parquet files.

    >>> [is_parquet(name) for name in ("train-00000-of-00002.parquet", "a.jpg")]
    [True, False]
    """
    return name.lower().endswith(SUFFIX)


def open_file(file: str) -> Any:
    """A `pyarrow.parquet.ParquetFile`.

    Raises:
        MissingExtraError: pyarrow is not installed.
        OSError: It cannot be read.
    """
    parquet = require("pyarrow.parquet", purpose=f"Reading {file}")
    try:
        return parquet.ParquetFile(open_url(file, _RANGE) if storage.is_url(file) else file)
    except ValueError as error:  # all errors of Arrow are
        raise DamagedParquetError(f"{file} is no Parquet file, or is damaged: {error}") from error


def read_image(file: str, row: int, column: str) -> bytes:
    """The bytes of one image.

    Args:
        file: The Parquet file.
        row: Counted from 0.
        column: Of bytes, or with a field "bytes".

    Raises:
        MissingExtraError: pyarrow is not installed.
        OSError: It cannot be read.
    """
    state = _state(file, int(time.monotonic() / _FRESH_S))
    with _lock:
        ends = _row_ends(file, state)
        number = bisect.bisect_right(ends, row)
        if number == len(ends):
            raise DamagedParquetError(f"{file} has no row {row}: it has changed")
        start = ends[number - 1] if number else 0
        image = _images(file, state, number, column)[row - start].as_py()
    if image is None:
        raise DamagedParquetError(f"row {row} of {file} has no image in {column!r}")
    return bytes(image)


def _state(file: str, minute: int) -> tuple[int, int]:
    """What changes when a file does; of one at a URL, it is asked for once in a while."""
    if storage.is_url(file):
        return _remote_state(file, minute)
    status = os.stat(file)  # noqa: PTH116 (as image_bytes)
    return status.st_size, status.st_mtime_ns


@functools.lru_cache(maxsize=64)
def _remote_state(url: str, _minute: int) -> tuple[int, int]:
    return storage.stat(url)


@functools.lru_cache(maxsize=64)
def _row_ends(file: str, state: tuple[int, int]) -> list[int]:
    """The number of the row after each row group."""
    metadata = open_file(file).metadata
    return list(itertools.accumulate(metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)))


@functools.lru_cache(maxsize=_GROUPS)
def _images(file: str, state: tuple[int, int], number: int, column: str) -> Any:
    """The bytes of all images of a row group, as an Arrow array."""
    opened = open_file(file)
    try:
        is_struct = str(opened.schema_arrow.field(column).type).startswith("struct")
        name = f"{column}.bytes" if is_struct else column
        found = opened.read_row_group(number, columns=[name]).column(0)
        return found.combine_chunks().field("bytes") if is_struct else found
    except (ValueError, KeyError) as error:
        raise DamagedParquetError(f"{file} is damaged: {error}") from error

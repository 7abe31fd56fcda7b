"""`samples.csv`: which images a cache serves, with class, split, digest and the state of the file.

It lets the cache train without the images, and an unchanged image go unread.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fastcls.cache.tables import read_table, write_table

COLUMNS = ("path", "label", "split", "group", "digest", "size", "mtime_ns", "ctime_ns")


@dataclass(frozen=True, slots=True)
class FileState:
    """What changes when a file's bytes do: size in bytes, times of modification and change in ns."""

    size: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0

    @classmethod
    def of(cls, path: str | Path) -> FileState:
        """State of an existing file; raises OSError if it cannot be had."""
        stat = os.stat(path)  # noqa: PTH116 (a Path for each of 100,000 files is slow)
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


@dataclass(frozen=True, slots=True)
class SampleRow:
    """One line of `samples.csv`.

    Attributes:
        path: POSIX path relative to the data set's root.
        label: Name of the class.
        split: "train", "val", "test" or "".
        group: Samples of one non-empty group must stay in one split.
        digest: The image's identity; "" while it is unknown.
        state: State of the file when the digest was taken; all zero when it cannot be relied on.
    """

    path: str
    label: str
    split: str
    group: str = ""
    digest: str = ""
    state: FileState = FileState()


def write_samples(path: Path, rows: Iterable[SampleRow]) -> None:
    """Write the table atomically."""
    write_table(path, COLUMNS, map(_as_line, rows))


def read_samples(path: Path) -> list[SampleRow]:
    """Read the table; empty if there is none yet.

    Raises:
        CacheError: It is damaged.
    """
    return read_table(path, COLUMNS, _from_line)


def _as_line(row: SampleRow) -> tuple[str | int, ...]:
    state = row.state
    stated = (state.size, state.mtime_ns, state.ctime_ns)
    return row.path, row.label, row.split, row.group, row.digest, *stated


def _from_line(
    path: str, label: str, split: str, group: str, digest: str, size: str, mtime: str, ctime: str
) -> SampleRow:
    state = FileState(int(size), int(mtime), int(ctime))
    # Interned: 100,000 rows share the names of their classes.
    return SampleRow(path, sys.intern(label), sys.intern(split), sys.intern(group), digest, state)

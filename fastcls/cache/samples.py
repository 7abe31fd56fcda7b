"""`samples.csv`: which images a cache serves, with class, split, digest and the state of the file.

It lets the cache train without the images, and an unchanged image go unread.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fastcls import files

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
    with files.atomic_path(path) as temporary, temporary.open("w", **files.CSV_TEXT) as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in rows:
            state = row.state
            stated = (state.size, state.mtime_ns, state.ctime_ns)
            writer.writerow((row.path, row.label, row.split, row.group, row.digest, *stated))


def read_samples(path: Path) -> list[SampleRow]:
    """Read the table; empty if there is none yet."""
    if not path.exists():
        return []
    with path.open(**files.CSV_TEXT) as file:
        lines = csv.reader(file)
        next(lines)
        return [
            SampleRow(name, label, split, group, digest, FileState(int(size), int(mtime), int(ctime)))
            for name, label, split, group, digest, size, mtime, ctime in lines
        ]

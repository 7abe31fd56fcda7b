"""`samples/NAME.csv`: which images a cache serves, with class, split, digest and the state of the file.

It lets the cache train without the images, and an unchanged image go unread. The column of the classes is
called `label`, or `labels` with a JSON array of names in each cell, by the task of the data set.
`failures/NAME.csv` lists those of these images that gave no bottleneck.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from fastcls.cache.tables import read_lines, write_lines
from fastcls.data import sources
from fastcls.tasks import Task

FAILURE_COLUMNS = ("path", "digest", "reason")


@dataclass(frozen=True, slots=True)
class FileState:
    """What changes when a file's bytes do: size in bytes, times of modification and change in ns."""

    size: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0

    @classmethod
    def of(cls, path: str | Path) -> FileState:
        """State of the file that holds an image; raises OSError if it cannot be had."""
        stat = sources.stat(path)
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


@dataclass(frozen=True, slots=True)
class SampleRow:
    """One line of a table of samples.

    Attributes:
        path: POSIX path relative to the data set's root.
        labels: Names of the classes, sorted: as many as the task allows.
        split: "train", "val", "test" or "".
        group: Samples of one non-empty group must stay in one split.
        digest: The image's identity; "" while it is unknown.
        state: State of the file when the digest was taken; all zero when it cannot be relied on.
    """

    path: str
    labels: tuple[str, ...]
    split: str
    group: str = ""
    digest: str = ""
    state: FileState = FileState()

    @property
    def label(self) -> str:
        """The class of a sample that has exactly one."""
        (label,) = self.labels
        return label


@dataclass(frozen=True)
class Failure:
    """An image that gave no bottleneck.

    Attributes:
        path: As in the table of samples.
        digest: Its identity; "" when the file could not be read at all.
        reason: One line.
    """

    path: str
    digest: str
    reason: str


def columns_of(task: Task) -> tuple[str, ...]:
    """The columns of a table of samples."""
    return ("path", task.column, "split", "group", "digest", "size", "mtime_ns", "ctime_ns")


def write_samples(path: Path, rows: Iterable[SampleRow], task: Task) -> int:
    """Write a table of samples; returns how many there are."""
    return write_lines(path, columns_of(task), (_as_line(row, task) for row in rows))


def read_samples(path: Path, task: Task) -> list[SampleRow]:
    """Read a table of samples.

    Raises:
        ValueError: It is damaged.
    """
    return read_lines(path, columns_of(task), _reader(task.read_cell))


def write_failures(path: Path, failures: Iterable[Failure]) -> int:
    """Write a table of failures; returns how many there are."""
    lines = ((failure.path, failure.digest, failure.reason) for failure in failures)
    return write_lines(path, FAILURE_COLUMNS, lines)


def read_failures(path: Path) -> list[Failure]:
    """Read a table of failures.

    Raises:
        ValueError: It is damaged.
    """
    return read_lines(path, FAILURE_COLUMNS, Failure)


def _as_line(row: SampleRow, task: Task) -> tuple[str | int, ...]:
    state = row.state
    stated = (state.size, state.mtime_ns, state.ctime_ns)
    return row.path, task.write_cell(row.labels), row.split, row.group, row.digest, *stated


def _reader(parse: Callable[[str], tuple[str, ...]]) -> Callable[..., SampleRow]:
    def read(
        path: str, label: str, split: str, group: str, digest: str, size: str, mtime: str, ctime: str
    ) -> SampleRow:
        state = FileState(int(size), int(mtime), int(ctime))
        return SampleRow(path, parse(label), sys.intern(split), sys.intern(group), digest, state)

    return read

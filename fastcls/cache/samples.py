"""`samples/NAME.csv`: which images a cache serves, with class, split, digest and the state of the file.

It lets the cache train without the images, and an unchanged image go unread. The table of a multi-label data
set has the column `labels` in place of `label`: a JSON array of the names, whatever characters they hold.
`failures/NAME.csv` lists those of these images that gave no bottleneck.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from fastcls.data import image_bytes
from fastcls.data.csv_table import read_table, write_table

COLUMNS = ("path", "label", "split", "group", "digest", "size", "mtime_ns", "ctime_ns")
MULTI_LABEL_COLUMNS = ("path", "labels", *COLUMNS[2:])
FAILURE_COLUMNS = ("path", "digest", "reason")


@dataclass(frozen=True, slots=True)
class FileState:
    """What changes when a file's bytes do: size in bytes, times of modification and change in ns."""

    size: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0

    @classmethod
    def of(cls, path: str | Path) -> FileState:
        """State of the file that holds an image; raises OSError if it cannot be read."""
        stat = image_bytes.stat(path)
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


@dataclass(frozen=True, slots=True)
class SampleRow:
    """One line of a table of samples.

    Attributes:
        path: POSIX path relative to the data set's root.
        labels: Names of the classes, sorted: one, or any number in a multi-label data set.
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


def write_samples(path: Path, rows: Iterable[SampleRow], *, multi_label: bool) -> int:
    """Write a table of samples; returns how many there are."""
    columns = MULTI_LABEL_COLUMNS if multi_label else COLUMNS
    return write_table(path, columns, (_as_line(row, multi_label) for row in rows))


def read_samples(path: Path, *, multi_label: bool) -> list[SampleRow]:
    """Read a table of samples.

    Raises:
        ValueError: It is damaged.
    """
    if multi_label:
        return read_table(path, MULTI_LABEL_COLUMNS, _reader(_parse_labels))
    return read_table(path, COLUMNS, _reader(_one_label))


def write_failures(path: Path, failures: Iterable[Failure]) -> int:
    """Write a table of failures; returns how many there are."""
    lines = ((failure.path, failure.digest, failure.reason) for failure in failures)
    return write_table(path, FAILURE_COLUMNS, lines)


def read_failures(path: Path) -> list[Failure]:
    """Read a table of failures.

    Raises:
        ValueError: It is damaged.
    """
    return read_table(path, FAILURE_COLUMNS, Failure)


def _as_line(row: SampleRow, multi_label: bool) -> tuple[str | int, ...]:
    state = row.state
    stated = (state.size, state.mtime_ns, state.ctime_ns)
    labels = json.dumps(row.labels, ensure_ascii=False) if multi_label else row.label
    return row.path, labels, row.split, row.group, row.digest, *stated


def _reader(parse: Callable[[str], tuple[str, ...]]) -> Callable[..., SampleRow]:
    def read(
        path: str, label: str, split: str, group: str, digest: str, size: str, mtime: str, ctime: str
    ) -> SampleRow:
        state = FileState(int(size), int(mtime), int(ctime))
        return SampleRow(path, parse(label), sys.intern(split), sys.intern(group), digest, state)

    return read


# Cached: 100,000 rows share the names of their classes.
@functools.lru_cache(maxsize=1 << 16)
def _one_label(text: str) -> tuple[str, ...]:
    return (text,)


@functools.lru_cache(maxsize=1 << 16)
def _parse_labels(text: str) -> tuple[str, ...]:
    labels = json.loads(text)
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ValueError(f"its labels {text!r} are no JSON array of names")
    return tuple(labels)

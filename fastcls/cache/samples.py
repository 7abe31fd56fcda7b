"""`samples/NAME.csv`: which images a cache serves, with class, split, digest and the state of the file.

It lets the cache train without the images, and an unchanged image go unread. The column of the classes is
called `label`, or `labels` with a JSON array of names in each cell, by the task of the data set.
`failures/NAME.csv` lists those of these images that gave no bottleneck.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from fastcls import web
from fastcls.data import image_bytes
from fastcls.data.csv_table import read_columns, read_table, write_table
from fastcls.data.digests import DIGEST_DTYPE
from fastcls.errors import FastclsError
from fastcls.garbage import uncollected
from fastcls.parallel import spread, spread_wide
from fastcls.storage import is_url
from fastcls.storage.listings import listed, listing_of
from fastcls.tasks import Task
from fastcls.wording import count_of

FAILURE_COLUMNS = ("path", "digest", "reason")
_STATE = attrgetter("size", "mtime_ns", "ctime_ns")
_STAT = attrgetter("st_size", "st_mtime_ns", "st_ctime_ns")
_UNKNOWN = (0, 0, 0)
_BOUND = 1 << 63
_BLOCK = 1024  # lines that are in memory as objects at once
_FEW = 16  # files at URLs that are asked for one by one
_SLOW_S = 1e-4  # what a look at a file takes where a network is waited for: several threads wait then


@dataclass(frozen=True, slots=True)
class FileState:
    """What changes when a file's bytes do: size in bytes, times of modification and change in ns."""

    size: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0

    @classmethod
    def of(cls, path: str | Path) -> FileState:
        """State of the file that holds an image; raises OSError if it cannot be read."""
        return cls(*_STAT(image_bytes.stat(path)))


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


class SampleTable(Sequence[SampleRow]):
    """The lines of a table of samples, in columns: as objects, a million of them take half a gigabyte.

    Attributes:
        paths: As in `SampleRow`, and so are `labels`, `splits` and `groups`.
        digests: (N,) S32, b"" where it is unknown.
        states: (N, 3) int64, the fields of `FileState`.
    """

    def __init__(
        self,
        paths: list[str],
        labels: list[tuple[str, ...]],
        splits: list[str],
        groups: list[str],
        digests: np.ndarray | None = None,
        states: np.ndarray | None = None,
    ) -> None:
        self.paths, self.labels, self.splits, self.groups = paths, labels, splits, groups
        self.digests = np.zeros(len(paths), DIGEST_DTYPE) if digests is None else digests
        self.states = np.zeros((len(paths), 3), np.int64) if states is None else states

    @classmethod
    def of(cls, rows: Iterable[SampleRow]) -> SampleTable:
        """A table of some lines; a table as it is."""
        if isinstance(rows, SampleTable):
            return rows
        lines = [*rows]
        return cls(
            [row.path for row in lines],
            [row.labels for row in lines],
            [row.split for row in lines],
            [row.group for row in lines],
            np.array([row.digest for row in lines], DIGEST_DTYPE),
            np.array([_stored(_STATE(row.state)) for row in lines], np.int64).reshape(-1, 3),
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return self.take(range(*place.indices(len(self))))
        known = self.paths[place], self.labels[place], self.splits[place], self.groups[place]
        return SampleRow(*known, self.digests[place].decode(), FileState(*self.states[place].tolist()))

    def __iter__(self) -> Iterator[SampleRow]:
        return itertools.starmap(_as_row, self.lines())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SampleTable):
            return isinstance(other, Sequence) and [*self] == [*other]
        return (
            all(own == its for own, its in zip(self._texts, other._texts, strict=True))
            and np.array_equal(self.digests, other.digests)
            and np.array_equal(self.states, other.states)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<SampleTable: {count_of(len(self), 'sample')}>"

    @property
    def _texts(self) -> tuple[list[str], list[tuple[str, ...]], list[str], list[str]]:
        return self.paths, self.labels, self.splits, self.groups

    def lines(self) -> Iterator[tuple[Any, ...]]:
        """The values of each line, digests as text."""
        for start in range(0, len(self), _BLOCK):
            part = slice(start, start + _BLOCK)
            digests = self.digests[part].astype("U32").tolist()
            texts = (column[part] for column in self._texts)
            yield from zip(*texts, digests, *self.states[part].T.tolist(), strict=True)

    def take(self, places: Sequence[int] | np.ndarray) -> SampleTable:
        """Some of the lines, in another order."""
        chosen = np.asarray(places, np.int64)
        listed = chosen.tolist()
        return SampleTable(
            [self.paths[place] for place in listed],
            [self.labels[place] for place in listed],
            [self.splits[place] for place in listed],
            [self.groups[place] for place in listed],
            self.digests[chosen],
            self.states[chosen],
        )

    def copy(self) -> SampleTable:
        """One with digests and states of its own."""
        return SampleTable(*self._texts, self.digests.copy(), self.states.copy())

    def note(self, place: int, digest: str, state: FileState) -> None:
        """Set what is known of an image's file."""
        self.digests[place], self.states[place] = digest.encode(), _stored(_STATE(state))


def file_states(root: str | Path, paths: Sequence[str]) -> np.ndarray:
    """States of the files that hold some images, as `SampleTable` has them; all zero of a file that is gone.

    Args:
        root: Folder that the paths are relative to, or its URL: it is listed, unless there are few paths.
        paths: Of the images. Those in one file, as records are, follow each other: it is looked at once.
    """
    if is_url(os.fspath(root)) or any(map(is_url, paths)):
        return _remote_states(os.fspath(root), paths)
    blocks = [paths[start : start + _BLOCK] for start in range(0, len(paths), _BLOCK)]
    look = functools.partial(_look_at, os.path.join(root, ""))  # noqa: PTH118 (10 times quicker)
    started = time.perf_counter()
    found = [look(block) for block in blocks[:1]]
    is_slow = time.perf_counter() - started > _SLOW_S * len(paths[:_BLOCK])
    found += spread(look, blocks[1:]) if is_slow else map(look, blocks[1:])
    return np.concatenate([np.empty((0, 3), np.int64), *found])


def _remote_states(root: str, paths: Sequence[str]) -> np.ndarray:
    if is_url(root) and not web.is_url(root) and len(paths) > _FEW:
        with contextlib.suppress(OSError, FastclsError):  # of what cannot be listed, each file is asked for
            listing_of(root)
    places = [image_bytes.located(root, path) for path in paths]
    owners = dict.fromkeys(map(image_bytes.file_of, places))
    look = map if listed(f"{root}/a") else spread_wide
    states = dict(zip(owners, look(_remote_state, owners), strict=True))
    found = [states[image_bytes.file_of(place)] for place in places]
    return np.array(found, np.int64).reshape(-1, 3)


def _remote_state(place: str) -> tuple[int, int, int]:
    try:
        return _stored(_STAT(image_bytes.stat(place)))
    except (OSError, FastclsError):
        return _UNKNOWN


def _look_at(prefix: str, paths: Iterable[str]) -> np.ndarray:
    found, last, state = [], "", _UNKNOWN
    for path in paths:
        file = image_bytes.file_of(path) if "#" in path else path
        if file != last:
            last = file
            try:
                state = _STAT(os.stat(file if file[0] == "/" else prefix + file))  # noqa: PTH116
            except OSError:
                state = _UNKNOWN
        found.append(state)
    try:
        return np.array(found, np.int64)
    except OverflowError:
        return np.array([*map(_stored, found)], np.int64)


def _stored(state: tuple[int, int, int]) -> tuple[int, int, int]:
    """A state; an unknown one in place of such as no 64 bits hold, of a file system that is wrong."""
    return state if min(state) >= -_BOUND and max(state) < _BOUND else _UNKNOWN


def columns_of(task: Task) -> tuple[str, ...]:
    """The columns of a table of samples."""
    return ("path", task.column, "split", "group", "digest", "size", "mtime_ns", "ctime_ns")


def write_samples(path: Path, rows: Iterable[SampleRow], task: Task) -> int:
    """Write a table of samples; returns how many there are."""
    write_cell = functools.cache(task.write_cell)
    lines = ((path, write_cell(labels), *rest) for path, labels, *rest in SampleTable.of(rows).lines())
    return write_table(path, columns_of(task), lines)


def read_samples(path: Path, task: Task, same: Sequence[str] = ()) -> SampleTable:
    """Read a table of samples.

    Args:
        path: The CSV file.
        task: That of the data set.
        same: Paths of images, sorted: those that come in the table too are not kept in memory twice.

    Raises:
        ValueError: It is damaged.
    """
    table, parse, intern = SampleTable([], [], [], []), functools.cache(task.read_cell), functools.cache(str)
    digests, states = bytearray(), bytearray()
    with uncollected():
        for paths, labels, splits, groups, *known in read_columns(path, columns_of(task)):
            table.paths += _shared(list(paths), same)
            table.labels += map(parse, labels)
            table.splits += map(intern, splits)
            table.groups += map(intern, groups)
            digests += np.array(known[0], DIGEST_DTYPE).tobytes()
            states += np.array([_whole_numbers(column) for column in known[1:]]).T.tobytes()
    arrays = np.frombuffer(digests, DIGEST_DTYPE), np.frombuffer(states, np.int64).reshape(-1, 3)
    return SampleTable(table.paths, table.labels, table.splits, table.groups, *arrays)


def _whole_numbers(column: Sequence[str]) -> np.ndarray:
    try:
        return np.fromiter(map(int, column), np.int64, len(column))
    except OverflowError as error:
        raise ValueError("it has numbers of more than 64 bits") from error


def _shared(paths: list[str], known: Sequence[str]) -> list[str]:
    start = bisect_left(known, paths[0])
    same = [*known[start : start + len(paths)]]
    return same if same == paths else paths


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


def _as_row(
    path: str, labels: tuple[str, ...], split: str, group: str, digest: str, *state: int
) -> SampleRow:
    return SampleRow(path, labels, split, group, digest, FileState(*state))

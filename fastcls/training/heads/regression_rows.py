"""Rows of a regression: kept in memory, or streamed from a cache that is larger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fastcls.training.heads.fitting import at_unit_length, feature_blocks, features, width_of
from fastcls.training.heads.links import LINKS, Link
from fastcls.training.heads.regression import Block, principal_axes
from fastcls.training.rows.selection import LabeledRows, join

# Rows by features that the axes of streamed rows are found with, and that their fits begin with.
_NEAR = 16
_LEAST_NEAR = 1024
# Five folds of four fifths of the rows, and their held-out fifths, against one of each.
_FOLDED = 2


class KeptRows:
    """Rows in memory.

    Args:
        rows: (N, D) float32, along the axes of the regression.
        labels: Of them, encoded by the task.
        targets: (N, C) of 0 and 1.
        link: That of the task.
    """

    near = None

    def __init__(self, rows: np.ndarray, labels: np.ndarray, targets: np.ndarray, link: Link) -> None:
        self.link = link
        self._block = Block(rows, labels, targets.astype(np.float64))

    def __len__(self) -> int:
        return len(self._block.rows)

    def take(self, places: np.ndarray) -> KeptRows:
        """Some of the rows."""
        rows, labels, targets = (part[places] for part in self._block)
        return KeptRows(rows, labels, targets, self.link)

    def shares(self) -> np.ndarray:
        """See `RegressionRows`, as for all that follow."""
        shares: np.ndarray = self._block.targets.mean(axis=0)
        return shares

    def blocks(self) -> Iterator[Block]:
        """One block."""
        yield self._block

    def onto_rows(self, kernel: np.ndarray) -> np.ndarray:
        """The rows are along the axes."""
        return kernel

    def onto_axes(self, slopes: np.ndarray) -> np.ndarray:
        """The rows are along the axes."""
        return slopes


@dataclass(frozen=True, eq=False)
class Frame:
    """Where rows are seen from; the minimum of a regression is the same from anywhere.

    Attributes:
        center: (D,) float64, about the mean of the rows.
        axes: (D, R) float32, about their principal axes; None for the features themselves.
        is_unit: Whether rows are brought to length 1 before.
    """

    center: np.ndarray
    axes: np.ndarray | None
    is_unit: bool

    def center_in_place(self, rows: np.ndarray) -> np.ndarray:
        """Rows (n, D) float32 as they come, less the center; what they were is lost."""
        rows = at_unit_length(rows) if self.is_unit else rows
        rows -= self.center.astype(np.float32)  # another array takes longer than to read them
        return rows

    def turned(self, rows: np.ndarray) -> np.ndarray:
        """Rows (n, D) less the center, along the axes."""
        return rows if self.axes is None else rows @ self.axes


@dataclass(frozen=True, eq=False)
class StreamedRows:
    """Rows that are read from the shards each time; their labels are in memory.

    Attributes:
        data: All rows and labels.
        places: (N,) those of them that are meant, sorted.
        classes: The number C of classes.
        frame: Where they are seen from. Blocks are not turned: that would take longer than all else.
        sampled: (S,) places of some of `data` that are in memory, sorted.
        sample: These rows.
    """

    data: LabeledRows
    places: np.ndarray
    classes: int
    frame: Frame
    sampled: np.ndarray
    sample: KeptRows

    @property
    def link(self) -> Link:
        """That of the task."""
        return LINKS[self.data.task]

    @property
    def near(self) -> KeptRows:
        """Those of them that are in memory."""
        return self.sample.take(np.flatnonzero(np.isin(self.sampled, self.places, assume_unique=True)))

    def __len__(self) -> int:
        return len(self.places)

    def take(self, places: np.ndarray) -> StreamedRows:
        """Some of the rows."""
        return replace(self, places=np.sort(self.places[places]))

    def shares(self) -> np.ndarray:
        """See `RegressionRows`, as for all that follow."""
        return self.data.task.count(self.data.labels[self.places], self.classes) / len(self)

    def blocks(self) -> Iterator[Block]:
        """Read in order, while the block before is computed with."""
        task, labels = self.data.task, self.data.labels[self.places]
        data = LabeledRows(self.data.rows.take(self.places), labels, 1, task)
        for place, rows in feature_blocks(data):
            targets = self.link.targets(labels[place], self.classes).astype(np.float64)
            yield Block(self.frame.center_in_place(rows), labels[place], targets)

    def onto_rows(self, kernel: np.ndarray) -> np.ndarray:
        """Turned back to the features."""
        return kernel if self.frame.axes is None else self.frame.axes @ kernel

    def onto_axes(self, slopes: np.ndarray) -> np.ndarray:
        """Turned as the axes are."""
        return slopes if self.frame.axes is None else self.frame.axes.T @ slopes


def fits(parts: Sequence[LabeledRows], memory_bytes: int) -> bool:
    """Whether rows may be kept in memory, of which a multiple of `memory_bytes` is there.

    Args:
        parts: Rows to train on and, if there are any, to validate on; else each fold is in memory as well.
        memory_bytes: See `feeder.allowed_memory`.
    """
    needed = 4 * width_of(parts[0]) * sum(map(len, parts))
    return (needed if len(parts) > 1 else _FOLDED * needed) <= memory_bytes


def keep_rows(parts: Sequence[LabeledRows], classes: int, *, is_unit: bool) -> tuple[KeptRows, Frame]:
    """Read rows into memory.

    Args:
        parts: Rows to train on, whose mean is the center, and further ones.
        classes: How many there are.
        is_unit: Whether rows are brought to length 1.
    """
    # float32 stays within 1e-6 of the loss of float64.
    rows, frame = turn(features(*parts), len(parts[0]), is_unit=is_unit)
    labels, link = np.concatenate([part.labels for part in parts]), LINKS[parts[0].task]
    return KeptRows(rows, labels, link.targets(labels, classes), link), frame


def turn(rows: np.ndarray, own: int, *, is_unit: bool = False) -> tuple[np.ndarray, Frame]:
    """Rows (N, D) less the mean of the first of them, along their principal axes (N, R); and from where.

    No label has a part in it, and the minimum is the same as without: what is held out may take part.
    """
    rows = at_unit_length(rows) if is_unit else rows
    center = rows[:own].mean(axis=0, dtype=np.float64)
    rows = rows - center.astype(np.float32)
    frame = Frame(center, principal_axes(rows), is_unit)
    return frame.turned(rows), frame


def stream_rows(
    parts: Sequence[LabeledRows], classes: int, memory_bytes: int, *, is_unit: bool
) -> tuple[StreamedRows, Frame]:
    """Rows that do not fit into memory; some of them are read to find where they are seen from.

    Args:
        parts: Rows to train on, and further ones.
        classes: How many there are.
        memory_bytes: See `feeder.allowed_memory`.
        is_unit: Whether rows are brought to length 1.
    """
    data = join(parts)
    width = width_of(data)
    # They are in memory several times while they are turned, and taken from.
    most = max(2, memory_bytes // (12 * width))
    count = min(len(data), max(_LEAST_NEAR, _NEAR * width), most)
    sampled = np.arange(count) * len(data) // count
    known = LabeledRows(data.rows.take(sampled), data.labels[sampled], 1, data.task)
    rows = features(known)
    if count > width:  # axes that hold all rows, not only these
        rows, frame = turn(rows, count, is_unit=is_unit)
    else:
        rows = at_unit_length(rows) if is_unit else rows
        frame = Frame(rows.mean(axis=0, dtype=np.float64), None, is_unit)
        rows = rows - frame.center.astype(np.float32)
    link = LINKS[data.task]
    sample = KeptRows(rows, known.labels, link.targets(known.labels, classes), link)
    return StreamedRows(data, np.arange(len(data)), classes, frame, sampled, sample), frame

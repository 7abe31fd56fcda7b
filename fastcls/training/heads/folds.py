"""Rows that are dealt into folds, of which each is held out once."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fastcls.specs import HeadSpec
from fastcls.tasks import Task
from fastcls.training.heads.fitting import score
from fastcls.training.rows.selection import LabeledRows

FOLDS = 5
# Held-out rows that are enough to choose by: what is chosen is then as good as by all.
_ENOUGH = 5000


@dataclass(frozen=True, eq=False)
class Folded:
    """Rows in memory, and which of them are held out when.

    Attributes:
        rows: (N, D) float32; the views of an image follow each other.
        labels: One per row, encoded by the task.
        targets: (N, C) of 0 and 1: whether a row has each class.
        task: What the labels are of.
        splits: Places of the rows to fit on and of those to predict, for each fold of each repeat.
        folds: How many of these are of the first repeat, in which what a head has to choose is chosen.
    """

    rows: np.ndarray
    labels: np.ndarray
    targets: np.ndarray
    task: Task
    splits: Sequence[tuple[np.ndarray, np.ndarray]]
    folds: int

    def judged(self) -> dict[int, np.ndarray]:
        """The splits to choose by, and which of their held-out rows: those whose classes are fitted on.

        Returns:
            (n,) bool by the number of the split; none where no such row is held out.
        """
        found: dict[int, np.ndarray] = {}
        for number, (own, held) in enumerate(self.splits[: self.folds]):
            if sum(map(np.sum, found.values())) >= _ENOUGH:
                break
            absent = ~self.targets[own].any(axis=0)
            known = ~self.targets[held][:, absent].any(axis=1)
            if known.any():
                found[number] = known
        return found

    def try_each(
        self, name: str, grid: Sequence[float], predict: Callable[[int, float], np.ndarray]
    ) -> list[dict[str, float]]:
        """Loss and accuracy of the held-out rows to choose by, one label each, with each candidate.

        Args:
            name: What a candidate is called.
            grid: The candidates.
            predict: (number of a split, candidate) -> probabilities of its held-out rows.

        Returns:
            A row per candidate; none where there is nothing to choose by.
        """
        history: list[dict[str, float]] = []
        judged = self.judged()
        for value in grid if judged else ():
            started = time.monotonic()
            sums, count = np.zeros(2), 0
            for number, known in judged.items():
                sums += score(predict(number, value)[known], self.labels[self.splits[number][1][known]])
                count += int(known.sum())
            loss, accuracy = (sums / count).tolist()
            seconds = round(time.monotonic() - started, 4)
            history.append({name: value, "cv_loss": loss, "cv_accuracy": accuracy, "seconds": seconds})
        return history


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What a kind of head says of rows that it was not fitted on.

    Attributes:
        probabilities: (n, C) float32 for each of `Folded.splits`.
        history: A row per candidate, as `FittedHead` has them.
        best: The one that was chosen.
    """

    probabilities: Sequence[np.ndarray]
    history: list[dict[str, float]]
    best: dict[str, float]


class HoldOut(Protocol):
    """Predicts rows that are held out; the table of heads names it."""

    def __call__(self, spec: HeadSpec, folded: Folded, *, progress: bool) -> HeldOut:
        """Fit a kind of head for each split, and predict what is held out of it.

        Args:
            spec: What is fitted.
            folded: The rows.
            progress: Show a bar on stderr.
        """


def hold_out(spec: HeadSpec, folded: Folded, *, progress: bool = False) -> HeldOut:
    """Predict held-out rows by any kind of head that is fitted at once; see `HoldOut`."""
    module, _, name = spec.traits.hold_out.partition(":")
    found: HoldOut = getattr(importlib.import_module(module), name)
    return found(spec, folded, progress=progress)


def make_splits(data: LabeledRows, targets: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Places of the rows to fit on and of those held out, for each fold.

    Each fold has about the same share of each class, or of each set of classes; views of an image, identical
    images and those of a group stay together. No fold holds out all rows of a class: such rows are always
    fitted on. The choice depends on the rows and their order alone.

    Args:
        data: The rows.
        targets: (N, C) of 0 and 1: whether a row has each class.

    Returns:
        A pair for each fold; none where no row can be held out.
    """
    units = np.arange(data.images) if data.groups is None else data.groups
    folds = deal(targets[:: data.views], units, FOLDS).repeat(data.views)
    splits = []
    for fold in range(FOLDS):
        is_held = folds == fold
        only_there = targets.any(axis=0) & ~targets[~is_held].any(axis=0)
        is_held &= ~targets[:, only_there].any(axis=1)
        if is_held.any():
            splits.append((np.flatnonzero(~is_held), np.flatnonzero(is_held)))
    return splits


def deal(
    targets: np.ndarray, units: np.ndarray, folds: int, random: np.random.Generator | None = None
) -> np.ndarray:
    """Give each image its fold, so that all folds have about the same share of each class.

    Images of the same classes are dealt evenly, as far as their number can be divided by that of the folds.
    What is left of them, and images that stay together, go one after the other, the large units first, to
    the fold in which the classes' shares are then spread least, as in scikit-learn's `StratifiedGroupKFold`.

    Args:
        targets: (N, C) of 0 and 1: whether an image has each class.
        units: (N,) a number per image; those of the same number stay together.
        folds: How many there are.
        random: Deals images of the same classes in another order than theirs.

    Returns:
        (N,) int64.
    """
    _, unit, sizes = np.unique(units, return_inverse=True, return_counts=True)
    order = np.arange(len(unit)) if random is None else random.permutation(len(unit))
    output = np.full(len(unit), -1, np.int64)
    single = order[sizes[unit[order]] == 1]
    kind = np.unique(np.packbits(targets[single] > 0, axis=1), axis=0, return_inverse=True)[1].ravel()
    single, kind = single[np.argsort(kind, kind="stable")], np.sort(kind)
    number = np.arange(len(kind)) - np.searchsorted(kind, kind)  # among those of its classes
    even = number < (np.bincount(kind) // folds * folds)[kind]
    output[single[even]] = number[even] % folds
    return _fill(output, targets, unit, sizes, order, folds)


def _fill(
    output: np.ndarray,
    targets: np.ndarray,
    unit: np.ndarray,
    sizes: np.ndarray,
    order: np.ndarray,
    folds: int,
) -> np.ndarray:
    """Place the units that are left, each where the sum of squared shares grows least."""
    counted = np.column_stack([targets, np.ones(len(targets))])  # the last column balances the images
    weights = np.maximum(counted.sum(axis=0), 1) ** -2.0
    held = np.stack([counted[output == fold].sum(axis=0) for fold in range(folds)])
    left = order[output[order] < 0]
    left = left[np.argsort(-sizes[unit[left]], kind="stable")]
    members: dict[int, list[int]] = {}
    for place in left.tolist():
        members.setdefault(int(unit[place]), []).append(place)
    for places in members.values():
        own = counted[places].sum(axis=0)
        fold = int(np.argmin(held @ (own * weights)))
        held[fold] += own
        output[places] = fold
    return output

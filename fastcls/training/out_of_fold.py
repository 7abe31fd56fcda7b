"""What a head says of each image when it was not fitted on it: predictions of cross-validation.

Rows in, probabilities out: no cache, no image, and for the kinds of head that are fitted at once no
TensorFlow.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from fastcls.data.readers.entries import some
from fastcls.errors import DataError, OptionError
from fastcls.specs import HEADS, HeadSpec
from fastcls.tasks import Task
from fastcls.training.heads.folds import FOLDS, Folded, deal, hold_out
from fastcls.training.heads.links import LINKS
from fastcls.training.rows.selection import unit_numbers
from fastcls.wording import count_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """Predictions of N images, each by a head that was fitted on the other folds.

    Attributes:
        by_repeat: (R, N, C) float32 probabilities.
        fold: (R, N) int64, the fold in which each image was held out, from 0.
        best: What the head chose, as `FittedHead.best`: the same for all folds.
        history: A row per candidate.
    """

    by_repeat: np.ndarray
    fold: np.ndarray
    best: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def probabilities(self) -> np.ndarray:
        """(N, C) float32, the mean over the repeats."""
        mean: np.ndarray = self.by_repeat.mean(axis=0)
        return mean


def out_of_fold(
    rows: np.ndarray,
    labels: np.ndarray,
    task: Task,
    classes: int,
    *,
    folds: int = FOLDS,
    repeats: int = 1,
    groups: Sequence[str] | np.ndarray | None = None,
    seed: int = 0,
    spec: HeadSpec | None = None,
    views: tuple[np.ndarray, np.ndarray] | None = None,
    progress: bool = False,
) -> OutOfFold:
    """Predict each image by a head that is fitted on the other folds.

    Folds have about the same share of each class. Images of a group stay together, and so do images of the
    same features. What the head has to choose (C, k, the temperature) is chosen once, by the loss of the
    held-out rows of the first repeat: see docs/training.md for what that does to the figures.

    Args:
        rows: (N, D) float32 features.
        labels: One per image, encoded by the task.
        task: What the labels are of.
        classes: The number C of classes.
        folds: How many; at most as many as there are images that may be apart.
        repeats: How often the images are dealt anew.
        groups: Group of each image, as a name or a number; "" for an image of no group.
        seed: Of the dealing.
        spec: A kind of head that is fitted at once; logistic regression by default.
        views: Features of further views (V, D), and which image each is of (V,): they are fitted on together
            with their image, and not predicted.
        progress: Show a bar on stderr.

    Raises:
        DataError: No two images may be apart.
        OptionError: The head is trained in epochs.
    """
    spec = spec or HeadSpec("logreg")
    if not spec.is_fitted:
        kinds = ", ".join(name for name, kind in HEADS.items() if kind.fit)
        raise OptionError(
            f"Only heads that are fitted at once have such folds: {kinds}. Received: {spec.kind}"
        )
    targets, units = LINKS[task].targets(labels, classes), units_of(rows, groups)
    dealt = deal_repeatedly(targets, units, folds=folds, repeats=repeats, seed=seed)
    image = np.arange(len(rows))
    if views:
        rows, image = np.concatenate([rows, views[0]]), np.concatenate([image, views[1]])
    count = int(dealt[0].max()) + 1
    splits = [
        (np.flatnonzero(fold[image] != number), np.flatnonzero(fold == number))
        for fold in dealt
        for number in range(count)
    ]
    folded = Folded(rows, labels[image], targets[image], task, splits, count)
    found = hold_out(spec, folded, progress=progress)
    output = np.empty((repeats, len(labels), classes), np.float32)
    for number, ((_, held), probabilities) in enumerate(zip(splits, found.probabilities, strict=True)):
        output[number // count, held] = probabilities
    return OutOfFold(output, dealt, found.best, found.history)


def units_of(rows: np.ndarray, groups: Sequence[str] | np.ndarray | None = None) -> np.ndarray:
    """A number per image: the same for those of a group and those of the same features.

    Args:
        rows: (N, D) features.
        groups: See `out_of_fold`.
    """
    keys = [str(hash(row.tobytes())) for row in rows]
    named = [""] * len(rows) if groups is None else np.asarray(groups).astype(str).tolist()
    return unit_numbers(keys, named)


def require_separable(units: np.ndarray, targets: np.ndarray, class_names: Sequence[str], folds: int) -> None:
    """Refuse more folds than there are images that may be apart, and warn of classes that are not.

    Args:
        units: See `units_of`.
        targets: (N, C) of 0 and 1: whether an image has each class.
        class_names: The C classes.
        folds: How many.

    Raises:
        DataError: There are fewer images than folds that may be apart.
    """
    found = len(np.unique(units))
    if found < folds:
        raise DataError(
            f"--folds {folds} needs as many images that may be apart: identical ones and those of a group "
            f"stay together. Received: {len(units):,} images, {found:,} separable"
        )
    together = [
        name
        for name, has in zip(class_names, targets.T.astype(bool), strict=True)
        if has.any() and len(np.unique(units[has])) == 1
    ]
    if together:
        logger.warning(
            "All images of %s stay together: where they are held out, nothing of that class was fitted on",
            some(together),
        )


def deal_repeatedly(
    targets: np.ndarray, units: np.ndarray, *, folds: int, repeats: int, seed: int
) -> np.ndarray:
    """The fold of each image in each repeat: (R, N) int64; see `deal`.

    Raises:
        DataError: No two images may be apart.
    """
    separable = len(np.unique(units))
    if separable < 2:
        raise DataError(
            "Cross-validation needs two images that may be apart: identical ones and those of a group stay "
            f"together. Received: {count_of(len(units), 'image')}, {separable} separable"
        )
    random = np.random.default_rng(seed)
    return np.stack([deal(targets, units, min(folds, separable), random) for _ in range(repeats)])

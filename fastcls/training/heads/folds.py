"""Rows to train on, dealt into folds of which each is held out once."""

from __future__ import annotations

import numpy as np

from fastcls.training.rows.selection import LabeledRows

FOLDS = 5


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
    folds = _deal(data)
    splits = []
    for fold in range(FOLDS):
        is_held = folds == fold
        only_there = targets.any(axis=0) & ~targets[~is_held].any(axis=0)
        is_held &= ~targets[:, only_there].any(axis=1)
        if is_held.any():
            splits.append((np.flatnonzero(~is_held), np.flatnonzero(is_held)))
    return splits


def _deal(data: LabeledRows) -> np.ndarray:
    """The fold of each row: (N,) int."""
    groups = np.arange(data.images) if data.groups is None else data.groups
    labels = data.labels[:: data.views].reshape(data.images, -1)
    _, first, members = np.unique(groups, return_index=True, return_inverse=True)
    order = np.lexsort((first, *labels[first].T))  # by class, within it in the order of the rows
    folds = np.empty(len(first), np.int64)
    folds[order] = np.arange(len(order)) % FOLDS
    return folds[members].repeat(data.views)

"""In which order an epoch takes the images."""

from __future__ import annotations

import numpy as np


def balanced_places(labels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Draw as many places as there are rows, with replacement: the classes in turn, then a row of the class.

    Args:
        labels: (N,) indices of classes, or (N, C) of 0 and 1. Rows of several classes are drawn for each of
            them; those of none are drawn as if they were of one class more.
        random: Where chance comes from.

    Returns:
        (N,) int64, shuffled.
    """
    if labels.ndim == 1:
        pools = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    else:
        columns = [*labels.T.astype(bool), ~labels.any(axis=1)]
        pools = [np.flatnonzero(column) for column in columns if column.any()]
    # Each class N // C times, and some of them, chosen by chance, once more.
    order = random.permutation(len(pools))
    drawn = [
        pools[pool][random.integers(len(pools[pool]), size=len(range(place, len(labels), len(pools))))]
        for place, pool in enumerate(order)
    ]
    return random.permutation(np.concatenate(drawn))


def epoch_random(seed: int | None, epoch: int) -> np.random.Generator | None:
    """Where the chance of an epoch comes from; None without a seed."""
    return None if seed is None else np.random.default_rng((seed, epoch))


def draw_images(labels: np.ndarray, random: np.random.Generator | None, *, balanced: bool) -> np.ndarray:
    """Places of the images of an epoch, in its order: (N,) int64.

    Args:
        labels: (N, ...) of the images.
        random: Where chance comes from; None for their own order.
        balanced: Draw with replacement, each class equally often.
    """
    if random is None:
        return np.arange(len(labels))
    return balanced_places(labels, random) if balanced else random.permutation(len(labels))

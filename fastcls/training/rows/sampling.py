"""In which order an epoch takes the images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastcls.tasks import Task


def balanced_places(pools: Sequence[np.ndarray], count: int, random: np.random.Generator) -> np.ndarray:
    """Draw as many places as there are rows, with replacement: the classes in turn, then a row of the class.

    Args:
        pools: The places of each class, as `Task.pools` finds them.
        count: How many rows there are.
        random: Where chance comes from.

    Returns:
        (N,) int64, shuffled.
    """
    # Each class N // C times, and some of them, chosen by chance, once more.
    order = random.permutation(len(pools))
    drawn = [
        pools[pool][random.integers(len(pools[pool]), size=len(range(place, count, len(pools))))]
        for place, pool in enumerate(order)
    ]
    return random.permutation(np.concatenate(drawn))


def epoch_random(seed: int | None, epoch: int) -> np.random.Generator | None:
    """Where the chance of an epoch comes from; None without a seed."""
    return None if seed is None else np.random.default_rng((seed, epoch))


def draw_images(
    labels: np.ndarray, random: np.random.Generator | None, task: Task, *, balanced: bool
) -> np.ndarray:
    """Places of the images of an epoch, in its order: (N,) int64.

    Args:
        labels: (N, ...) of the images.
        random: Where chance comes from; None for their own order.
        task: What the labels are of.
        balanced: Draw with replacement, each class equally often.
    """
    if random is None:
        return np.arange(len(labels))
    if not balanced:
        return random.permutation(len(labels))
    return balanced_places(task.pools(labels), len(labels), random)

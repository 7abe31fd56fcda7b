"""Which images to label next: those that a run is unsure of, unlike all that is labeled and each other.

Of the images with the smallest margins, those are taken one after the other that are farthest from all
labeled ones and those taken before: the greedy k-center of Sener and Savarese, "Active Learning for
Convolutional Neural Networks: A Core-Set Approach" (2018), on bottlenecks at unit length.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastcls.training.heads.fitting import at_unit_length

# So many of the least sure images are chosen from, for each that is suggested.
_POOL = 5
_BLOCK = 4096


@dataclass(frozen=True, eq=False)
class Choice:
    """Images that were chosen.

    Attributes:
        places: (K,) their places, the first choice first.
        nearest: (K,) the place of the labeled image that is most like each.
        similarities: (K,) cosine of both.
    """

    places: np.ndarray
    nearest: np.ndarray
    similarities: np.ndarray


def choose_to_label(rows: np.ndarray, margins: np.ndarray, labeled: np.ndarray, count: int) -> Choice:
    """Choose images to label.

    Args:
        rows: (N, D) bottlenecks of images without labels.
        margins: (N,) how clear the decision of a classifier for each is.
        labeled: (M, D) bottlenecks of images with labels.
        count: How many to choose; fewer where there are no more that differ.
    """
    pool = np.argsort(margins, kind="stable")[: _POOL * count]
    own = at_unit_length(rows[pool])
    nearest, similarities = _nearest(own, at_unit_length(labeled))
    likeness, chosen = similarities.copy(), []
    for _ in range(min(count, len(pool))):
        place = int(likeness.argmin())
        if likeness[place] >= 1 - 1e-6:  # only copies of what is labeled or chosen are left
            break
        chosen.append(place)
        likeness = np.maximum(likeness, own @ own[place])
        likeness[place] = np.inf
    places = np.array(chosen, np.int64)
    return Choice(pool[places], nearest[places], similarities[places])


def _nearest(rows: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The most similar of others (M, D) for each row (N, D), and the cosine, a block at a time."""
    places, best = np.zeros(len(rows), np.int64), np.full(len(rows), -np.inf, np.float32)
    for start in range(0, len(others), _BLOCK):
        products = rows @ others[start : start + _BLOCK].T
        found = products.argmax(axis=1)
        values = products[np.arange(len(rows)), found]
        is_better = values > best
        places[is_better], best[is_better] = found[is_better] + start, values[is_better]
    return places, best

"""The most similar images of each image, by the cosine of their features, in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from fastcls.training.heads.fitting import at_unit_length

NEIGHBORS = 20
# Above so many images, neighbors are looked for along so many axes of the features: the time grows with the
# square of the one, and with the other.
MOST_WHOLE = 10_000
AXES = 128
_BLOCK = 4096
_MEASURED = 256  # images whose neighbors are measured at once


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The k most similar images of each of N.

    Attributes:
        similarities: (N, k) float32, cosines, descending.
        places: (N, k) int64, which images they are.
    """

    similarities: np.ndarray
    places: np.ndarray

    @property
    def last(self) -> np.ndarray:
        """(N,) the similarity of the last of them."""
        last: np.ndarray = self.similarities[:, -1]
        return last

    def vote(self, targets: np.ndarray, temperature: float) -> np.ndarray:
        """What the neighbors of each image are, the similar ones counting more.

        As DINO's `eval_knn.py` (Caron et al. 2021) has it: a neighbor counts exp(similarity / temperature).

        Args:
            targets: (N, C) of 0 and 1.
            temperature: The lower, the more the nearest count.

        Returns:
            (N, C) float32 in 0 to 1.
        """
        weights = np.exp((self.similarities - self.similarities[:, :1]) / temperature)
        weights /= weights.sum(axis=1, keepdims=True)
        votes = np.zeros(targets.shape, np.float32)
        for number in range(weights.shape[1]):
            votes += weights[:, number, None] * targets[self.places[:, number]]
        return votes


def shorten(rows: np.ndarray) -> np.ndarray:
    """Features (N, D) at length 1; of more than `MOST_WHOLE` images along their principal axes.

    Returns:
        (N, D) or (N, AXES) float32.
    """
    if not _is_long(rows):
        return at_unit_length(rows)
    products = np.zeros((rows.shape[1], rows.shape[1]))
    for start in range(0, len(rows), _BLOCK):
        block = at_unit_length(rows[start : start + _BLOCK])
        products += block.T @ block
    axes = np.linalg.eigh(products)[1][:, -AXES:].astype(np.float32)
    blocks = (at_unit_length(rows[start : start + _BLOCK]) for start in range(0, len(rows), _BLOCK))
    return np.concatenate([block @ axes for block in blocks])


def _is_long(rows: np.ndarray) -> bool:
    return len(rows) > MOST_WHOLE and rows.shape[1] > AXES


def find_neighbors(
    rows: np.ndarray, short: np.ndarray, among: np.ndarray | None = None, k: int = NEIGHBORS
) -> Neighbors:
    """Find the most similar images of each image; itself is none of them.

    No more than a block of similarities is in memory at once. Of many images the neighbors are those along
    the axes; their similarities are those of the features.

    Args:
        rows: (N, D) features.
        short: The same of `shorten`.
        among: Places of those to choose from; None for all.
        k: How many, at most; there are fewer where there are not as many to choose from.
    """
    places = np.arange(len(short)) if among is None else among
    k = min(k, len(places) - 1)
    if k < 1:
        return Neighbors(np.empty((len(short), 0), np.float32), np.empty((len(short), 0), np.int64))
    similarities = np.empty((len(short), k), np.float32)
    found = np.empty((len(rows), k), np.int64)
    with threadpool_limits(1, user_api="blas"):  # scikit-learn's own threads share the work
        index = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(short[places])
        for start in range(0, len(short), _BLOCK):
            part = slice(start, min(start + _BLOCK, len(short)))
            distances, near = index.kneighbors(short[part])
            near = places[near]
            # Itself, or the last one where it is not among them, goes to the end and is left out.
            own = near == np.arange(part.start, part.stop)[:, None]
            order = np.argsort(own, axis=1, kind="stable")[:, :k]
            found[part] = np.take_along_axis(near, order, axis=1)
            similarities[part] = 1 - np.take_along_axis(distances, order, axis=1) ** 2 / 2
    near = Neighbors(similarities, found)
    return _measure(rows, near) if _is_long(rows) else near


def _measure(rows: np.ndarray, near: Neighbors) -> Neighbors:
    """The same neighbors with the cosines of their features, in their order."""
    similarities = np.empty_like(near.similarities)
    for start in range(0, len(rows), _MEASURED):
        part = slice(start, start + _MEASURED)
        own = at_unit_length(rows[part])
        others = rows[near.places[part]]  # (n, k, D)
        products = np.matmul(others, own[:, :, None])[..., 0]
        similarities[part] = products / np.maximum(np.linalg.norm(others, axis=2), 1e-12)
    order = np.argsort(-similarities, axis=1, kind="stable")
    return Neighbors(*(np.take_along_axis(each, order, axis=1) for each in (similarities, near.places)))

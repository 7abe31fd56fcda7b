"""Whether probabilities are what they say: confidence against accuracy, in bins."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

BINS = 15


@dataclass(frozen=True, eq=False)
class Reliability:
    """Confidence and accuracy in 15 bins of equal width, (0, 1/15], ... (14/15, 1].

    One label: of the predicted class of each image. Several labels: of each pair of an image and a class; the
    accuracy is the share of the pairs that are so.

    Attributes:
        counts: (15,) int64, how many images (or pairs) are in each bin.
        confidence: (15,) float64, their mean probability; NaN in an empty bin.
        accuracy: (15,) float64, the share of them that is right; NaN in an empty bin.
    """

    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @classmethod
    def of(cls, blocks: Iterable[tuple[np.ndarray, np.ndarray]]) -> Reliability:
        """Sort probabilities into bins.

        Args:
            blocks: Probabilities, and whether each was right: arrays of one shape.
        """
        sums = np.zeros((3, BINS))
        for values, is_right in blocks:
            values = values.ravel().astype(np.float64)
            place = np.clip(np.ceil(values * BINS).astype(np.int64) - 1, 0, BINS - 1)
            weights = (None, values, is_right.ravel().astype(np.float64))
            sums += [np.bincount(place, weight, BINS) for weight in weights]
        counts, confidence, right = sums
        means = np.full((2, BINS), np.nan)
        np.divide([confidence, right], counts, out=means, where=counts > 0)
        return cls(counts.astype(np.int64), *means)

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean of |accuracy - confidence| over images (Guo et al., 2017)."""
        is_used = self.counts > 0
        gaps = np.abs(self.accuracy - self.confidence)[is_used]
        return float((gaps * self.counts[is_used]).sum() / self.counts.sum())

    def rows(self) -> list[list[Any]]:
        """A table with a row per bin, with its header; "-" for what an empty bin has not."""
        edges = [f"{edge / BINS:.6f}" for edge in range(BINS + 1)]
        columns = (self.counts.tolist(), *map(_texts, (self.confidence, self.accuracy)))
        bins = zip(edges, edges[1:], *columns, strict=False)
        return [["low", "high", "count", "confidence", "accuracy"], *map(list, bins)]


def _texts(values: np.ndarray) -> list[str]:
    return ["-" if np.isnan(value) else f"{value:.6f}" for value in values]

"""Bootstrap intervals: how far figures would move on other test images of the same kind.

N of the N images are drawn with replacement, 1,000 times over, and the figures computed from what was drawn;
the interval holds the middle 95 % (the percentile bootstrap: Efron & Tibshirani, 1993, chapter 13). All
figures are computed from the same draws. The seed is fixed: the same predictions have the same intervals.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from fastcls.evaluation.influence import CLASS_FIGURES, influences
from fastcls.evaluation.ranked import columns_of

RESAMPLES = 1000
LEVEL = 0.95
_SEED = 0
_DECIMALS = 6
_EXACT = 1 << 15  # more images times classes than that, and the figures of each draw are linearized
_BLOCK = 1 << 16  # images times draws that are in memory at once


@dataclass(frozen=True, eq=False)
class ByImage:
    """What figures are made of, image by image.

    Attributes:
        means: (N,) of each figure that is a mean over images, by its name.
        has: Which images have the class of a label, (N,) bool.
        found: Which were predicted to have it, (N,) bool.
        scores: (N, C).
    """

    means: Mapping[str, np.ndarray]
    has: Callable[[int], np.ndarray]
    found: Callable[[int], np.ndarray]
    scores: np.ndarray


def intervals(by_image: ByImage) -> dict[str, tuple[float, float]]:
    """The interval of each figure; a figure that no draw has is left out.

    Besides `ByImage.means` they are `macro_`, `weighted_` and `micro_` `precision`, `recall` and `f1`,
    `mean_auroc` and `mean_average_precision`. A class that a draw has no image of is left out of the means of
    that draw.
    """
    images, classes = by_image.scores.shape
    figures = _exact(by_image) if images * classes <= _EXACT else _linear(by_image)
    drawn = [figures(weights) for weights in draws(images)]
    found = {name: _bounds([part[name] for part in drawn]) for name in drawn[0]}
    return {name: bounds for name, bounds in found.items() if bounds}


def mean_interval(values: np.ndarray) -> tuple[float, float]:
    """The interval of the mean of (N,) values, one per image."""
    bounds = _bounds([values @ weights / len(values) for weights in draws(len(values))])
    return bounds or (np.nan, np.nan)


def _bounds(values: list[np.ndarray]) -> tuple[float, float] | None:
    known = np.concatenate(values)
    known = known[~np.isnan(known)]
    if not len(known):
        return None
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).round(_DECIMALS).tolist()
    return low, high


def draws(images: int) -> Iterator[np.ndarray]:
    """How often each image was drawn, (N, draws) float64, some of the draws at a time."""
    random = np.random.default_rng(_SEED)
    step = max(1, _BLOCK // images)
    for start in range(0, RESAMPLES, step):
        count = min(step, RESAMPLES - start)
        drawn = random.integers(0, images, (count, images))
        weights = [np.bincount(row, minlength=images) for row in drawn]
        yield np.ascontiguousarray(np.array(weights, np.float64).T)


Figures = Callable[[np.ndarray], dict[str, np.ndarray]]


def _exact(by_image: ByImage) -> Figures:
    """The figures of images that were drawn so often."""
    images, classes = by_image.scores.shape
    has = np.array([by_image.has(label) for label in range(classes)])
    found = np.array([by_image.found(label) for label in range(classes)])
    ranked = [Ranked.of(*pair) for pair in zip(has, columns_of(by_image.scores), strict=True)]
    counted = [part.astype(np.float64) for part in (has & found, has, found)]

    def figures(weights: np.ndarray) -> dict[str, np.ndarray]:
        counts = (part @ weights for part in counted)
        means = {name: values @ weights / images for name, values in by_image.means.items()}
        return {**means, **_of_counts(*counts), **_of_ranks(ranked, weights)}

    return figures


def _of_counts(hits: np.ndarray, having: np.ndarray, found: np.ndarray) -> dict[str, np.ndarray]:
    """The averages of the scores of classes by their counts, (C, draws) each."""
    pairs = {"precision": (hits, found), "recall": (hits, having), "f1": (2 * hits, having + found)}
    figures = {}
    for name, (part, whole) in pairs.items():
        scores = part / np.maximum(whole, 1)
        figures[f"macro_{name}"] = mean_of_known(np.where(having > 0, scores, np.nan))
        figures[f"weighted_{name}"] = (scores * having).sum(axis=0) / np.maximum(having.sum(axis=0), 1)
        figures[f"micro_{name}"] = part.sum(axis=0) / np.maximum(whole.sum(axis=0), 1)
    return figures


def _of_ranks(ranked: list[Ranked], weights: np.ndarray) -> dict[str, np.ndarray]:
    found = np.array([one.figures(weights) for one in ranked])
    return {"mean_auroc": mean_of_known(found[:, 0]), "mean_average_precision": mean_of_known(found[:, 1])}


def mean_of_known(values: np.ndarray) -> np.ndarray:
    """The mean over the classes that have a figure: (C, draws) -> (draws,); NaN where none has it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        means: np.ndarray = np.nanmean(values, axis=0)
    return means


@dataclass(frozen=True, eq=False)
class Ranked:
    """The images by the falling score of a class, for the figures of `class_ranking`.

    Attributes:
        order: (N,) places of the images.
        own: (P,) places in that order of those that have the class.
        first: (P,) where the images of the same score begin.
        last: (P,) and end.
    """

    order: np.ndarray
    own: np.ndarray
    first: np.ndarray
    last: np.ndarray

    @classmethod
    def of(cls, has: np.ndarray, scores: np.ndarray) -> Ranked:
        """Those of a class: whether each image has it, (N,) bool, and (N,) scores."""
        order = np.argsort(-scores, kind="stable")
        falling, own = -scores[order], np.flatnonzero(has[order])
        first = np.searchsorted(falling, falling[own])
        return cls(order, own, first, np.searchsorted(falling, falling[own], "right") - 1)

    def figures(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """AUROC and average precision, (draws,) each, of images that were drawn so often."""
        drawn = weights[self.order]
        own = drawn[self.own]
        above, own_above = _running(drawn), _running(own)
        before, until = (np.searchsorted(self.own, part) for part in (self.first, self.last + 1))
        at_least, own_at_least = above[self.last + 1], own_above[until]
        ahead = (at_least - own_at_least + above[self.first] - own_above[before]) / 2
        total, having = above[-1], own_above[-1]
        with np.errstate(invalid="ignore", divide="ignore"):
            area = 1 - (own * ahead).sum(axis=0) / (having * (total - having))
            precision = (own * own_at_least / np.maximum(at_least, 1e-9)).sum(axis=0) / having
        return area, precision


def _running(values: np.ndarray) -> np.ndarray:
    """The sums of the rows before each row, and of all."""
    sums = np.zeros((len(values) + 1, values.shape[1]), values.dtype)
    values.cumsum(axis=0, out=sums[1:])
    return sums


def _linear(by_image: ByImage) -> Figures:
    """The figures of draws, by how each image moves those of all images."""
    images = len(by_image.scores)
    means = {name: float(values.mean()) for name, values in by_image.means.items()}
    centers, moves = influences(by_image.has, by_image.found, by_image.scores)
    names = [*means, *CLASS_FIGURES]
    center = np.array([*means.values(), *centers])
    each = [(values - means[name]) / images for name, values in by_image.means.items()]
    matrix = np.array([*each, *moves])

    def figures(weights: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(names, center[:, None] + matrix @ weights, strict=True))

    return figures

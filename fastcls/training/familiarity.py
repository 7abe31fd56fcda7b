"""How unlike the training images an image is, by its bottleneck.

It is the Mahalanobis distance to the nearest class mean, with one covariance for all classes (Lee et al., "A
Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks", 2018), of
bottlenecks at unit length (Mueller and Hein, "Mahalanobis++", arXiv 2505.18032). The covariance is shrunk
towards a multiple of the identity (Ledoit and Wolf, 2004); beyond its principal axes it is the same in all
directions.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from fastcls.training.heads.fitting import at_unit_length, feature_blocks, features
from fastcls.training.rows.selection import LabeledRows, Selection

# Of images that were not trained on, so many are within the limit.
_SHARE = 0.95
_AXES = 256
# Rows to take means and variances of, and of these to find the axes of: the time grows with their cube.
_ROWS, _AXES_ROWS = 4096, 800
# A class mean is of so many rows, or there is one mean for all.
_PER_CLASS = 5
_LEAST_ROWS = 8
_LEAST_VARIANCE = 1e-12  # at unit length; float32 has no less
# Of bottlenecks: maps are averaged, features that were not pooled would need a large file.
_RANK, _WIDTH = 4, 8192
_HELD_OUT = 5  # every fifth, where nothing is validated on
# Of fewer images nobody knows what 95 % of new ones are within: the largest of n distances holds n / (n + 1).
_LEAST_JUDGED = 19
# An image this much nearer to one that is trained on than these are to each other is a copy of it.
_COPY = 0.3


@dataclass(frozen=True, eq=False)
class Familiarity:
    """What the training images are like.

    Attributes:
        means: (M, D) float32, of the classes; or of all images.
        axes: (D, R) float32, along which images of a class spread most.
        variances: (R,) float32, along them.
        rest: Variance along any other axis.
        limit: The distance beyond which an image is unfamiliar.
        judged: How many images the limit comes from: 95 % of them are within it. They have no part in the
            means and variances.
    """

    means: np.ndarray
    axes: np.ndarray
    variances: np.ndarray
    rest: float
    limit: float
    judged: int

    def score(self, rows: np.ndarray) -> np.ndarray:
        """How unfamiliar images are: their distance, by the limit; above 1 they are unfamiliar.

        Args:
            rows: (N, D) bottlenecks, of any length.

        Returns:
            (N,) float32.
        """
        scores: np.ndarray = (self._distances(rows) / self.limit).astype(np.float32)
        return scores

    def _distances(self, rows: np.ndarray) -> np.ndarray:
        """Mahalanobis distances to the nearest mean, (N,)."""
        rows = at_unit_length(rows.astype(np.float32, copy=False))
        # Along the axes their variances count, all else as the rest.
        weights = 1 / self.variances.astype(np.float64) - 1 / self.rest
        own, its = (each.astype(np.float64) for each in (rows @ self.axes, self.means @ self.axes))
        along = _squared_distances(own, its, weights)
        squared = along + _squared_distances(rows, self.means, 1.0) / self.rest
        return np.sqrt(np.maximum(squared, 0).min(axis=1))

    @property
    def told(self) -> dict[str, Any]:
        """What fastcls.json and run.json say of it."""
        return {"means": len(self.means), "axes": len(self.variances), "judged": self.judged}

    def to_bytes(self) -> bytes:
        """As a file of NumPy (.npz)."""
        file = io.BytesIO()
        np.savez(file, **vars(self))
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Familiarity:
        """Read what `to_bytes` has written.

        Raises:
            ValueError, KeyError: It is damaged.
        """
        with np.load(io.BytesIO(data), allow_pickle=False) as known:
            arrays = known["means"], known["axes"], known["variances"]
            return cls(*arrays, float(known["rest"]), float(known["limit"]), int(known["judged"]))


def fit_familiarity(chosen: Selection) -> Familiarity | None:
    """Look at what is trained on; the limit is that of the images to validate on.

    Copies of images that are trained on tell nothing of new ones: they do not count. Where too few others are
    validated on, those trained on are judged as well, each fifth by the others.

    Args:
        chosen: Rows and labels. Where nothing is validated on, every fifth image is held out.

    Returns:
        None where there are too few images, or bottlenecks are too large.
    """
    own, held = _plain(chosen.train, _ROWS), chosen.val and _plain(chosen.val, _ROWS)
    places = np.arange(len(own))
    if held is None:
        is_held = places % _HELD_OUT == _HELD_OUT - 1
        own, held = _take(own, places[~is_held]), _take(own, places[is_held])
    shape = own.rows.take(places[:1]).read().shape[1:]
    if len(own) < _LEAST_ROWS or not len(held) or len(shape) > _RANK or shape[-1] > _WIDTH:
        return None
    with threadpool_limits(1, user_api="blas"):
        rows, classes = features(own), len(chosen.class_names)
        found = describe(rows, own.task.pools(own.labels), classes)
        distances = np.concatenate([_judge(found, rows, block) for _, block in feature_blocks(held)])
        if len(distances) < _LEAST_JUDGED:
            distances = np.concatenate([distances, *_judge_folds(own, rows, classes)])
    if len(distances) < _LEAST_JUDGED:
        return None
    distances.sort()
    # As in conformal prediction: of new images of the same kind, no more than 5 % are expected beyond.
    rank = min(len(distances), int(np.ceil(_SHARE * (len(distances) + 1))))
    return replace(found, limit=float(distances[rank - 1]) or 1.0, judged=len(distances))


def _judge(found: Familiarity, own: np.ndarray, held: np.ndarray) -> np.ndarray:
    """The distances of held-out rows (N, D) that are no copies of those that were looked at."""
    known = at_unit_length(own)
    some = np.arange(0, len(known), -(-len(known) // _AXES_ROWS))
    usual = np.median(_nearest(known[some], known, besides=some))
    is_copy = _nearest(at_unit_length(held), known) < _COPY * usual
    return found._distances(held[~is_copy])


def _nearest(rows: np.ndarray, others: np.ndarray, besides: np.ndarray | None = None) -> np.ndarray:
    """The distance of each row (N, D) at unit length to the nearest of others, but for one place in each."""
    cosines = rows @ others.T
    if besides is not None:
        cosines[np.arange(len(rows)), besides] = -1
    distances: np.ndarray = np.sqrt(np.maximum(2 - 2 * cosines.max(axis=1), 0))
    return distances


def _judge_folds(own: LabeledRows, rows: np.ndarray, classes: int) -> Iterator[np.ndarray]:
    """The distances of each fifth of the rows from what the others are like."""
    fold = np.arange(len(rows)) % _HELD_OUT
    for number in range(_HELD_OUT):
        held = fold == number
        found = describe(rows[~held], own.task.pools(own.labels[~held]), classes)
        yield _judge(found, rows[~held], rows[held])


def describe(rows: np.ndarray, pools: list[np.ndarray], classes: int) -> Familiarity:
    """Means and variances of images, without a limit.

    Args:
        rows: (N, D) their bottlenecks.
        pools: Places of those of each class; an image may be in several.
        classes: How many classes there are.
    """
    rows = at_unit_length(rows)
    if len(rows) < _PER_CLASS * classes:
        pools = [np.arange(len(rows))]
    means = np.stack([rows[pool].mean(axis=0) for pool in pools])
    # An image of several classes spreads about the nearest of their means.
    far = np.full((len(rows), len(means)), np.inf)
    for number, pool in enumerate(pools):
        far[pool, number] = ((rows[pool] - means[number]) ** 2).sum(axis=1)
    residuals = rows - means[far.argmin(axis=1)]
    axes = _axes(residuals[:: -(-len(residuals) // _AXES_ROWS)])
    variances = ((residuals @ axes) ** 2).mean(axis=0, dtype=np.float64)
    return _shrunk(means, axes, variances, residuals)


def _shrunk(means: np.ndarray, axes: np.ndarray, variances: np.ndarray, residuals: np.ndarray) -> Familiarity:
    """The covariance of residuals (N, D), shrunk as Ledoit and Wolf have it."""
    count, width = residuals.shape
    lengths = (residuals.astype(np.float64) ** 2).sum(axis=1)
    mean = lengths.mean() / width
    left = max(lengths.mean() - variances.sum(), 0.0)
    others = max(width - len(variances), 1)
    squares = (variances**2).sum() + left**2 / others  # of the eigenvalues
    noise = ((lengths**2).mean() - squares) / count
    spread = squares - mean**2 * width
    amount = min(1.0, max(noise, 0.0) / spread) if spread > 0 else 1.0
    kept = (1 - amount) * variances + amount * mean
    rest = (1 - amount) * left / others + amount * mean
    rest = max(rest, _LEAST_VARIANCE)
    return Familiarity(means, axes, np.maximum(kept, rest).astype(np.float32), float(rest), 1.0, 0)


def _axes(residuals: np.ndarray) -> np.ndarray:
    """The axes (D, R) float32 along which residuals (N, D) spread most, by the products of their rows."""
    variances, sides = np.linalg.eigh((residuals @ residuals.T).astype(np.float64))
    most = min(_AXES, residuals.shape[1])
    kept = np.flatnonzero(variances > max(variances[-1] * 1e-6, np.finfo(np.float32).tiny))[-most:]
    axes: np.ndarray = residuals.T @ (sides[:, kept] / np.sqrt(variances[kept])).astype(np.float32)
    return axes


def _squared_distances(rows: np.ndarray, means: np.ndarray, weights: np.ndarray | float) -> np.ndarray:
    """Weighted squared distances (N, M) float64 of rows (N, K) from means (M, K)."""
    rows, means = rows.astype(np.float64), means.astype(np.float64)
    products = (rows * weights) @ means.T
    own, its = (np.sum(each**2 * weights, axis=1) for each in (rows, means))
    found: np.ndarray = own[:, None] - 2 * products + its
    return found


def _plain(data: LabeledRows, most: int) -> LabeledRows:
    """At most so many of the images, spread over all, as they are without augmentation."""
    places = np.arange(data.images)[:: -(-data.images // most)] * data.views
    return _take(data, places)


def _take(data: LabeledRows, places: np.ndarray) -> LabeledRows:
    return LabeledRows(data.rows.take(places), data.labels[places], 1, data.task)

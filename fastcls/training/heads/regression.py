"""Logistic regression with an L2 penalty: the minimum that scikit-learn's `LogisticRegression` has, sooner.

It minimizes 1/2 |kernel|^2 + C * (sum over the rows of the cross-entropy), as scikit-learn does, with a
softmax or, for several labels, a sigmoid per class (one-vs-rest, all classes side by side). The bias is free.
L-BFGS starts from the solution of the C before, in coordinates in which the penalized loss is nearly round:
along the principal axes of the rows, each scaled by the curvature. There a few tens of iterations do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from fastcls.training.heads.links import Link

# Of the gradient per row, along the scaled axes: probabilities are then within 2e-3 of the minimum's.
TOLERANCE = 3e-5
_ITERATIONS = 500
# Axes are found for so many dimensions: the time grows with their cube. Above it, features are the axes.
_MOST_AXES = 4096
# Of the largest variance: along axes of less there is nothing but rounding.
_LEAST_VARIANCE = 1e-10
# How much is converted to float64 at a time.
_BLOCK = 1024


@dataclass(frozen=True)
class Solution:
    """A softmax layer, or a layer of sigmoids.

    Attributes:
        kernel: (D, C) float64.
        bias: (C,) float64.
        iterations: How many it took.
    """

    kernel: np.ndarray
    bias: np.ndarray
    iterations: int = 0

    def logits(self, rows: np.ndarray) -> np.ndarray:
        """The logits (N, C) float64 of rows (N, D) float32."""
        return (rows @ self.kernel.astype(np.float32)).astype(np.float64) + self.bias


class Regression:
    """Rows and their targets, to be fitted at one C after the other.

    Args:
        rows: (N, D) float32, about their mean and along their principal axes; along others it takes longer.
        targets: (N, C) of 0 and 1.
        link: From logits to probabilities.
    """

    def __init__(self, rows: np.ndarray, targets: np.ndarray, link: Link) -> None:
        self._rows, self._targets, self._link = rows, targets.astype(np.float64), link
        self._variances = np.einsum("nd,nd->d", rows, rows, dtype=np.float64) / len(rows)

    def fit(self, c: float, start: Solution | None = None, tolerance: float = TOLERANCE) -> Solution:
        """The minimum at one C.

        Args:
            c: The inverse strength of the penalty.
            start: Where to begin: a solution of a C nearby, or of most of the rows.
            tolerance: Of the gradient per row.
        """
        start = start or self._shares()
        penalty = self._link.penalty(self._targets.shape[1]) / (c * len(self._rows))
        scales = self._scales(start, penalty)
        found = minimize(
            self._objective,
            np.vstack([start.kernel / scales, start.bias]).ravel(),
            args=(scales, penalty),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": _ITERATIONS, "gtol": tolerance, "ftol": 1e-12},
        )
        weights = found.x.reshape(-1, self._targets.shape[1])
        return Solution(weights[:-1] * scales, weights[-1], int(found.nit))

    def _shares(self) -> Solution:
        """What knows how frequent each class is, and nothing else."""
        kernel = np.zeros((self._rows.shape[1], self._targets.shape[1]))
        return Solution(kernel, self._link.prior(self._targets.mean(axis=0)))

    def _scales(self, at: Solution, penalty: float) -> np.ndarray:
        """(D, 1): one by the root of the curvature along each axis, by the spread of the probabilities."""
        probabilities = self._link.probabilities(at.logits(self._rows))
        spread = np.mean(probabilities * (1 - probabilities))
        scales: np.ndarray = (spread * self._variances + penalty)[:, None] ** -0.5
        return scales

    def _objective(self, flat: np.ndarray, scales: np.ndarray, penalty: float) -> tuple[float, np.ndarray]:
        """What is minimized, by N C, and its gradient."""
        weights = flat.reshape(-1, self._targets.shape[1])
        kernel, bias = weights[:-1] * scales, weights[-1]
        logits = Solution(kernel, bias).logits(self._rows)
        errors = (self._link.probabilities(logits) - self._targets) / len(logits)
        loss = self._link.losses(logits, self._targets).mean() + penalty / 2 * np.sum(kernel**2)
        slopes = self._rows.T @ errors.astype(np.float32) + penalty * kernel
        return float(loss), np.vstack([slopes * scales, errors.sum(axis=0)]).ravel()


def principal_axes(rows: np.ndarray) -> np.ndarray | None:
    """The axes (D, R) float32 along which rows (N, D) spread; None for the features themselves.

    The minimum is the same along any orthogonal axes in whose span the rows lie.
    """
    if min(rows.shape) > _MOST_AXES:
        return None
    if len(rows) > rows.shape[1]:
        return np.linalg.eigh(_products(rows.T))[1].astype(np.float32)
    variances, sides = np.linalg.eigh(_products(rows))
    kept = variances > max(variances[-1] * _LEAST_VARIANCE, np.finfo(np.float32).tiny)
    axes: np.ndarray = rows.T @ (sides[:, kept] / np.sqrt(variances[kept])).astype(np.float32)
    return axes


def _products(rows: np.ndarray) -> np.ndarray:
    """All products of two rows of (M, L) float32: (M, M) float64."""
    products = np.zeros((len(rows), len(rows)))
    for start in range(0, rows.shape[1], _BLOCK):
        block = rows[:, start : start + _BLOCK].astype(np.float64)
        products += block @ block.T
    return products

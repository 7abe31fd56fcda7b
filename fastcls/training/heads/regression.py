"""Logistic regression with an L2 penalty: the minimum that scikit-learn's `LogisticRegression` has, sooner.

It minimizes 1/2 |kernel|^2 + C * (sum over the rows of the cross-entropy), as scikit-learn does, with a
softmax or, for several labels, a sigmoid per class (one-vs-rest, all classes side by side). The bias is free.
L-BFGS starts from the solution of the C before, in coordinates in which the penalized loss is nearly round:
along the principal axes of the rows, each scaled by the curvature. There a few tens of iterations do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

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


class Block(NamedTuple):
    """Some of the rows.

    Attributes:
        rows: (n, D) float32.
        labels: Of them, encoded by the task.
        targets: (n, C) float64 of 0 and 1.
    """

    rows: np.ndarray
    labels: np.ndarray
    targets: np.ndarray


class RegressionRows(Protocol):
    """Rows and their targets, a block at a time."""

    @property
    def link(self) -> Link:
        """From logits to probabilities."""

    @property
    def near(self) -> RegressionRows | None:
        """Some of them in memory, along their principal axes; None where all are."""

    def __len__(self) -> int:
        """How many rows there are."""

    def shares(self) -> np.ndarray:
        """The mean (C,) of the targets."""

    def blocks(self) -> Iterator[Block]:
        """All of them once; a block is valid until the next is asked for."""

    def onto_rows(self, kernel: np.ndarray) -> np.ndarray:
        """A kernel for axes, as a kernel (D, C) for the rows of blocks."""

    def onto_axes(self, slopes: np.ndarray) -> np.ndarray:
        """Its gradient (D, C) along the axes."""


def logits_of(rows: RegressionRows, solution: Solution) -> Iterator[tuple[Block, np.ndarray]]:
    """Each block, and the logits (n, C) float64 of its rows."""
    kernel = rows.onto_rows(solution.kernel).astype(np.float32)
    for block in rows.blocks():
        yield block, (block.rows @ kernel).astype(np.float64) + solution.bias


class Regression:
    """Rows to be fitted at one C after the other.

    Of rows that are read from the disk, the curvature is that of some of them, in memory: each step of a fit
    reads all of them about once.

    Args:
        rows: About their mean and along their principal axes; along others it takes longer.
    """

    def __init__(self, rows: RegressionRows) -> None:
        self._rows, self._link = rows, rows.link
        self._near = None if rows.near is None else Regression(rows.near)
        self._variances: np.ndarray = self._near._variances if self._near else _variances(rows)

    @property
    def width(self) -> int:
        """Of the rows along the axes."""
        return len(self._variances)

    def fit(self, c: float, start: Solution | None = None, tolerance: float = TOLERANCE) -> Solution:
        """The minimum at one C.

        Args:
            c: The inverse strength of the penalty.
            start: Where to begin: a solution of a C nearby, or of most of the rows.
            tolerance: Of the gradient per row.
        """
        start = start or self._shares()
        classes = len(start.bias)
        penalty = self._link.penalty(classes) / (c * len(self._rows))
        scales = self._scales(start, penalty)
        found = minimize(
            self._objective,
            np.vstack([start.kernel / scales, start.bias]).ravel(),
            args=(scales, penalty),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": _ITERATIONS, "gtol": tolerance, "ftol": 1e-12},
        )
        weights = found.x.reshape(-1, classes)
        return Solution(weights[:-1] * scales, weights[-1], int(found.nit))

    def _shares(self) -> Solution:
        """What knows how frequent each class is, and nothing else."""
        bias = self._link.prior(self._rows.shares())
        return Solution(np.zeros((self.width, len(bias))), bias)

    def _spread(self, at: Solution) -> float:
        """The mean of the probabilities' variances."""
        if self._near:
            return self._near._spread(at)
        (logits,) = (logits for _, logits in logits_of(self._rows, at))
        probabilities = self._link.probabilities(logits)
        return float(np.mean(probabilities * (1 - probabilities)))

    def _scales(self, at: Solution, penalty: float) -> np.ndarray:
        """(D, 1): one by the root of the curvature along each axis, by the spread of the probabilities."""
        scales: np.ndarray = (self._spread(at) * self._variances + penalty)[:, None] ** -0.5
        return scales

    def _objective(self, flat: np.ndarray, scales: np.ndarray, penalty: float) -> tuple[float, np.ndarray]:
        """What is minimized, by N C, and its gradient: sums over the blocks in float64."""
        weights = flat.reshape(len(scales) + 1, -1)
        kernel, bias = weights[:-1] * scales, weights[-1]
        loss, slopes, sums = 0.0, np.zeros(kernel.shape), np.zeros(bias.shape)
        for block, logits in logits_of(self._rows, Solution(kernel, bias)):
            errors = (self._link.probabilities(logits) - block.targets) / len(self._rows)
            loss += float(self._link.losses(logits, block.targets).sum())
            slopes += block.rows.T @ errors.astype(np.float32)
            sums += errors.sum(axis=0)
        loss = loss / len(self._rows) + float(penalty / 2 * np.sum(kernel**2))
        slopes = self._rows.onto_axes(slopes) + penalty * kernel
        return loss, np.vstack([slopes * scales, sums]).ravel()


def _variances(rows: RegressionRows) -> np.ndarray:
    sums = [np.einsum("nd,nd->d", b.rows, b.rows, dtype=np.float64) for b in rows.blocks()]
    variances: np.ndarray = sum(sums[1:], sums[0]) / len(rows)
    return variances


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

"""Magnitude pruning while a network is trained: the smallest weights become zero, and stay so.

The share of zeros rises as in Zhu and Gupta (2017, https://arxiv.org/abs/1710.01878), from none at the first
step to all that were asked for after half of the steps; the other half trains what is left.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

# The share is raised at most so often: each time all weights are sorted.
_MOVES = 100


class Pruner:
    """Prunes kernels.

    A weight that is zero before a step is zero after it: so the weights alone tell where the pruning stands,
    and a training goes on from a checkpoint as if it had not been interrupted.

    Args:
        kernels: Keras variables, by the names of their layers.
        share: How many of the weights of each are zero in the end.
        steps: Of the whole training.
    """

    def __init__(self, kernels: Mapping[str, Any], share: float, steps: int) -> None:
        self._kernels, self._share = kernels, share
        self._last = steps // 2
        self._every = max(1, self._last // _MOVES)
        self._masks: dict[str, Any] = {}
        self._is_begun = False

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, optimizers leave zeros at zero."""
        import keras

        earlier = {name: kernel.constraint for name, kernel in self._kernels.items()}
        for name, kernel in self._kernels.items():
            mask = keras.Variable(np.ones(kernel.shape, np.float32), trainable=False, autocast=False)
            self._masks[name], kernel.constraint = mask, _masked(mask, earlier[name])
        try:
            yield
        finally:
            for name, kernel in self._kernels.items():
                kernel.constraint = earlier[name]

    def share_at(self, step: int) -> float:
        """The share of zeros from a step on, counted from 0."""
        left = 1 - min(step / self._last, 1) if self._last else 0.0
        return self._share * (1 - left**3)

    def before(self, step: int) -> None:
        """Do what comes before a step, counted from 0 over all epochs."""
        is_due = step <= self._last and (step % self._every == 0 or step == self._last)
        if is_due or not self._is_begun:
            for name, kernel in self._kernels.items():
                self._prune(kernel, self._masks[name], self.share_at(step) if is_due else 0.0)
        self._is_begun = True

    def _prune(self, kernel: Any, mask: Any, share: float) -> None:
        weights = np.array(kernel)
        kept = weights != 0
        if count := round(share * weights.size):
            kept.flat[np.argpartition(np.abs(weights), count - 1, axis=None)[:count]] = False
        mask.assign(kept.astype(np.float32))
        kernel.assign(np.where(kept, weights, 0))

    @property
    def sparsity(self) -> float:
        """The share of zeros in all kernels together."""
        return share_of_zeros(count_zeros(self._kernels))


def count_zeros(kernels: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """How many "weights" kernels have, and how many of these are "zeros", by the names of their layers."""
    return {
        name: {"weights": int(np.prod(kernel.shape)), "zeros": int(np.sum(np.array(kernel) == 0))}
        for name, kernel in kernels.items()
    }


def share_of_zeros(counts: Mapping[str, Mapping[str, int]]) -> float:
    """The share of zeros in all kernels together."""
    weights = sum(each["weights"] for each in counts.values())
    return round(sum(each["zeros"] for each in counts.values()) / weights, 6)


def _masked(mask: Any, also: Any) -> Any:
    def constrain(kernel: Any) -> Any:
        return (kernel if also is None else also(kernel)) * mask

    return constrain

"""What heads that are fitted at once have in common: features in memory, figures, and the result."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from fastcls.errors import OptionError
from fastcls.parallel import ahead
from fastcls.specs import HeadSpec
from fastcls.training.rows import cached as feeder
from fastcls.training.rows.selection import LabeledRows

# Of a similarity, in the softmax over them; DINO's for k nearest neighbors (`eval_knn.py`).
TEMPERATURE = 0.07
# As Keras keeps probabilities from 0 in its cross-entropy, so that figures are those of `evaluate`.
_LEAST_PROBABILITY = 1e-7
# As Keras's UnitNormalization keeps lengths from 0.
_LEAST_LENGTH = 1e-12


@dataclass(frozen=True)
class FittedHead:
    """The head that was chosen, and what it was chosen from.

    Attributes:
        model: Keras model, bottleneck (B, ...) -> probabilities (B, C).
        history: A row per candidate: what makes it differ (the `HeadKind.step`), then loss, accuracy,
            val_loss and val_accuracy as far as they are known, and seconds; cv_loss and cv_accuracy are of
            training rows that were held out.
        best: The row of the head.
        before_refit: The head that the figures are of, and that all else is chosen with, where `model` was
            fitted to validation rows as well; None where that is `model`.
    """

    model: Any
    history: list[dict[str, float]]
    best: dict[str, float]
    before_refit: Any = None


class FitHead(Protocol):
    """Fits a kind of head at once; the table of heads names it."""

    def __call__(
        self,
        spec: HeadSpec,
        train: LabeledRows,
        val: LabeledRows | None,
        classes: int,
        *,
        progress: bool,
    ) -> FittedHead:
        """Fit a head to some rows.

        Args:
            spec: What is fitted.
            train: Rows to fit to; each of the classes has some. Labels are 0 to C - 1.
            val: Rows to choose on; None only where the table does not say that they are needed.
            classes: The number C of classes.
            progress: Show a bar on stderr.
        """


def fit_head(
    spec: HeadSpec, train: LabeledRows, val: LabeledRows | None, classes: int, **options: Any
) -> FittedHead:
    """Fit a head of any kind that is fitted at once; see `FitHead` for the options."""
    module, _, name = spec.traits.fit.partition(":")
    fit: FitHead = getattr(importlib.import_module(module), name)
    return fit(spec, train, val, classes, **options)


def feature_blocks(data: LabeledRows) -> Iterator[tuple[slice, np.ndarray]]:
    """The rows in order, a bounded number at a time, spatial ones averaged over their positions.

    The next block is read while one is worked with, into the place of the one before: a block is valid until
    the next is asked for.

    Yields:
        Where the rows are among all, and their features (n, D) float32.
    """
    first = data.rows.take(np.arange(1)).read()
    step = max(1, min(len(data), feeder.BLOCK_BYTES // first.nbytes))
    into = itertools.cycle([np.empty((step, *first.shape[1:]), first.dtype) for _ in range(2)])
    places = [slice(start, min(start + step, len(data))) for start in range(0, len(data), step)]

    def read(place: slice) -> np.ndarray:
        return data.rows.take(np.arange(place.start, place.stop)).read(next(into))

    for place, rows in zip(places, ahead(read, places, threads=1, depth=2), strict=True):
        # float32 halves the time of float64.
        block = rows.astype(np.float32, copy=False)
        yield place, block.reshape(len(block), -1, block.shape[-1]).mean(axis=1) if rows.ndim > 2 else block


def features(*parts: LabeledRows) -> np.ndarray:
    """All features of some rows, part by part: (N, D) float32."""
    output = np.empty((sum(map(len, parts)), width_of(parts[0])), np.float32)
    start = 0
    for part in parts:
        for place, block in feature_blocks(part):
            output[start + place.start : start + place.stop] = block
        start += len(part)
    return output


def width_of(data: LabeledRows) -> int:
    """How many features a row has."""
    return int(data.rows.take(np.arange(1)).read().shape[-1])


def at_unit_length(rows: np.ndarray) -> np.ndarray:
    """Rows (N, D) at length 1, as Keras's UnitNormalization makes them; rows of zeros stay."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.maximum(lengths, _LEAST_LENGTH)


def score(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Sums over rows of the cross-entropy and of right answers, by probabilities (N, C) and labels (N,)."""
    true = probabilities[np.arange(len(labels)), labels]
    losses = -np.log(np.clip(true, _LEAST_PROBABILITY, 1.0))
    return np.array([losses.sum(dtype=np.float64), np.sum(probabilities.argmax(axis=1) == labels)])


def require_memory(spec: HeadSpec, rows: Mapping[str, int], features: int) -> None:
    """Refuse a head whose rows do not fit into memory.

    Args:
        spec: What is fitted.
        rows: Rows of each use, "train" and "val".
        features: The length of each when it is averaged over its positions.

    Raises:
        OptionError: They need more memory than is allowed.
    """
    needed = 4 * features * sum(rows[use] for use in spec.traits.in_memory)
    allowed = feeder.allowed_memory()
    if needed > allowed:
        raise OptionError(
            f"--head {spec.kind} needs all bottlenecks in memory: {needed / 2**30:.1f} GiB, more than the "
            f"{allowed / 2**30:.1f} GiB that it may use. Use --head linear, which streams them, or --head "
            "prototype, which only keeps class means"
        )

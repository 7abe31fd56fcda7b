"""Weighted k nearest neighbors by cosine: a classifier without training that shows what features know.

As DINO's `eval_knn.py` (Caron et al. 2021; weights of Wu et al., "Unsupervised Feature Learning via
Non-Parametric Instance Discrimination", 2018): each of the k most similar training rows votes for its class
with exp(similarity / 0.07); the votes divided by their sum are the probabilities.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastcls.backend import import_keras
from fastcls.specs import HeadSpec
from fastcls.training.heads.fitting import (
    TEMPERATURE,
    FittedHead,
    at_unit_length,
    feature_blocks,
    features,
    score,
)
from fastcls.training.heads.folds import Folded, HeldOut
from fastcls.training.heads.network import named_head, pooled
from fastcls.training.rows import cached as feeder
from fastcls.training.rows.selection import LabeledRows

# DINO's 10, 20, 100 and 200, and fewer for data sets that have few images.
K_GRID = (1, 3, 5, 10, 20, 50, 100, 200)
# The best of DINO's on ImageNet, with all its bases.
DEFAULT_K = 20


def fit_knn(
    spec: HeadSpec, train: LabeledRows, val: LabeledRows | None, classes: int, *, progress: bool = False
) -> FittedHead:
    """Keep the training rows, and choose the k of the highest validation accuracy.

    Of equal accuracies the lower loss decides, then the smaller k. Values of the grid above the number
    of training rows are left out. There are no figures of the training rows: each is its own neighbor.

    Args:
        spec: Has no part in it.
        train: Rows to keep.
        val: Rows to choose on; without them k is `DEFAULT_K`, or as many as there are.
        classes: Number of classes.
        progress: Has no part in it.
    """
    started = time.monotonic()
    kernel = at_unit_length(features(train)).T  # (D, N)
    history: list[dict[str, float]]
    if val:
        history = _score_each(kernel, train.labels, val, classes)
    else:
        history = [{"k": min(DEFAULT_K, len(train))}]
    # The work is done for all at once: each has an even share of its time.
    seconds = round((time.monotonic() - started) / len(history), 4)
    history = [{**row, "seconds": seconds} for row in history]
    best = min(history, key=lambda row: (-row.get("val_accuracy", 0.0), row.get("val_loss", 0.0)))
    shape = train.rows.take(np.arange(1)).read().shape[1:]
    return FittedHead(neighbor_head(shape, kernel, train.labels, classes, int(best["k"])), history, best)


def _score_each(
    kernel: np.ndarray, labels: np.ndarray, val: LabeledRows, classes: int
) -> list[dict[str, float]]:
    """Loss and accuracy with each k of the grid."""
    grid = [k for k in K_GRID if k <= len(labels)]
    sums = np.zeros((len(grid), 2))
    for place, similarities, neighbors in _nearest(kernel, val, grid[-1]):
        for sum_, k in zip(sums, grid, strict=True):
            votes = _votes(similarities[:, :k], labels[neighbors[:, :k]], classes)
            sum_ += score(votes, val.labels[place])
    figures = zip(grid, (sums / len(val)).tolist(), strict=True)
    return [{"k": k, "val_loss": loss, "val_accuracy": right} for k, (loss, right) in figures]


def _nearest(kernel: np.ndarray, data: LabeledRows, k: int) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """The k most similar training rows of each row, by the operations of the head itself.

    Yields:
        Which rows, similarities (n, k) float32, descending, and places among the training rows (n, k) int32.
    """
    ops = import_keras().ops

    rows = ops.convert_to_tensor(kernel)
    step = max(1, feeder.BLOCK_BYTES // (4 * kernel.shape[1]))
    for place, block in feature_blocks(data):
        for start in range(0, len(block), step):
            part = at_unit_length(block[start : start + step])
            similarities, neighbors = ops.top_k(ops.matmul(part, rows), k)
            begin = place.start + start
            yield slice(begin, begin + len(part)), np.asarray(similarities), np.asarray(neighbors)


def hold_out_knn(spec: HeadSpec, folded: Folded, *, progress: bool = False) -> HeldOut:
    """Choose the k of the highest accuracy of held-out rows, and predict each with it."""
    rows, classes = at_unit_length(folded.rows), folded.targets.shape[1]
    fewest = min(len(own) for own, _ in folded.splits)
    grid = [k for k in K_GRID if k <= fewest]

    @functools.lru_cache(maxsize=folded.folds)
    def find(number: int) -> tuple[np.ndarray, np.ndarray]:
        own, held = folded.splits[number]
        similarities, places = _most_similar(rows[held], rows[own].T, grid[-1])
        return similarities, folded.labels[own][places]

    def predict(number: int, k: float) -> np.ndarray:
        similarities, labels = (found[:, : int(k)] for found in find(number))
        return _votes(similarities, labels, classes).astype(np.float32)

    history = folded.try_each("k", grid, predict) or [{"k": min(DEFAULT_K, fewest)}]
    best = min(history, key=lambda row: (-row.get("cv_accuracy", 0.0), row.get("cv_loss", 0.0)))
    return HeldOut([predict(number, best["k"]) for number in range(len(folded.splits))], history, best)


def _most_similar(rows: np.ndarray, kernel: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k most similar columns of a kernel (D, N) for each row (n, D), as `top_k` has them.

    Returns:
        Similarities (n, k) float32, descending, and places of the columns (n, k) int32.
    """
    similarities, places = np.empty((len(rows), k), np.float32), np.empty((len(rows), k), np.int32)
    step = max(1, feeder.BLOCK_BYTES // (4 * kernel.shape[1]))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        found = rows[part] @ kernel
        near = np.sort(np.argpartition(found, found.shape[1] - k, axis=1)[:, -k:], axis=1)
        found = np.take_along_axis(found, near, axis=1)
        order = np.argsort(-found, axis=1, kind="stable")
        similarities[part] = np.take_along_axis(found, order, axis=1)
        places[part] = np.take_along_axis(near, order, axis=1)
    return similarities, places


def _votes(similarities: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Class probabilities (N, C) from neighbors (N, k), the most similar first."""
    # Divided by the largest weight, which the division by the sum takes out again.
    weights = np.exp((similarities - similarities[:, :1]) / TEMPERATURE)
    count = len(labels)
    places = np.arange(count)[:, None] * classes + labels
    votes = np.bincount(places.ravel(), weights.ravel(), count * classes).reshape(count, classes)
    return votes / votes.sum(axis=1, keepdims=True)


def neighbor_head(
    shape: tuple[int, ...], kernel: np.ndarray, labels: np.ndarray, classes: int, k: int
) -> Any:
    """The neighbors as a Keras model: a dense layer holds the rows, an embedding their classes.

    Of equal similarities the row that comes first in the data set is taken, as `top_k` does.
    """
    keras = import_keras()
    layers, ops = keras.layers, keras.ops

    bottleneck = keras.Input(shape, name="bottleneck")
    x = layers.UnitNormalization(name="unit_length")(pooled(bottleneck))
    rows = layers.Dense(kernel.shape[1], use_bias=False, name="rows")
    similarities, places = ops.top_k(rows(x), k)
    # Divided by the largest weight, so that nothing overflows; the last line takes it out again.
    below = ops.subtract(similarities, ops.max(similarities, axis=-1, keepdims=True))
    weights = ops.exp(layers.Rescaling(1 / TEMPERATURE, name="temperature")(below))
    # One float per row, exact to 2 ** 24 classes: a table of one-hot rows would be C times as large.
    row_labels = layers.Embedding(kernel.shape[1], 1, name="row_labels")
    members = ops.one_hot(ops.cast(ops.squeeze(row_labels(places), axis=-1), "int32"), classes)
    votes = ops.einsum("bk,bkc->bc", weights, members)
    head = named_head(bottleneck, ops.divide(votes, ops.sum(votes, axis=-1, keepdims=True)))
    rows.set_weights([kernel])
    row_labels.set_weights([labels[:, None].astype(np.float32)])
    return head

"""The nearest class mean by cosine: a classifier without training.

Prototypes are those of Snell et al., "Prototypical Networks for Few-shot Learning" (2017), with cosine
similarity in place of their squared distance: bottlenecks at length 1 are averaged by class, and the
softmax of similarity / temperature over the classes is the probability.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastcls.backend import import_keras
from fastcls.specs import HeadSpec
from fastcls.training.heads.fitting import TEMPERATURE, FittedHead, at_unit_length, feature_blocks, score
from fastcls.training.heads.folds import Folded, HeldOut
from fastcls.training.heads.network import named_head, pooled
from fastcls.training.rows.selection import LabeledRows

# Tenths of a decade: what lies between two values changes no digit that matters.
TEMPERATURES = tuple(float(f"{10 ** (step / 10):.3g}") for step in range(-30, 1))


def fit_prototypes(
    spec: HeadSpec, train: LabeledRows, val: LabeledRows | None, classes: int, *, progress: bool = False
) -> FittedHead:
    """Average the bottlenecks of each class, and choose the temperature of the lowest validation loss.

    Args:
        spec: Has no part in it.
        train: Rows to average; each of the classes has some. They are read in blocks.
        val: Rows to choose on; without them the temperature is `TEMPERATURE`.
        classes: Number of classes.
        progress: Has no part in it.

    Returns:
        The head. Its history has a row per temperature, from low to high.
    """
    started = time.monotonic()
    kernel = _class_means(train, classes)
    grid = TEMPERATURES if val else (TEMPERATURE,)
    figures = [
        _score_each(kernel, train, grid, ""),
        *([_score_each(kernel, val, grid, "val_")] if val else []),
    ]
    # The work is done for all at once: each has an even share of its time.
    seconds = round((time.monotonic() - started) / len(grid), 4)
    history = [
        {"temperature": temperature, **{k: v for side in sides for k, v in side.items()}, "seconds": seconds}
        for temperature, *sides in zip(grid, *figures, strict=True)
    ]
    best = min(history, key=lambda row: row["val_loss"]) if val else history[0]
    shape = train.rows.take(np.arange(1)).read().shape[1:]
    return FittedHead(prototype_head(shape, kernel, best["temperature"]), history, best)


def hold_out_prototypes(spec: HeadSpec, folded: Folded, *, progress: bool = False) -> HeldOut:
    """Choose the temperature of the lowest loss of held-out rows, and predict each with it."""
    rows = at_unit_length(folded.rows)
    similarities = []
    for own, held in folded.splits:
        members = folded.targets[own]
        found = rows[held] @ at_unit_length(members.T @ rows[own]).T.astype(np.float32)
        found[:, ~members.any(axis=0)] = -np.inf  # classes without a row
        similarities.append(found)

    def predict(number: int, temperature: float) -> np.ndarray:
        return _softmax(similarities[number] / np.float32(temperature))

    history = folded.try_each("temperature", TEMPERATURES, predict) or [{"temperature": TEMPERATURE}]
    best = min(history, key=lambda row: row.get("cv_loss", 0.0))
    found = [predict(number, best["temperature"]) for number in range(len(folded.splits))]
    return HeldOut(found, history, best)


def _class_means(train: LabeledRows, classes: int) -> np.ndarray:
    """The mean of each class's rows at length 1, itself at length 1: (D, C) float32."""
    sums: Any = 0.0
    for place, block in feature_blocks(train):
        members = np.eye(classes)[train.labels[place]]
        sums = sums + members.T @ at_unit_length(block)
    return at_unit_length(sums).T.astype(np.float32)


def _score_each(
    kernel: np.ndarray, data: LabeledRows, temperatures: Sequence[float], prefix: str
) -> list[dict[str, float]]:
    """Loss and accuracy of some rows at each temperature."""
    sums = np.zeros((len(temperatures), 2))
    for place, block in feature_blocks(data):
        similarities = at_unit_length(block) @ kernel
        for sum_, temperature in zip(sums, temperatures, strict=True):
            sum_ += score(_softmax(similarities / temperature), data.labels[place])
    return [
        {f"{prefix}loss": loss, f"{prefix}accuracy": right} for loss, right in (sums / len(data)).tolist()
    ]


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def prototype_head(shape: tuple[int, ...], kernel: np.ndarray, temperature: float) -> Any:
    """The head of class means (D, C) at length 1, for bottlenecks of a shape."""
    keras = import_keras()
    layers = keras.layers

    bottleneck = keras.Input(shape, name="bottleneck")
    x = layers.UnitNormalization(name="unit_length")(pooled(bottleneck))
    prototypes = layers.Dense(kernel.shape[1], use_bias=False, name="prototypes")
    x = layers.Rescaling(1 / temperature, name="temperature")(prototypes(x))
    head = named_head(bottleneck, layers.Softmax(name="probabilities")(x))
    prototypes.set_weights([kernel])
    return head

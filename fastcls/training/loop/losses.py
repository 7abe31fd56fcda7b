"""Losses without regularization: cross-entropy or its focal form, with weights of the classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastcls.specs import LossSpec
from fastcls.tasks import ONE_LABEL, Task

# A class that has a smaller share of the images than this / e counts more with "log".
_RARE = 0.15
# Gamma of the focal loss, as in the paper (https://arxiv.org/abs/1708.02002) and in Keras.
_FOCUS = 2
# (labels, probabilities) -> the loss of each row.
Entropy = Callable[[Any, Any], Any]


def class_weights(
    kind: str, labels: np.ndarray, multiplier: float | None = None, *, task: Task = ONE_LABEL
) -> np.ndarray:
    """What having each class counts in a loss: (C,) float32.

    Args:
        kind: See `LossSpec.class_weight`.
        labels: Of all rows to train on, each class present.
        multiplier: See `LossSpec.class_weight_multiplier`.
        task: What the labels are of.

    >>> class_weights("balanced", np.array([0, 0, 0, 1])).tolist()
    [0.6666666865348816, 2.0]
    >>> from fastcls.tasks import SEVERAL_LABELS
    >>> targets = np.array([[1, 1], [0, 1], [0, 0], [0, 0]])
    >>> class_weights("balanced", targets, task=SEVERAL_LABELS).tolist()
    [3.0, 1.0]
    """
    counts = task.count(labels)
    if kind == "none":
        weights = np.ones(len(counts))
    elif kind == "log":
        weights = np.maximum(1, np.log((multiplier or _RARE) * len(labels) / counts))
    else:
        weights = task.balanced_weights(counts, len(labels), multiplier)
    return weights.astype(np.float32)


def categorical(name: str, spec: LossSpec, weights: np.ndarray) -> Entropy:
    """A loss of labels (B,) and probabilities (B, C), by its name in `keras.losses`."""
    from keras import losses, ops

    factors = ops.convert_to_tensor(weights)
    entropy_of = getattr(losses, name)

    def entropy(labels: Any, probabilities: Any) -> Any:
        labels = ops.cast(ops.reshape(labels, (-1,)), "int32")
        targets = ops.one_hot(labels, probabilities.shape[-1])
        entropies = entropy_of(targets, probabilities, label_smoothing=spec.label_smoothing)
        return entropies * ops.take(factors, labels)

    return entropy


def binary(name: str, spec: LossSpec, weights: np.ndarray) -> Entropy:
    """A loss of labels (B, C) of 0 and 1 and probabilities (B, C): the mean over the classes."""
    from keras import ops

    # Inside the loss: Keras's own class_weight does nothing for labels (B, C).
    factors = ops.convert_to_tensor(weights)
    smoothing = spec.label_smoothing

    def entropy(labels: Any, probabilities: Any) -> Any:
        has = ops.cast(labels, probabilities.dtype)
        targets = has * (1 - smoothing) + smoothing / 2
        # Element by element, which Keras's losses are not. Keras finds the logits before the sigmoid.
        entropies = ops.binary_crossentropy(targets, probabilities)
        if "focal" in name:
            likely = targets * probabilities + (1 - targets) * (1 - probabilities)
            entropies *= (1 - likely) ** _FOCUS
        return ops.mean(entropies * (1 + (factors - 1) * has), axis=-1)

    return entropy

"""The loss that is minimized: cross-entropy, and what was asked for besides."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcls.specs import LossSpec

# A class that has a smaller share of the images than this / e counts more with "log".
_RARE = 0.15


def build_loss(spec: LossSpec, model: Any, labels: np.ndarray) -> Any:
    """Build what Keras's `compile` takes as a loss of labels (B,) and probabilities (B, C).

    Args:
        spec: The loss.
        model: The head, whose kernels `l2` keeps small.
        labels: (N,) of all rows to train on, each class present.
    """
    from keras import losses, ops

    if spec == LossSpec():
        return "sparse_categorical_crossentropy"
    weights = ops.convert_to_tensor(class_weights(spec.class_weight, labels))
    kernels = [variable for variable in model.trainable_variables if len(variable.shape) > 1]

    def loss(labels: Any, probabilities: Any) -> Any:
        labels = ops.cast(ops.reshape(labels, (-1,)), "int32")
        targets = ops.one_hot(labels, probabilities.shape[-1])
        smoothing = spec.label_smoothing
        entropy = losses.categorical_crossentropy(targets, probabilities, label_smoothing=smoothing)
        squares = sum((ops.sum(ops.square(kernel)) for kernel in kernels), start=0.0)
        return entropy * ops.take(weights, labels) + spec.l2 * squares

    return loss


def class_weights(kind: str, labels: np.ndarray) -> np.ndarray:
    """What a row of each class counts: (C,) float32.

    >>> class_weights("balanced", np.array([0, 0, 0, 1])).tolist()
    [0.6666666865348816, 2.0]
    """
    counts = np.bincount(labels)
    if kind == "balanced":
        weights = len(labels) / (len(counts) * counts)
    elif kind == "log":
        weights = np.maximum(1, np.log(_RARE * len(labels) / counts))
    else:
        weights = np.ones(len(counts))
    return weights.astype(np.float32)

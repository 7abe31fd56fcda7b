"""The loss that is minimized: cross-entropy or its focal form, and what was asked for besides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastcls.specs import LossSpec

# A class that has a smaller share of the images than this / e counts more with "log".
_RARE = 0.15
# Gamma of the focal loss, as in the paper (https://arxiv.org/abs/1708.02002) and in Keras.
_FOCUS = 2


def build_loss(spec: LossSpec, model: Any, labels: np.ndarray) -> Any:
    """Build what Keras's `compile` takes as a loss.

    Args:
        spec: The loss.
        model: What is trained, whose trainable kernels `l2` keeps small.
        labels: Of all rows to train on, each class present: (N,) for a loss of labels (B,) and probabilities
            (B, C), (N, C) of 0 and 1 for one of such labels.

    Raises:
        OptionError: The loss does not fit the labels.
    """
    from keras import ops

    multi_label = labels.ndim > 1
    name = spec.named(multi_label=multi_label)
    if spec == LossSpec(name=spec.name) and "focal" not in name:
        return name if multi_label else f"sparse_{name}"
    weigh = _binary if multi_label else _categorical
    entropy = weigh(name, spec, labels)
    kernels = [variable for variable in model.trainable_variables if len(variable.shape) > 1]

    def loss(labels: Any, probabilities: Any) -> Any:
        squares = sum((ops.sum(ops.square(kernel)) for kernel in kernels), start=0.0)
        return entropy(labels, probabilities) + spec.l2 * squares

    return loss


def class_weights(kind: str, labels: np.ndarray, multiplier: float | None = None) -> np.ndarray:
    """What a row of each class counts, or, with labels (N, C), what having the class does: (C,) float32.

    The form for several labels is the `pos_weight` of
    https://pytorch.org/docs/stable/generated/torch.nn.BCEWithLogitsLoss.html.

    >>> class_weights("balanced", np.array([0, 0, 0, 1])).tolist()
    [0.6666666865348816, 2.0]
    >>> class_weights("balanced", np.array([[1, 1], [0, 1], [0, 0], [0, 0]])).tolist()
    [3.0, 1.0]
    """
    multi_label = labels.ndim > 1
    counts = labels.sum(axis=0) if multi_label else np.bincount(labels)
    if kind == "none":
        weights = np.ones(len(counts))
    elif kind == "log":
        weights = np.maximum(1, np.log((multiplier or _RARE) * len(labels) / counts))
    elif multi_label:
        weights = (multiplier or 1) * (len(labels) - counts) / counts
    else:
        weights = len(labels) / (len(counts) * counts)
    return weights.astype(np.float32)


def _categorical(name: str, spec: LossSpec, labels: np.ndarray) -> Callable[[Any, Any], Any]:
    from keras import losses, ops

    weights = ops.convert_to_tensor(class_weights(spec.class_weight, labels, spec.class_weight_multiplier))
    entropy_of = getattr(losses, name)

    def entropy(labels: Any, probabilities: Any) -> Any:
        labels = ops.cast(ops.reshape(labels, (-1,)), "int32")
        targets = ops.one_hot(labels, probabilities.shape[-1])
        entropies = entropy_of(targets, probabilities, label_smoothing=spec.label_smoothing)
        return entropies * ops.take(weights, labels)

    return entropy


def _binary(name: str, spec: LossSpec, labels: np.ndarray) -> Callable[[Any, Any], Any]:
    from keras import ops

    # Inside the loss: Keras's own class_weight does nothing for labels (B, C).
    weights = ops.convert_to_tensor(class_weights(spec.class_weight, labels, spec.class_weight_multiplier))
    smoothing = spec.label_smoothing

    def entropy(labels: Any, probabilities: Any) -> Any:
        has = ops.cast(labels, probabilities.dtype)
        targets = has * (1 - smoothing) + smoothing / 2
        # Element by element, which Keras's losses are not. Keras finds the logits behind the sigmoid.
        entropies = ops.binary_crossentropy(targets, probabilities)
        if "focal" in name:
            likely = targets * probabilities + (1 - targets) * (1 - probabilities)
            entropies *= (1 - likely) ** _FOCUS
        return ops.mean(entropies * (1 + (weights - 1) * has), axis=-1)

    return entropy

"""Figures of the validation rows after each epoch, whatever the loss that trains the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastcls.evaluation.ranked import class_auroc
from fastcls.training.rows.cached import Feed

# As in Keras: a probability of 0 or 1 has no infinite loss.
_EPSILON = 1e-7
# Finds the figures of the validation rows.
Validate = Callable[[], dict[str, float]]


def plain_validator(
    model: Any, val: Any, val_metrics: Sequence[Any], test: Callable[[Any, Any], Validate]
) -> Validate:
    """What finds val_loss, the mean cross-entropy, and val_accuracy.

    Args:
        model: Rows -> probabilities (B, C).
        val: Rows to validate on, their labels indices of classes.
        val_metrics: Keras metrics that see these rows; they hold what they saw until the next time.
        test: See `Passes.test`.
    """
    import keras

    examiner = keras.Model(model.inputs[0], model.outputs[0])
    examiner.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy", *val_metrics])
    run = test(examiner, val)
    return lambda: {f"val_{name}": value for name, value in run().items()}


def area_validator(
    model: Any, val: Any, val_metrics: Sequence[Any], test: Callable[[Any, Any], Validate]
) -> Validate:
    """What finds val_loss, the mean binary cross-entropy, and val_auroc, of all rows at once.

    Keras's own AUC counts in bins and averages over batches; the area is exact only over all rows. It is the
    mean over the classes that some rows have and some have not.

    Args:
        model: Rows -> probabilities (B, C).
        val: Rows to validate on, their labels (C,) of 0 and 1.
        val_metrics: Not used.
        test: Not used: the area needs the probabilities of all rows.
    """
    predict = predictor(model, val)

    def validate() -> dict[str, float]:
        targets, probabilities = predict()
        if not np.isfinite(probabilities).all():
            return {"val_loss": np.nan}
        area = float(np.nanmean(class_auroc(targets, probabilities)))
        return {"val_loss": _cross_entropy(targets, probabilities), "val_auroc": area}

    return validate


def predictor(model: Any, feeder: Feed) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
    """What returns the labels and the probabilities (N, C) float32 of one pass over a feeder's rows."""
    import tensorflow as tf

    @tf.function(input_signature=(tf.TensorSpec((None, *feeder.shape), feeder.dtype),))
    def forward(rows: Any) -> Any:
        return model(tf.cast(rows, model.inputs[0].dtype), training=False)

    traced = forward.get_concrete_function()

    def predict() -> tuple[np.ndarray, np.ndarray]:
        labels, probabilities = [], []
        for rows, found, order in feeder.blocks():
            for start in range(0, len(order), feeder.batch_size):
                places = order[start : start + feeder.batch_size]
                labels.append(np.asarray(found)[places])
                probabilities.append(np.asarray(traced(tf.gather(rows, places))))
        return np.concatenate(labels), np.concatenate(probabilities)

    return predict


def _cross_entropy(targets: np.ndarray, probabilities: np.ndarray) -> float:
    likely = np.where(targets, probabilities, 1 - probabilities).astype(np.float64)
    return float(-np.log(likely.clip(_EPSILON, 1 - _EPSILON)).mean())

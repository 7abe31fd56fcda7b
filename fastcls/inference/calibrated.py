"""Calibration inside a model: a layer between its logits and its probabilities."""

from __future__ import annotations

from typing import Any

from fastcls import graph
from fastcls.backend import import_keras
from fastcls.errors import OptionError
from fastcls.evaluation.calibration import Calibration

LAYER = "head_calibration"
_LOGITS = "head_logits"


def calibrated_model(model: Any, calibration: Calibration, activation: str) -> Any:
    """The same model with calibrated probabilities.

    Args:
        model: A head or a classifier: functional Keras model, one input -> probabilities (B, C). It stays as
            it is; both share their layers but for the last.
        calibration: What logits are multiplied by, and what is added.
        activation: What makes probabilities of logits: that of the task.

    Returns:
        Keras model of built-in layers.

    Raises:
        OptionError: It does not end with that activation.
    """
    keras = import_keras()
    last = graph.operation_of(model.outputs[0])
    name, logits = last.name, graph.replay(model, model.inputs[0], leave_out=[last])
    if isinstance(last, keras.layers.Dense) and last.activation is getattr(keras.activations, activation):
        logits = _without_activation(last, logits)
    elif not _is_only(last, activation):
        raise OptionError(
            f"Only a head that ends with a {activation} layer can be calibrated. Received: one that ends "
            f"with {type(last).__name__} ({name})"
        )
    scale, offset = map(list, (calibration.scale, calibration.offset))
    layer = keras.layers.Rescaling(scale, offset, name=LAYER, dtype="float32")
    graph.rename_apart([layer], taken=(operation.name for operation in graph.operations(model)))
    output = keras.layers.Activation(activation, name=name, dtype="float32")(layer(logits))
    return keras.Model(model.inputs[0], output, name=model.name)


def _without_activation(last: Any, features: Any) -> Any:
    """The logits of a dense layer that gives probabilities."""
    made = type(last).from_config({**last.get_config(), "activation": "linear", "name": _LOGITS})
    logits = made(features)
    made.set_weights(last.get_weights())
    return logits


def _is_only(last: Any, activation: str) -> bool:
    """Whether a layer is that activation and nothing else."""
    import keras

    if isinstance(last, keras.layers.Softmax):
        return activation == "softmax" and last.axis == -1
    is_activation = isinstance(last, keras.layers.Activation)
    return is_activation and last.activation is getattr(keras.activations, activation)

"""Heads: small Keras models, bottleneck -> class probabilities."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastcls import graph
from fastcls.backend import import_keras
from fastcls.errors import OptionError
from fastcls.graph import HEAD_PREFIX
from fastcls.machine import available_memory
from fastcls.sizes import format_bytes
from fastcls.specs import HeadSpec
from fastcls.tasks import ONE_LABEL, Task

_BYTES_PER_WEIGHT = 16  # itself, its gradient and the two moments of Adam, in float32


def build_head(
    spec: HeadSpec, shape: tuple[int, ...], classes: int, tail: Any = None, *, task: Task = ONE_LABEL
) -> Any:
    """Build a head that is trained by gradients.

    Args:
        spec: A linear head, a tail, or a user's function.
        shape: Shape of one bottleneck.
        classes: Number of classes.
        tail: Keras model of what follows in the base, bottleneck (B, *shape) -> features (B, D); its layers
            become part of the head.
        task: What is asked of an image; its activation is that of the last layer.

    Returns:
        Keras model, (B, *shape) float32 -> (B, classes) float32 probabilities.

    Raises:
        OptionError: The function cannot be loaded, or does not give class probabilities; or the layers do not
            fit in memory.
    """
    keras = import_keras()

    bottleneck = keras.Input(shape, name="bottleneck")
    if spec.is_function:
        return named_head(bottleneck, _output_of_function(spec.kind, bottleneck, classes, task))
    features = bottleneck if tail is None else graph.replay(tail, bottleneck)
    head = named_head(bottleneck, _stack(features, spec, classes, task.activation), known=tail)
    if tail is not None and not spec.train_batch_norm:
        for layer in filter(is_batch_norm, graph.operations(tail)):
            layer.trainable = False  # Keras then runs it as in inference
    return head


def is_batch_norm(operation: Any) -> bool:
    """Whether an operation of a graph is batch normalization."""
    import keras

    return isinstance(operation, keras.layers.BatchNormalization)


def named_head(bottleneck: Any, output: Any, known: Any = None) -> Any:
    """Make the model of a head, whose names are kept apart from the trunk's: they share one graph later.

    Layers of the model `known` keep their names.
    """
    import keras

    head = keras.Model(bottleneck, output)
    kept = {id(operation) for operation in graph.operations(known)} if known else set()
    for operation in graph.operations(head):
        if id(operation) not in kept:
            operation.name = f"{HEAD_PREFIX}{operation.name}"
    return head


def pooled(bottleneck: Any) -> Any:
    """A vector (B, C): a spatial bottleneck (B, ..., C) is averaged over positions, as linear probes do."""
    from keras import layers

    if len(bottleneck.shape) == 2:
        return bottleneck
    dimensions = len(bottleneck.shape) - 2
    if dimensions > 3:
        raise OptionError(
            f"The head averages maps of up to 3 dimensions. Received: bottlenecks of {bottleneck.shape[1:]}. "
            "Extract with --pool avg, max or flatten"
        )
    return getattr(layers, f"GlobalAveragePooling{dimensions}D")(name="average")(bottleneck)


def _stack(bottleneck: Any, spec: HeadSpec, classes: int, activation: str) -> Any:
    from keras import layers

    x = pooled(bottleneck)
    _require_memory([x.shape[-1], *(units for units in spec.layers if isinstance(units, int)), classes])
    if spec.bottleneck_norm == "batch":
        x = layers.BatchNormalization(name="normalized")(x)
    elif spec.bottleneck_norm == "l2":
        x = layers.UnitNormalization(name="normalized")(x)
    for place, value in enumerate(spec.layers, start=1):
        if isinstance(value, float):
            x = layers.Dropout(value, name=f"dropout_{place}")(x)
        else:
            x = layers.Dense(value, activation="relu", name=f"dense_{place}")(x)
    return layers.Dense(classes, activation=activation, name="probabilities")(x)


def _require_memory(widths: Sequence[int]) -> None:
    """Refuse dense layers, given by the widths between them, that memory cannot hold in training."""
    weights = sum(ours * theirs for ours, theirs in itertools.pairwise(widths))
    needed, free = _BYTES_PER_WEIGHT * weights, available_memory()
    if needed > free:
        raise OptionError(
            f"The layers {' -> '.join(map(str, widths))} of the head have {weights:,} weights, which take "
            f"{format_bytes(needed)} in training; {format_bytes(free)} are free. Choose smaller --layers"
        )


def _load_function(name: str) -> Callable[[Any, int], Any]:
    file, _, function = name.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise OptionError(f"Expected file.py:function for --head, with an existing file. Received: {name!r}")
    spec: Any = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        found: Callable[[Any, int], Any] = getattr(module, function)
    except Exception as error:  # whatever the user's file raises
        raise OptionError(f"Cannot load the head {name!r}: {type(error).__name__}: {error}") from error
    return found


def _output_of_function(name: str, bottleneck: Any, classes: int, task: Task) -> Any:
    function = _load_function(name)
    try:
        output = function(bottleneck, classes)
    except Exception as error:  # whatever the user's function raises
        raise OptionError(f"The head {name!r} raises {type(error).__name__}: {error}") from error
    _check_head(name, bottleneck, output, classes, task)
    return output


def _check_head(name: str, bottleneck: Any, output: Any, classes: int, task: Task) -> None:
    import keras

    if not isinstance(output, keras.KerasTensor) or tuple(output.shape) != (None, classes):
        received = getattr(output, "shape", type(output).__name__)
        raise OptionError(
            f"The head {name!r} must return a tensor of shape (None, {classes}), one probability per class. "
            f"Received: {received}"
        )
    head = keras.Model(bottleneck, output)
    foreign = [node.operation.name for node in graph.nodes(head) if not graph.is_built_in(node.operation)]
    if foreign:
        raise OptionError(
            f"The head {name!r} uses {', '.join(foreign)}: only Keras's own layers, without Lambda, make a "
            "classifier that loads everywhere"
        )
    _require_probabilities(name, head, task)


def _require_probabilities(name: str, head: Any, task: Task) -> None:
    shape = (4, *head.inputs[0].shape[1:])
    tried = head.predict_on_batch(np.random.default_rng(0).normal(size=shape).astype(np.float32))
    if not task.could_give(tried):
        raise OptionError(
            f"The head {name!r} must return probabilities of {task} per image: end it with a "
            f"{task.activation}"
        )

"""The graph of a Keras model: its nodes in order, replayed on other tensors, described, counted.

Keras has no public way to walk a functional graph; everything here that touches its private parts
(`_nodes_by_depth`, `Node.arguments`, as of Keras 3.6 to 3.15) is in this module alone.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np

from fastcls.files import DIGEST_BYTES, json_digest

# What decides how a layer is created or trained, but not what it computes.
_IRRELEVANT = ("name", "trainable", "seed", "build_config", "registered_name")
_IRRELEVANT_ENDINGS = ("_initializer", "_regularizer", "_constraint")


def nodes(model: Any) -> list[Any]:
    """The calls of a functional model's operations, in topological order, inputs left out."""
    by_depth = model._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth] if not node.is_input]


def replay(model: Any, tensor: Any) -> Any:
    """Call the operations of a functional model one by one on a tensor, nested models opened.

    On a symbolic tensor this adds the model's own layers, with their weights, to the graph of that
    tensor: a flat graph, where calling the model would add one opaque layer.

    Args:
        model: Functional or Sequential Keras model with one input.
        tensor: What takes the place of the model's input.

    Returns:
        The model's output for `tensor`.
    """
    model = getattr(model, "_functional", None) or model
    computed = {id(model.inputs[0]): tensor}
    for node in nodes(model):
        arguments, options = node.arguments.fill_in(computed)
        if hasattr(node.operation, "_nodes_by_depth") or getattr(node.operation, "_functional", None):
            outputs = replay(node.operation, arguments[0])
        else:
            outputs = node.operation(*arguments, **options)
        flat = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        computed.update((id(old), new) for old, new in zip(node.outputs, flat, strict=True))
    return computed[id(model.outputs[0])]


def multiply_adds(node: Any) -> int:
    """Multiply-adds of one call of a convolution or dense layer for one image; 0 for anything else."""
    kernels = [w for w in getattr(node.operation, "weights", ()) if w.path.endswith("kernel")]
    transposed = "Transpose" in type(node.operation).__name__
    positions = (node.input_tensors if transposed else node.outputs)[0].shape[1:-1]
    return math.prod(positions) * sum(math.prod(kernel.shape) for kernel in kernels)


def architecture_digest(model: Any) -> str:
    """Hash of what a functional model computes, whatever its layers are called."""
    place = {id(model.inputs[0]): 0}
    rows = []
    for node in nodes(model):
        inputs = [place[id(tensor)] for tensor in node.input_tensors]
        rows.append([type(node.operation).__name__, _describe(node), inputs])
        for tensor in node.outputs:
            place[id(tensor)] = len(place)
    return json_digest([list(model.inputs[0].shape), str(model.inputs[0].dtype), rows])


def weights_digest(model: Any) -> str:
    """Hash of a functional model's weights in the order in which they are used."""
    state = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for node in nodes(model):
        for weight in getattr(node.operation, "weights", ()):
            values = np.ascontiguousarray(weight.numpy())
            state.update(f"{values.shape}{values.dtype}".encode())
            state.update(values.data)
    return state.hexdigest()


def _describe(node: Any) -> Any:
    import keras

    config = keras.saving.serialize_keras_object(node.operation)["config"]
    constants = [repr(a) for a in node.arguments._flat_arguments if not isinstance(a, keras.KerasTensor)]
    return [_computing(config), constants]


def _computing(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _computing(inner) for key, inner in value.items() if not _is_irrelevant(key)}
    if isinstance(value, (list, tuple)):
        return [_computing(inner) for inner in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else repr(value)


def _is_irrelevant(key: str) -> bool:
    return key in _IRRELEVANT or key.endswith(_IRRELEVANT_ENDINGS)

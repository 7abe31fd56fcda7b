"""The bottleneck of an image beside its probabilities, out of one pass through a classifier."""

from __future__ import annotations

from typing import Any

from fastcls import graph
from fastcls.backend import import_keras
from fastcls.errors import OptionError
from fastcls.graph import HEAD_PREFIX
from fastcls.training.heads.network import pooled

_UNIT, _BOTH = "bottleneck_at_unit_length", "probabilities_and_bottleneck"


def with_bottleneck(model: Any) -> Any:
    """A classifier with one output: the probabilities (B, C), then the bottleneck (B, D) at unit length.

    It is one output, so that whatever converts and runs a classifier runs this one too.

    Args:
        model: A stitched classifier; it shares its layers.

    Raises:
        OptionError: It is not seen where its head begins.
    """
    keras = import_keras()
    tensors = {
        id(tensor): tensor
        for node in graph.nodes(model)
        if node.operation.name.startswith(HEAD_PREFIX)
        for tensor in node.input_tensors
        if not graph.operation_of(tensor).name.startswith(HEAD_PREFIX)
    }
    if len(tensors) != 1:
        raise OptionError("The classifier has no bottleneck: its head does not begin at one layer")
    (bottleneck,) = tensors.values()
    unit = keras.layers.UnitNormalization(name=_UNIT, dtype="float32")(pooled(bottleneck))
    output = keras.layers.Concatenate(name=_BOTH, dtype="float32")([model.outputs[0], unit])
    return keras.Model(model.inputs[0], output)

"""Fuse normalization, trunk and head into one Keras model that loads without fastcls."""

from __future__ import annotations

from typing import Any

from fastcls import graph
from fastcls.errors import OptionError
from fastcls.specs import check_type


def stitch(trunk: Any, head: Any) -> Any:
    """Join a trunk and a head.

    The result is one flat graph whose layers share their weights with both parts. Layers of the head
    whose names the trunk has too are renamed.

    Args:
        trunk: Keras model, RGB uint8 image (B, H, W, 3) -> bottleneck (B, ...), as `bottleneck_model`
            makes it and a cache keeps it.
        head: Keras model, bottleneck (B, ...) -> probabilities (B, C).

    Returns:
        Keras model, RGB uint8 image (B, H, W, 3) -> probabilities (B, C) float32.

    Raises:
        OptionError: The head does not take what the trunk gives.
    """
    import keras

    check_type("trunk", trunk, keras.Model)
    check_type("head", head, keras.Model)
    given, taken = trunk.outputs[0].shape[1:], head.inputs[0].shape[1:]
    if given != taken:
        raise OptionError(
            f"The head takes bottlenecks of {taken}. Received: a trunk with an output of {given}"
        )
    graph.rename_apart(graph.operations(head), taken=(o.name for o in trunk.operations))
    probabilities = graph.replay(head, trunk.outputs[0])
    return keras.Model(trunk.inputs[0], probabilities, name="classifier")

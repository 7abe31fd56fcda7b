"""Fuse normalization, trunk and head into one Keras model that loads without fastcls."""

from __future__ import annotations

from typing import Any

from fastcls import graph


def stitch(trunk: Any, head: Any) -> Any:
    """Join a trunk and a head.

    The result is one flat graph of built-in layers that share their weights with both parts.

    Args:
        trunk: Keras model, RGB uint8 image (B, H, W, 3) -> bottleneck (B, ...), as `bottleneck_model`
            makes it and a cache keeps it.
        head: Keras model, bottleneck (B, ...) -> probabilities (B, C).

    Returns:
        Keras model, RGB uint8 image (B, H, W, 3) -> probabilities (B, C) float32.
    """
    import keras

    probabilities = graph.replay(head, trunk.outputs[0])
    return keras.Model(trunk.inputs[0], probabilities, name="classifier")

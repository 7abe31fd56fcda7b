"""Inception-v4 (Szegedy et al. 2016, https://arxiv.org/abs/1602.07261).

The network of timm's `inception_v4`, whose ImageNet weights are those of TensorFlow-Slim. The layers are
named after the end points of TensorFlow-Slim: `mixed_5e`, `mixed_6h` and `mixed_7d` end the stages.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from fastcls.bases.zoo.branches import Branch, Conv, add_branches, add_conv
from fastcls.bases.zoo.tops import add_top

_STEM = {
    "conv2d_1a": Conv(32, 3, 2, "valid"),
    "conv2d_2a": Conv(32, 3, 1, "valid"),
    "conv2d_2b": Conv(64, 3),
}
_MIXED_3A: tuple[Branch, ...] = (["max"], [Conv(96, 3, 2, "valid")])
_MIXED_4A: tuple[Branch, ...] = (
    [Conv(64), Conv(96, 3, 1, "valid")],
    [Conv(64), Conv(64, (1, 7)), Conv(64, (7, 1)), Conv(96, 3, 1, "valid")],
)
_MIXED_5A: tuple[Branch, ...] = ([Conv(192, 3, 2, "valid")], ["max"])
_INCEPTION_A: tuple[Branch, ...] = (
    [Conv(96)],
    [Conv(64), Conv(96, 3)],
    [Conv(64), Conv(96, 3), Conv(96, 3)],
    ["avg", Conv(96)],
)
_REDUCTION_A: tuple[Branch, ...] = (
    [Conv(384, 3, 2, "valid")],
    [Conv(192), Conv(224, 3), Conv(256, 3, 2, "valid")],
    ["max"],
)
_INCEPTION_B: tuple[Branch, ...] = (
    [Conv(384)],
    [Conv(192), Conv(224, (1, 7)), Conv(256, (7, 1))],
    [Conv(192), Conv(192, (7, 1)), Conv(224, (1, 7)), Conv(224, (7, 1)), Conv(256, (1, 7))],
    ["avg", Conv(128)],
)
_REDUCTION_B: tuple[Branch, ...] = (
    [Conv(192), Conv(192, 3, 2, "valid")],
    [Conv(256), Conv(256, (1, 7)), Conv(320, (7, 1)), Conv(320, 3, 2, "valid")],
    ["max"],
)
_INCEPTION_C: tuple[Branch, ...] = (
    [Conv(256)],
    [Conv(384), (Conv(256, (1, 3)), Conv(256, (3, 1)))],
    [Conv(384), Conv(448, (3, 1)), Conv(512, (1, 3)), (Conv(256, (1, 3)), Conv(256, (3, 1)))],
    ["avg", Conv(256)],
)
_BLOCKS = {
    "mixed_3a": _MIXED_3A,
    "mixed_4a": _MIXED_4A,
    "mixed_5a": _MIXED_5A,
    **{f"mixed_5{letter}": _INCEPTION_A for letter in "bcde"},
    "mixed_6a": _REDUCTION_A,
    **{f"mixed_6{letter}": _INCEPTION_B for letter in "bcdefgh"},
    "mixed_7a": _REDUCTION_B,
    **{f"mixed_7{letter}": _INCEPTION_C for letter in "bcd"},
}


def build(
    include_top: bool = True,
    input_shape: tuple[int | None, int | None, int] = (299, 299, 3),
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
) -> Any:
    """Build Inception-v4 with random weights, for images normalized to -1..1.

    Args:
        include_top: With the classifier.
        input_shape: (H, W, 3), from 75 pixels.
        pooling: Without the classifier: "avg", "max", or None for the last feature map.
        classes: Number of classes.
        classifier_activation: Activation of the classifier; None for logits.

    Returns:
        Functional Keras model, (B, H, W, 3) -> (B, classes), or (B, 1536), or (B, H', W', 1536).
    """
    import keras

    image = keras.Input(input_shape, name="input")
    x = image
    for name, conv in _STEM.items():
        x = add_conv(x, conv, name)
    for name, branches in _BLOCKS.items():
        x = add_branches(x, branches, name, concat=name)
    x = add_top(
        x,
        include_top=include_top,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
    )
    return keras.Model(image, x, name="inceptionv4")


InceptionV4 = build


def _timm_name(layer: str) -> str:
    """Our `mixed_5b_branch1_0_conv` is timm's `features.6.branch1.0.conv`."""
    if layer == "predictions":
        return "last_linear"
    block = "_".join(layer.split("_")[:2])
    path = layer.removeprefix(f"{block}_").replace("_", ".")
    if block in ("mixed_3a", "mixed_5a"):
        path = re.sub(r"^branch\d", "conv", path)
    if _BLOCKS.get(block) is _INCEPTION_C:
        path = re.sub(r"^branch([12])\.", r"branch\1_", path)
    return f"features.{[*_STEM, *_BLOCKS].index(block)}.{path}"


SOURCES: dict[str, Callable[[str], str]] = {"timm": _timm_name}

"""What Inception networks are made of: parallel branches of convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Conv:
    """A convolution without bias, batch normalization with epsilon 0.001, and ReLU.

    Attributes:
        filters: Number of output channels.
        kernel: Its side, or (height, width).
        stride: Of both dimensions.
        padding: "same" or "valid".
    """

    filters: int
    kernel: int | tuple[int, int] = 1
    stride: int = 1
    padding: str = "same"


# "max": 3x3, stride 2; "avg": 3x3, stride 1; a pair of convolutions works side by side.
Step = Conv | tuple[Conv, Conv] | str
Branch = Sequence[Step]


def add_conv(x: Any, conv: Conv, name: str) -> Any:
    """Add the layers `NAME_conv`, `NAME_bn` and `NAME_relu`: (B, H, W, C) -> (B, H', W', filters)."""
    from keras import layers

    options = {"strides": conv.stride, "padding": conv.padding, "kernel_initializer": "he_normal"}
    x = layers.Conv2D(conv.filters, conv.kernel, **options, use_bias=False, name=f"{name}_conv")(x)
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-3, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def add_branches(x: Any, branches: Sequence[Branch], name: str, *, concat: str) -> Any:
    """Add branches side by side and put their channels together: (B, H, W, C) -> (B, H', W', C').

    Args:
        x: What each branch begins with.
        branches: The steps of each.
        name: Of the layers: `NAME_branch0_relu` or, in a branch of several steps, `NAME_branch0_1_relu`.
        concat: Name of the layer that puts the channels together.
    """
    from keras import layers

    outputs = []
    for number, steps in enumerate(branches):
        y = x
        for place, step in enumerate(steps):
            y = _add_step(y, step, f"{name}_branch{number}" + (f"_{place}" if len(steps) > 1 else ""))
        outputs.append(y)
    return layers.Concatenate(name=concat)(outputs)


def _add_step(x: Any, step: Step, name: str) -> Any:
    from keras import layers

    if isinstance(step, Conv):
        return add_conv(x, step, name)
    if isinstance(step, tuple):
        pair = [add_conv(x, conv, f"{name}{side}") for side, conv in zip("ab", step, strict=True)]
        return layers.Concatenate(name=f"{name}_concat")(pair)
    if step == "max":
        return layers.MaxPooling2D(3, strides=2, name=f"{name}_pool")(x)
    # TensorFlow's mean leaves the padding out, as `count_include_pad=False` does in torch.
    return layers.AveragePooling2D(3, strides=1, padding="same", name=f"{name}_pool")(x)

"""Inception-ResNet-v1 for faces, the "FaceNet" of David Sandberg (https://github.com/davidsandberg/facenet).

The network of facenet-pytorch (https://github.com/timesler/facenet-pytorch), after Szegedy et al. 2016,
https://arxiv.org/abs/1602.07261. It has an embedding of 512 features, `last_bn`, before its classifier.
Published weights know the faces of VGGFace2 (8631 people) or CASIA-WebFace (10575 people). They compare
embeddings by their direction: facenet-pytorch divides each by its length, these models do not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastcls.bases.zoo.branches import Branch, Conv, add_branches, add_conv
from fastcls.bases.zoo.tops import add_pooling

_EMBEDDING = 512
_STEM = {
    "conv2d_1a": Conv(32, 3, 2, "valid"),
    "conv2d_2a": Conv(32, 3, 1, "valid"),
    "conv2d_2b": Conv(64, 3),
    "maxpool_3a": "max",
    "conv2d_3b": Conv(80),
    "conv2d_4a": Conv(192, 3, 1, "valid"),
    "conv2d_4b": Conv(256, 3, 2, "valid"),
}
_MIXED_6A: tuple[Branch, ...] = (
    [Conv(384, 3, 2, "valid")],
    [Conv(192), Conv(192, 3), Conv(256, 3, 2, "valid")],
    ["max"],
)
_MIXED_7A: tuple[Branch, ...] = (
    [Conv(256), Conv(384, 3, 2, "valid")],
    [Conv(256), Conv(256, 3, 2, "valid")],
    [Conv(256), Conv(256, 3), Conv(256, 3, 2, "valid")],
    ["max"],
)


@dataclass(frozen=True)
class _Residual:
    branches: tuple[Branch, ...]
    scale: float


_BLOCK35 = _Residual(([Conv(32)], [Conv(32), Conv(32, 3)], [Conv(32), Conv(32, 3), Conv(32, 3)]), 0.17)
_BLOCK17 = _Residual(([Conv(128)], [Conv(128), Conv(128, (1, 7)), Conv(128, (7, 1))]), 0.10)
_BLOCK8 = _Residual(([Conv(192)], [Conv(192), Conv(192, (1, 3)), Conv(192, (3, 1))]), 0.20)
_LAST_BLOCK8 = _Residual(_BLOCK8.branches, 1.0)  # the one that no ReLU follows
_BLOCKS: dict[str, _Residual | tuple[Branch, ...]] = {
    **{f"block35_{number}": _BLOCK35 for number in range(1, 6)},
    "mixed_6a": _MIXED_6A,
    **{f"block17_{number}": _BLOCK17 for number in range(1, 11)},
    "mixed_7a": _MIXED_7A,
    **{f"block8_{number}": _BLOCK8 for number in range(1, 6)},
    "block8_6": _LAST_BLOCK8,
}


def build(
    include_top: bool = True,
    input_shape: tuple[int | None, int | None, int] = (160, 160, 3),
    pooling: str | None = None,
    classes: int = 8631,
    classifier_activation: str | None = "softmax",
) -> Any:
    """Build Inception-ResNet-v1 with random weights, for images normalized to (pixel - 127.5) / 128.

    Args:
        include_top: With the embedding `last_bn` and the classifier `logits` after it.
        input_shape: (H, W, 3), from 75 pixels.
        pooling: What comes without the classifier: "avg" for the embedding `last_bn`, "max" for the largest
            values of the last feature map, None for that map, `block8_6`.
        classes: Number of classes; 8631 in the weights of VGGFace2, 10575 in those of CASIA-WebFace.
        classifier_activation: Activation of the classifier; None for logits.

    Returns:
        Functional Keras model, (B, H, W, 3) -> (B, classes), or (B, 512), (B, 1792), (B, H', W', 1792).
    """
    import keras

    image = keras.Input(input_shape, name="input")
    x = _add_blocks(_add_stem(image))
    x = add_pooling(x, "avg" if include_top else pooling)
    if include_top or pooling == "avg":
        x = _add_embedding(x)
    if include_top:
        x = keras.layers.Dense(classes, activation=classifier_activation, name="logits")(x)
    return keras.Model(image, x, name="inceptionresnetv1")


InceptionResNetV1 = build


def _add_stem(x: Any) -> Any:
    from keras import layers

    for name, step in _STEM.items():
        if isinstance(step, Conv):
            x = add_conv(x, step, name)
        else:
            x = layers.MaxPooling2D(3, strides=2, name=name)(x)
    return x


def _add_blocks(x: Any) -> Any:
    for name, block in _BLOCKS.items():
        if isinstance(block, _Residual):
            x = _add_residual(x, block, name)
        else:
            x = add_branches(x, block, name, concat=name)
    return x


def _add_residual(x: Any, block: _Residual, name: str) -> Any:
    from keras import layers

    last = block is _LAST_BLOCK8
    y = add_branches(x, block.branches, name, concat=f"{name}_mixed")
    y = layers.Conv2D(x.shape[-1], 1, name=f"{name}_up")(y)
    if last:
        return layers.Add(name=name)([x, y])
    y = layers.Rescaling(block.scale, name=f"{name}_scale")(y)
    return layers.ReLU(name=name)(layers.Add(name=f"{name}_add")([x, y]))


def _add_embedding(x: Any) -> Any:
    from keras import layers

    x = layers.Dropout(0.6, name="dropout")(x)
    x = layers.Dense(_EMBEDDING, use_bias=False, name="last_linear")(x)
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-3, name="last_bn")(x)


def _facenet_name(layer: str) -> str:
    """Our `block17_2_branch1_0_conv` is facenet-pytorch's `repeat_2.1.branch1.0.conv`."""
    if layer in ("last_linear", "last_bn", "logits"):
        return layer
    kind, number, path = layer.split("_", 2)
    path = "conv2d" if path == "up" else path.replace("_", ".")
    if not kind.startswith("block"):
        return f"{kind}_{number}.{path}"
    if f"{kind}_{number}" == "block8_6":
        return f"block8.{path}"
    repeat = ("block35", "block17", "block8").index(kind) + 1
    return f"repeat_{repeat}.{int(number) - 1}.{path}"


SOURCES: dict[str, Callable[[str], str]] = {"facenet": _facenet_name}

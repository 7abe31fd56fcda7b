"""ShuffleNet V2 (Ma et al. 2018, https://arxiv.org/abs/1807.11164).

The networks of torchvision's `shufflenet_v2_*`. Each block ends in a layer `stage2_block4_out`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from fastcls.bases.zoo.tops import add_top

# Channels of stage 2 to 4 and of the last convolution.
VARIANTS = {
    "ShuffleNetV2_x0_5": (48, 96, 192, 1024),
    "ShuffleNetV2_x1_0": (116, 232, 464, 1024),
    "ShuffleNetV2_x1_5": (176, 352, 704, 1024),
    "ShuffleNetV2_x2_0": (244, 488, 976, 2048),
}
_STEM_CHANNELS = 24
_DEPTHS = {"stage2": 4, "stage3": 8, "stage4": 4}


def build(
    name: str,
    include_top: bool = True,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
) -> Any:
    """Build a ShuffleNet V2 with random weights, for images normalized as in torchvision.

    Args:
        name: Which of `VARIANTS`.
        include_top: With the classifier.
        input_shape: (H, W, 3), known numbers of pixels.
        pooling: Without the classifier: "avg", "max", or None for the last feature map.
        classes: Number of classes.
        classifier_activation: Activation of the classifier; None for logits.

    Returns:
        Functional Keras model, (B, H, W, 3) -> (B, classes), (B, C) or (B, H', W', C), where C is 1024, and
        2048 in ShuffleNetV2_x2_0.
    """
    import keras
    from keras import layers

    if None in input_shape:
        raise ValueError(f"ShuffleNet V2 takes images of one size. Received: input_shape={input_shape}")
    image = keras.Input(input_shape, name="input")
    x = layers.ZeroPadding2D(1, name="conv1_pad")(image)
    x = _add_conv(x, _STEM_CHANNELS, 3, "conv1", strides=2)
    x = layers.ZeroPadding2D(1, name="maxpool_pad")(x)  # zeros are the least after a ReLU
    x = layers.MaxPooling2D(3, strides=2, name="maxpool")(x)
    *stages, last = VARIANTS[name]
    for (stage, depth), channels in zip(_DEPTHS.items(), stages, strict=True):
        x = _add_down_block(x, channels // 2, f"{stage}_block1")
        for number in range(2, depth + 1):
            x = _add_block(x, channels // 2, f"{stage}_block{number}")
    x = _add_conv(x, last, 1, "conv5")
    x = add_top(
        x,
        include_top=include_top,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
    )
    return keras.Model(image, x, name=name.lower())


ShuffleNetV2_x0_5 = partial(build, "ShuffleNetV2_x0_5")
ShuffleNetV2_x1_0 = partial(build, "ShuffleNetV2_x1_0")
ShuffleNetV2_x1_5 = partial(build, "ShuffleNetV2_x1_5")
ShuffleNetV2_x2_0 = partial(build, "ShuffleNetV2_x2_0")


def _add_down_block(x: Any, channels: int, name: str) -> Any:
    """Half the height and width, twice `channels`: both branches see all channels."""
    left = _add_depthwise(x, f"{name}_branch1_dw", strides=2)
    left = _add_conv(left, channels, 1, f"{name}_branch1_pw")
    return _add_shuffle(left, _add_right_branch(x, channels, name, strides=2), name)


def _add_block(x: Any, channels: int, name: str) -> Any:
    """The first half of the channels goes by, the second is transformed."""
    from keras import ops

    left, right = ops.split(x, 2, axis=-1)
    return _add_shuffle(left, _add_right_branch(right, channels, name, strides=1), name)


def _add_right_branch(x: Any, channels: int, name: str, *, strides: int) -> Any:
    x = _add_conv(x, channels, 1, f"{name}_branch2_pw1")
    x = _add_depthwise(x, f"{name}_branch2_dw", strides=strides)
    return _add_conv(x, channels, 1, f"{name}_branch2_pw2")


def _add_shuffle(left: Any, right: Any, name: str) -> Any:
    """The channels of both in turn: l0, r0, l1, r1, ..."""
    from keras import layers

    _, height, width, channels = left.shape
    x = layers.Concatenate(name=f"{name}_concat")([left, right])
    x = layers.Reshape((height, width, 2, channels), name=f"{name}_groups")(x)
    x = layers.Permute((1, 2, 4, 3), name=f"{name}_shuffle")(x)
    return layers.Reshape((height, width, 2 * channels), name=f"{name}_out")(x)


def _add_conv(x: Any, filters: int, kernel: int, name: str, *, strides: int = 1) -> Any:
    from keras import layers

    x = layers.Conv2D(
        filters, kernel, strides=strides, use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv"
    )(x)
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def _add_depthwise(x: Any, name: str, *, strides: int) -> Any:
    from keras import layers

    x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
    x = layers.DepthwiseConv2D(
        3, strides=strides, use_bias=False, depthwise_initializer="he_normal", name=f"{name}_conv"
    )(x)
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(x)


# Places in torchvision's sequences of a convolution, batch normalization and, at times, a ReLU.
_PLACES = {
    "branch1_dw_conv": "branch1.0",
    "branch1_dw_bn": "branch1.1",
    "branch1_pw_conv": "branch1.2",
    "branch1_pw_bn": "branch1.3",
    "branch2_pw1_conv": "branch2.0",
    "branch2_pw1_bn": "branch2.1",
    "branch2_dw_conv": "branch2.3",
    "branch2_dw_bn": "branch2.4",
    "branch2_pw2_conv": "branch2.5",
    "branch2_pw2_bn": "branch2.6",
    "conv": "0",
    "bn": "1",
}


def _torchvision_name(layer: str) -> str:
    """Our `stage2_block1_branch2_dw_conv` is torchvision's `stage2.0.branch2.3`."""
    if layer == "predictions":
        return "fc"
    stage, path = layer.split("_", 1)
    if not stage.startswith("stage"):
        return f"{stage}.{_PLACES[path]}"
    block, path = path.split("_", 1)
    return f"{stage}.{int(block.removeprefix('block')) - 1}.{_PLACES[path]}"


SOURCES: dict[str, Callable[[str], str]] = {"torchvision": _torchvision_name}

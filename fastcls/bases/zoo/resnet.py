"""ResNet (arXiv:1512.03385), ResNeXt (arXiv:1611.05431) and SE-ResNet (arXiv:1709.01507) in one network.

ResNet and ResNeXt are those of torchvision: the stride of a stage is in its first 3x3 convolution. SE-ResNet
is the network that the authors of the paper trained and published: it has the strides of Caffe's ResNet, in
the first 1x1 convolution, and pools without padding after the stem. (timm calls it legacy_seresnet50; its own
seresnet50 is another network with layers of the same shapes.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastcls.bases.zoo.tops import add_top

STAGE_WIDTHS = (64, 128, 256, 512)
EXPANSION = 4  # output maps of a bottleneck block per unit of width
SQUEEZE = 16  # how many times narrower a squeeze is than what it gates


@dataclass(frozen=True)
class Variant:
    """What tells one network of the family from another.

    Attributes:
        depths: Blocks in each of the four stages.
        is_deep: Blocks of 1x1, 3x3 and 1x1 convolutions instead of two 3x3.
        groups: Groups of the 3x3 convolution.
        group_width: Maps in each group at the first stage.
        squeeze: With squeeze and excitation, and the strides and pooling of Caffe.
    """

    depths: tuple[int, int, int, int]
    is_deep: bool = True
    groups: int = 1
    group_width: int = 64
    squeeze: bool = False


VARIANTS = {
    "ResNet18": Variant((2, 2, 2, 2), is_deep=False),
    "ResNet34": Variant((3, 4, 6, 3), is_deep=False),
    "ResNeXt50_32x4d": Variant((3, 4, 6, 3), groups=32, group_width=4),
    "ResNeXt101_32x4d": Variant((3, 4, 23, 3), groups=32, group_width=4),
    "ResNeXt101_32x8d": Variant((3, 4, 23, 3), groups=32, group_width=8),
    "SEResNet50": Variant((3, 4, 6, 3), squeeze=True),
    "SEResNet101": Variant((3, 4, 23, 3), squeeze=True),
    "SEResNet152": Variant((3, 8, 36, 3), squeeze=True),
}


def build(
    name: str,
    include_top: bool = True,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
) -> Any:
    """Build a network of the family; the last block of stage N is called layerN_out.

    Args:
        name: Which of `VARIANTS`.
        include_top: With the classifier.
        input_shape: (height, width, channels).
        pooling: Without the classifier: "avg", "max", or None for the map of the last stage.
        classes: Outputs of the classifier.
        classifier_activation: Activation of the classifier; None for logits.

    Returns:
        Functional Keras model.
    """
    import keras
    from keras import layers

    variant = VARIANTS[name]
    image = keras.Input(input_shape, name="input")
    x = _convolution(image, 64, 7, "conv1", "bn1", stride=2)
    x = layers.ReLU(name="relu")(x)
    # Nothing here is below 0, so that padding with 0 changes no maximum. Caffe begins at the corner and lets
    # the last window stand out.
    x = layers.ZeroPadding2D(((0, 1), (0, 1)) if variant.squeeze else 1, name="maxpool_pad")(x)
    x = layers.MaxPooling2D(3, strides=2, name="maxpool")(x)
    for number, (depth, width) in enumerate(zip(variant.depths, STAGE_WIDTHS, strict=True), start=1):
        for place in range(depth):
            stride = 2 if place == 0 and number > 1 else 1
            end = f"layer{number}_out" if place == depth - 1 else f"layer{number}_{place}_out"
            x = _block(x, variant, width, stride, f"layer{number}_{place}", end)
    x = add_top(
        x,
        include_top=include_top,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
    )
    return keras.Model(image, x, name=name.lower())


ResNet18 = partial(build, "ResNet18")
ResNet34 = partial(build, "ResNet34")
ResNeXt50_32x4d = partial(build, "ResNeXt50_32x4d")
ResNeXt101_32x4d = partial(build, "ResNeXt101_32x4d")
ResNeXt101_32x8d = partial(build, "ResNeXt101_32x8d")
SEResNet50 = partial(build, "SEResNet50")
SEResNet101 = partial(build, "SEResNet101")
SEResNet152 = partial(build, "SEResNet152")


def _block(x: Any, variant: Variant, width: int, stride: int, name: str, end: str) -> Any:
    from keras import layers

    grow = _deep if variant.is_deep else _shallow
    y = grow(x, variant, width, stride, name)
    if variant.squeeze:
        y = _gate(y, f"{name}_se")
    if x.shape != y.shape:
        x = _convolution(x, y.shape[-1], 1, f"{name}_downsample_conv", f"{name}_downsample_bn", stride=stride)
    return layers.ReLU(name=end)(layers.Add(name=f"{name}_add")([y, x]))


def _shallow(x: Any, variant: Variant, width: int, stride: int, name: str) -> Any:
    from keras import layers

    x = _convolution(x, width, 3, f"{name}_conv1", f"{name}_bn1", stride=stride)
    x = layers.ReLU(name=f"{name}_relu1")(x)
    return _convolution(x, width, 3, f"{name}_conv2", f"{name}_bn2")


def _deep(x: Any, variant: Variant, width: int, stride: int, name: str) -> Any:
    from keras import layers

    inner = width * variant.group_width // STAGE_WIDTHS[0] * variant.groups
    first, second = (stride, 1) if variant.squeeze else (1, stride)
    x = _convolution(x, inner, 1, f"{name}_conv1", f"{name}_bn1", stride=first)
    x = layers.ReLU(name=f"{name}_relu1")(x)
    x = _convolution(x, inner, 3, f"{name}_conv2", f"{name}_bn2", stride=second, groups=variant.groups)
    x = layers.ReLU(name=f"{name}_relu2")(x)
    return _convolution(x, width * EXPANSION, 1, f"{name}_conv3", f"{name}_bn3")


def _gate(x: Any, name: str) -> Any:
    """Squeeze and excitation: each map times a number between 0 and 1 that the means of all maps give."""
    from keras import layers

    maps = x.shape[-1]
    gate = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(x)
    gate = layers.Conv2D(maps // SQUEEZE, 1, activation="relu", name=f"{name}_fc1")(gate)
    gate = layers.Conv2D(maps, 1, activation="sigmoid", name=f"{name}_fc2")(gate)
    return layers.Multiply(name=f"{name}_excite")([x, gate])


def _convolution(
    x: Any, maps: int, side: int, name: str, norm: str, *, stride: int = 1, groups: int = 1
) -> Any:
    """A convolution, padded alike on all sides as torch does, and its batch normalization."""
    from keras import layers

    if side > 1:
        x = layers.ZeroPadding2D(side // 2, name=f"{name}_pad")(x)
    convolution = layers.Conv2D(
        maps, side, strides=stride, groups=groups, use_bias=False, kernel_initializer="he_normal", name=name
    )
    return layers.BatchNormalization(epsilon=1e-5, momentum=0.9, name=norm)(convolution(x))


def _torchvision(layer: str) -> str:
    if layer == "predictions":
        return "fc"
    layer = layer.replace("downsample_conv", "downsample.0").replace("downsample_bn", "downsample.1")
    return layer.replace("_", ".")


def _senet(layer: str) -> str:
    if layer in ("conv1", "bn1"):
        return f"layer0.{layer}"
    return "last_linear" if layer == "predictions" else _torchvision(layer).replace(".se.", ".se_module.")


SOURCES: dict[str, Callable[[str], str]] = {
    "torchvision": _torchvision,
    "timm": _torchvision,
    "timm legacy_seresnet": _senet,
}

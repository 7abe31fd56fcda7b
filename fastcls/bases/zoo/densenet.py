"""DenseNet-264 (Huang et al. 2017, https://arxiv.org/abs/1608.06993), the deepest of the paper's Table 1.

The network that torchvision's or timm's `DenseNet(growth_rate=32, block_config=(6, 12, 64, 48))` makes, with
the layer names of its sisters DenseNet-121 to 201 in `keras.applications`: `conv4_block64_concat`, `relu`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastcls.bases.zoo.tops import add_top

# Layers of each dense block.
_DEPTHS = {"conv2": 6, "conv3": 12, "conv4": 64, "conv5": 48}
_TRANSITIONS = {"conv2": "pool2", "conv3": "pool3", "conv4": "pool4"}
_GROWTH = 32


def build(
    include_top: bool = True,
    input_shape: tuple[int | None, int | None, int] = (224, 224, 3),
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
) -> Any:
    """Build DenseNet-264 with random weights, for images normalized as in torchvision.

    Args:
        include_top: With the classifier.
        input_shape: (H, W, 3), from 29 pixels.
        pooling: Without the classifier: "avg", "max", or None for the last feature map.
        classes: Number of classes.
        classifier_activation: Activation of the classifier; None for logits.

    Returns:
        Functional Keras model, (B, H, W, 3) -> (B, classes), or (B, 2688), or (B, H', W', 2688).
    """
    import keras

    image = keras.Input(input_shape, name="input")
    x = _add_stem(image)
    for stage, depth in _DEPTHS.items():
        for number in range(1, depth + 1):
            x = _add_dense_layer(x, f"{stage}_block{number}")
        if stage in _TRANSITIONS:
            x = _add_transition(x, _TRANSITIONS[stage])
    x = _add_norm(x, "bn", "relu")
    x = add_top(
        x,
        include_top=include_top,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
    )
    return keras.Model(image, x, name="densenet264")


DenseNet264 = build


def _add_stem(x: Any) -> Any:
    from keras import layers

    x = layers.ZeroPadding2D(3, name="conv1_pad")(x)
    x = _add_conv(x, 2 * _GROWTH, 7, "conv1_conv", strides=2)
    x = _add_norm(x, "conv1_bn", "conv1_relu")
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)  # zeros are the least after a ReLU
    return layers.MaxPooling2D(3, strides=2, name="pool1")(x)


def _add_dense_layer(x: Any, name: str) -> Any:
    from keras import layers

    y = _add_norm(x, f"{name}_0_bn", f"{name}_0_relu")
    y = _add_conv(y, 4 * _GROWTH, 1, f"{name}_1_conv")
    y = _add_norm(y, f"{name}_1_bn", f"{name}_1_relu")
    y = _add_conv(y, _GROWTH, 3, f"{name}_2_conv", padding="same")
    return layers.Concatenate(name=f"{name}_concat")([x, y])


def _add_transition(x: Any, name: str) -> Any:
    from keras import layers

    x = _add_norm(x, f"{name}_bn", f"{name}_relu")
    x = _add_conv(x, x.shape[-1] // 2, 1, f"{name}_conv")
    return layers.AveragePooling2D(2, name=f"{name}_pool")(x)


def _add_conv(x: Any, filters: int, kernel: int, name: str, **options: Any) -> Any:
    from keras import layers

    conv = layers.Conv2D(
        filters, kernel, use_bias=False, kernel_initializer="he_normal", name=name, **options
    )
    return conv(x)


def _add_norm(x: Any, norm: str, relu: str) -> Any:
    from keras import layers

    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=norm)(x)
    return layers.ReLU(name=relu)(x)


_STEM_AND_END = {
    "conv1_conv": "features.conv0",
    "conv1_bn": "features.norm0",
    "bn": "features.norm5",
    "predictions": "classifier",
}
_DENSE_LAYER = {"0_bn": "norm1", "1_conv": "conv1", "1_bn": "norm2", "2_conv": "conv2"}
_TRANSITION = {"bn": "norm", "conv": "conv"}


def _torchvision_name(layer: str) -> str:
    """Our `conv3_block2_1_conv` is torchvision's and timm's `features.denseblock2.denselayer2.conv1`."""
    if layer in _STEM_AND_END:
        return _STEM_AND_END[layer]
    stage, path = layer.split("_", 1)
    number = int(stage[-1]) - 1
    if stage.startswith("pool"):
        return f"features.transition{number}.{_TRANSITION[path]}"
    block, path = path.split("_", 1)
    return f"features.denseblock{number}.denselayer{block.removeprefix('block')}.{_DENSE_LAYER[path]}"


SOURCES: dict[str, Callable[[str], str]] = {"torchvision": _torchvision_name, "timm": _torchvision_name}

"""SqueezeNet 1.0 and 1.1 (arXiv:1602.07360), as the authors and torchvision have them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastcls.bases.zoo.tops import add_pooling


@dataclass(frozen=True)
class Variant:
    """What tells one version from the other.

    Attributes:
        side: Kernel side of the first convolution.
        maps: Its output maps.
        pools: Fire modules that a pooling precedes.
    """

    side: int
    maps: int
    pools: tuple[int, int, int]


VARIANTS = {
    "SqueezeNet1_0": Variant(7, 96, (2, 5, 9)),
    "SqueezeNet1_1": Variant(3, 64, (2, 4, 6)),
}
# Number of a fire module: its squeezed maps, and how many each of its two expansions gives.
FIRES = {
    **{2: (16, 64), 3: (16, 64), 4: (32, 128), 5: (32, 128)},
    **{6: (48, 192), 7: (48, 192), 8: (64, 256), 9: (64, 256)},
}


def build(
    name: str,
    include_top: bool = True,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
) -> Any:
    """Build a SqueezeNet; its layers bear the names of the paper, fire2_out to fire9_out end the modules.

    Args:
        name: Which of `VARIANTS`.
        include_top: With the classifier, a convolution whose maps are averaged.
        input_shape: (height, width, channels).
        pooling: Without the classifier: "avg", "max", or None for the map of the last module.
        classes: Outputs of the classifier.
        classifier_activation: Activation after the classifier; None for what torchvision calls logits.

    Returns:
        Functional Keras model.
    """
    import keras
    from keras import layers

    variant = VARIANTS[name]
    image = keras.Input(input_shape, name="input")
    x = _convolution(image, variant.maps, variant.side, "conv1", stride=2)
    for fire, (squeezed, expanded) in FIRES.items():
        x = _pool(x, f"pool{fire - 1}") if fire in variant.pools else x
        x = _fire(x, squeezed, expanded, f"fire{fire}")
    if include_top:
        x = layers.Dropout(0.5, name="drop9")(x)
        x = _convolution(x, classes, 1, "conv10")
        x = layers.GlobalAveragePooling2D(name="pool10")(x)
        x = layers.Activation(classifier_activation, name="prob")(x) if classifier_activation else x
    else:
        x = add_pooling(x, pooling)
    return keras.Model(image, x, name=name.lower())


SqueezeNet1_0 = partial(build, "SqueezeNet1_0")
SqueezeNet1_1 = partial(build, "SqueezeNet1_1")


def _fire(x: Any, squeezed: int, expanded: int, name: str) -> Any:
    from keras import layers

    x = _convolution(x, squeezed, 1, f"{name}_squeeze1x1")
    ways = [_convolution(x, expanded, side, f"{name}_expand{side}x{side}", padding="same") for side in (1, 3)]
    return layers.Concatenate(name=f"{name}_out")(ways)


def _pool(x: Any, name: str) -> Any:
    """Pooling that lets the last window stand out, as Caffe's; nothing here is below 0."""
    from keras import layers

    x = layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{name}_pad")(x)
    return layers.MaxPooling2D(3, strides=2, name=name)(x)


def _convolution(x: Any, maps: int, side: int, name: str, *, stride: int = 1, padding: str = "valid") -> Any:
    from keras import layers

    options = {"activation": "relu", "kernel_initializer": "he_uniform", "name": name}
    return layers.Conv2D(maps, side, strides=stride, padding=padding, **options)(x)


def _torchvision(variant: Variant, layer: str) -> str:
    if layer in ("conv1", "conv10"):
        return {"conv1": "features.0", "conv10": "classifier.1"}[layer]
    module, _, part = layer.partition("_")
    fire = int(module.removeprefix("fire"))
    place = fire + sum(pool <= fire for pool in variant.pools)  # torchvision counts the poolings too
    return f"features.{place}.{part.replace('squeeze1x1', 'squeeze')}"


SOURCES: dict[str, Callable[[str], str]] = {
    "torchvision squeezenet1_0": partial(_torchvision, VARIANTS["SqueezeNet1_0"]),
    "torchvision squeezenet1_1": partial(_torchvision, VARIANTS["SqueezeNet1_1"]),
}

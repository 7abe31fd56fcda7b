"""LeNet-5 of LeCun, Bottou, Bengio and Haffner.

The geometry is that of "Gradient-based learning applied to document recognition" (1998), with its tanh and
average pooling. Simplified, as is usual today: C3 sees all maps of S2, pooling has no weights, and the output
is a softmax.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastcls.bases.zoo.tops import add_pooling


def LeNet5(  # noqa: N802 (constructors of networks have their names, as in Keras)
    include_top: bool = True,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    pooling: str | None = None,
    classes: int = 10,
    classifier_activation: str | None = "softmax",
) -> Any:
    """Build LeNet-5; its layers bear the names of the paper.

    Args:
        include_top: With F6 and the output layer.
        input_shape: (height, width, channels).
        pooling: Without the top: "avg", "max", or None for the map of C5.
        classes: Outputs of the classifier.
        classifier_activation: Activation of the classifier; None for logits.

    Returns:
        Functional Keras model.
    """
    import keras
    from keras import layers

    image = keras.Input(input_shape, name="input")
    x = layers.Conv2D(6, 5, activation="tanh", name="c1")(image)  # (28, 28, 6)
    x = layers.AveragePooling2D(2, name="s2")(x)  # (14, 14, 6)
    x = layers.Conv2D(16, 5, activation="tanh", name="c3")(x)  # (10, 10, 16)
    x = layers.AveragePooling2D(2, name="s4")(x)  # (5, 5, 16)
    x = layers.Conv2D(120, 5, activation="tanh", name="c5")(x)  # (1, 1, 120)
    if include_top:
        x = layers.Flatten(name="flatten")(x)
        x = layers.Dense(84, activation="tanh", name="f6")(x)
        x = layers.Dense(classes, activation=classifier_activation, name="output")(x)
    else:
        x = add_pooling(x, pooling)
    return keras.Model(image, x, name="lenet5")


SOURCES: dict[str, Callable[[str], str]] = {"torch": lambda layer: layer}  # modules with the paper's names

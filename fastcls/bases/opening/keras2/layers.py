"""One layer of Keras 2 as a layer of Keras 3 that computes the same."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastcls import graph
from fastcls.bases.opening.keras2.structure import Stored, parse

# Arguments that decide nothing at inference, beside initializers, regularizers and constraints.
_IGNORED = (
    *("name", "dtype", "seed", "trainable", "batch_input_shape", "batch_shape", "build_input_shape"),
    *("rng_type", "force_generator", "fused", "implementation", "synchronized"),
    *("robust_masking", "softmax_robust_masking", "renorm_clipping", "renorm_momentum"),
    *("query_shape", "key_shape", "value_shape"),
)
_IGNORED_ENDINGS = ("_initializer", "_regularizer", "_constraint")
_RENAMED = {("LeakyReLU", "alpha"): "negative_slope"}
# Activations that are given as layers; those with weights are not among them.
_ACTIVATIONS = ("Activation", "ELU", "LeakyReLU", "ReLU", "Softmax", "ThresholdedReLU")


@dataclass(frozen=True)
class Built:
    """What computes the same as a stored layer.

    Attributes:
        layer: A layer of Keras 3; None where operations alone do it.
        after: What is done to its output, in operations of Keras.
    """

    layer: Any = None
    after: Callable[[Any], Any] | None = None

    def __call__(self, x: Any, **options: Any) -> Any:
        """Compute the output for a symbolic tensor or a list of them."""
        if self.layer is not None:
            x = self.layer(x, **options)
        return self.after(x) if self.after else x


def build(stored: Stored, name: str) -> Built:
    """Make a layer.

    Args:
        stored: The layer of Keras 2.
        name: What to call the layer of Keras 3.

    Raises:
        ValueError: It is no layer of Keras 3, or has arguments that would compute something else there.
    """
    if stored.kind == "Lambda":
        raise ValueError(
            f"layer {stored.name!r} is a Lambda, Python code inside the file, which is never run"
        )
    if stored.kind in _SPECIAL:
        return _SPECIAL[stored.kind](stored, name)
    kind = _class_of(stored)
    arguments, after = _arguments(kind, stored)
    if after and stored.kind == "Activation":
        return Built(None, after)
    return Built(kind(**arguments, name=name), after)


def plain_name(name: str) -> str:
    """A layer's name as Keras 3 allows it."""
    return name.replace("/", "_")


def activation(name: str) -> Callable[[Any], Any] | None:
    """A function of Keras 2 by its name in `keras.activations`; None if Keras 3 has none of that name."""
    import keras

    if name == "hard_sigmoid":
        return _hard_sigmoid
    found = getattr(keras.activations, name, None)
    return found if inspect.isfunction(found) else None


def _class_of(stored: Stored) -> Any:
    import keras

    kind = getattr(keras.layers, stored.kind, None)
    is_layer = isinstance(kind, type) and issubclass(kind, keras.layers.Layer)
    if not is_layer or stored.kind in graph.NOT_PLAIN:
        raise ValueError(f"layer {stored.name!r} is a {stored.kind}, which is not one of Keras's own layers")
    return kind


def _arguments(kind: Any, stored: Stored) -> tuple[dict[str, Any], Callable[[Any], Any] | None]:
    """Arguments of the class of Keras 3, and the activation that it lacks."""
    accepted = _parameters(kind)
    arguments: dict[str, Any] = {}
    after = None
    for key, value in stored.config.items():
        key = _RENAMED.get((stored.kind, key), key)
        if key in _IGNORED or key.endswith(_IGNORED_ENDINGS):
            continue
        if key == "activation" or key.endswith("_activation"):
            value, function = _activation_argument(stored, value)
            if function and (key != "activation" or "recurrent_activation" in stored.config):
                raise ValueError(f"{_what(stored)} has the {key} {stored.config[key]!r}, which Keras 3 lacks")
            after = function or after
        if key == "axis" and stored.kind == "BatchNormalization" and isinstance(value, list):
            (value,) = value
        if _holds_record(value):
            raise ValueError(f"{_what(stored)} holds an object as its {key}, which is not read")
        if key in accepted:
            arguments[key] = value
        elif value not in (None, False, 1, [], {}):  # 1: groups of a depthwise layer
            raise ValueError(f"{_what(stored)} has {key}={value!r}, which Keras 3 does not know")
    return arguments, after


def _parameters(kind: Any) -> set[str]:
    """Names of the arguments that a layer's class takes, those of its parents included."""
    import keras

    names: set[str] = set()
    for parent in kind.__mro__[: kind.__mro__.index(keras.layers.Layer)]:
        if "__init__" in vars(parent):
            parameters = inspect.signature(parent.__init__).parameters
            names |= set(parameters)
            if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
                break
    return names - {"self", "args", "kwargs"}


def _activation_argument(stored: Stored, value: Any) -> tuple[Any, Callable[[Any], Any] | None]:
    """What Keras 3 takes as an activation, and what has to come after the layer instead."""
    if isinstance(value, dict) and value.get("class_name") == "function":
        value = value["config"]
    if isinstance(value, dict):
        inner = parse(value)
        if inner.kind not in _ACTIVATIONS:
            raise ValueError(f"{_what(stored)} has the activation {inner.kind}, which is not one of Keras")
        return None, build(inner, plain_name(f"{stored.name}_activation"))
    if value is None:
        return None, None
    function = activation(value) if isinstance(value, str) else None
    if function is None:
        raise ValueError(f"layer {stored.name!r} has the activation {value!r}, which is not one of Keras")
    return ("linear", function) if value == "hard_sigmoid" else (value, None)


def _holds_record(value: Any) -> bool:
    """Whether an argument holds an object: Keras 3 would build it."""
    if isinstance(value, list):
        return any(map(_holds_record, value))
    return isinstance(value, dict) and bool(value)


def _what(stored: Stored) -> str:
    return f"layer {stored.name!r} ({stored.kind})"


def _hard_sigmoid(x: Any) -> Any:
    """That of Keras 2; Keras 3 calls relu6(x + 3) / 6 so."""
    import keras

    return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)


def _thresholded(stored: Stored, name: str) -> Built:
    import keras

    theta = float(stored.config["theta"])
    return Built(None, lambda x: x * keras.ops.cast(x > theta, x.dtype))


def _scaled_sum(stored: Stored, name: str) -> Built:
    scale = float(stored.config["scale"])
    return Built(None, lambda pair: pair[0] + pair[1] * scale)


def _layer_scale(stored: Stored, name: str) -> Built:
    """That of ConvNeXt: a factor for each channel."""
    import keras

    return Built(keras.layers.DepthwiseConv2D(1, use_bias=False, name=name))


def _random_crop(stored: Stored, name: str) -> Built:
    """At inference, the middle of the image; that of Keras 3 does not crop there."""
    import keras

    height, width = stored.config["height"], stored.config["width"]
    return Built(keras.layers.Resizing(height, width, crop_to_aspect_ratio=True, name=name))


def _unit_normalization(stored: Stored, name: str) -> Built:
    """That of Keras 2 takes the norm over all axes at once, and bounds its square."""
    import keras

    axis = stored.config.get("axis", -1)
    axes = tuple(axis) if isinstance(axis, list) else axis

    def normalize(x: Any) -> Any:
        squares = keras.ops.sum(keras.ops.square(x), axis=axes, keepdims=True)
        return x * keras.ops.rsqrt(keras.ops.maximum(squares, 1e-12))

    return Built(None, normalize)


def _time_distributed(stored: Stored, name: str) -> Built:
    import keras

    inner = parse(stored.config["layer"])
    built = Built() if inner.is_model else build(inner, plain_name(inner.name))
    if inner.is_model or built.after not in (None, _hard_sigmoid):
        raise ValueError(f"{_what(stored)} wraps a {inner.kind}, which is not read")
    if built.layer is None:
        return built
    return Built(keras.layers.TimeDistributed(built.layer, name=name), built.after)


_SPECIAL: dict[str, Callable[[Stored, str], Built]] = {
    "CustomScaleLayer": _scaled_sum,
    "LayerScale": _layer_scale,
    "RandomCrop": _random_crop,
    "ThresholdedReLU": _thresholded,
    "TimeDistributed": _time_distributed,
    "UnitNormalization": _unit_normalization,
}

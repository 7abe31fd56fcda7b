"""Operations of TensorFlow that Keras 2 stores as layers, in operations of Keras 3."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from fastcls.bases.opening.keras2.layers import activation
from fastcls.bases.opening.keras2.structure import Stored

KINDS = ("TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer")
_ACTIVATIONS = "keras.activations."
_OF_LISTS = ("concat", "stack", "math.add_n")

# What TensorFlow calls it (after "tf."), and what `keras.ops` does.
_OF_ONE = {
    **{f"math.{name}": name for name in ("negative", "abs", "square", "sqrt", "rsqrt", "exp", "log", "erf")},
    **{f"math.{name}": name for name in ("tanh", "sigmoid", "softplus", "reciprocal")},
    **{f"nn.{name}": name for name in ("relu", "relu6", "elu", "selu", "tanh", "sigmoid", "softplus")},
}
_OF_TWO = {
    **{f"math.{name}": name for name in ("add", "subtract", "multiply", "maximum", "minimum")},
    **{name: name for name in ("add", "subtract", "multiply", "maximum", "minimum")},
    **{"__operators__.add": "add", "math.pow": "power", "pow": "power"},
    **dict.fromkeys(("math.truediv", "math.divide", "realdiv", "truediv", "divide"), "true_divide"),
}
_REDUCTIONS = {
    f"math.reduce_{name}": {"variance": "var"}.get(name, name)
    for name in ("mean", "sum", "max", "min", "prod", "std", "variance")
}
# Kinds of nodes in TensorFlow's graphs, which Keras 2 kept in TensorFlow 2.0 to 2.3.
_RAW = {
    **{"Add": "math.add", "AddV2": "math.add", "Sub": "math.subtract", "Mul": "math.multiply"},
    **{"RealDiv": "math.truediv", "Maximum": "math.maximum", "Minimum": "math.minimum"},
    **{"BiasAdd": "nn.bias_add", "Relu": "nn.relu", "Relu6": "nn.relu6", "Softmax": "nn.softmax"},
    **{name: f"math.{name.lower()}" for name in ("Sigmoid", "Square", "Sqrt", "Rsqrt")},
    "Neg": "math.negative",
}


def operation_of(stored: Stored) -> Callable[[list[Any], dict[str, Any]], list[Any]]:
    """What computes a stored operation: a function of its inputs and options that returns its outputs.

    Raises:
        ValueError: It is none that is known here, or is called in a way that is not.
    """
    if stored.kind == "TensorFlowOpLayer":
        node = stored.config["node_def"]
        kind = node["op"] if isinstance(node, dict) else "operation"
        return partial(_compute, _RAW.get(kind, kind), constants=stored.config.get("constants") or {})
    name = str(stored.config["function"])
    return partial(_compute, name.removeprefix("tf.").removeprefix("compat.v1."))


def _compute(
    name: str, inputs: list[Any], options: dict[str, Any], constants: dict[str, Any] | None = None
) -> list[Any]:
    import keras

    function = _find(name)
    if function is None:
        raise ValueError(f"it calls TensorFlow's {name}, which is not known here")
    inputs = _with_constants(inputs, constants or {})
    if name in _OF_LISTS:
        inputs = [inputs]
    options = {key: value for key, value in options.items() if (key, value) != ("data_format", "NHWC")}
    try:
        bound = inspect.signature(function).bind(*inputs, **options)
    except TypeError as error:
        raise ValueError(f"it calls TensorFlow's {name} in a way that is not known here: {error}") from error
    return keras.tree.flatten(function(*bound.args, **bound.kwargs))


def _with_constants(inputs: Sequence[Any], constants: dict[str, Any]) -> list[Any]:
    """Put constants in their places among the inputs."""
    places = {int(place): value for place, value in constants.items()}
    tensors = iter(inputs)
    return [
        places[place] if place in places else next(tensors) for place in range(len(inputs) + len(constants))
    ]


def _find(name: str) -> Callable[..., Any] | None:
    from keras import ops

    if name.startswith(_ACTIVATIONS):
        return activation(name.removeprefix(_ACTIVATIONS))
    long = f"math.{name}"
    for table, form in ((_OF_ONE, _one), (_OF_TWO, _two), (_REDUCTIONS, _reduction)):
        known = table.get(name) or table.get(long)
        if known:
            return form(getattr(ops, known))
    return _OTHERS.get(name)


def _one(operation: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda x: operation(x)


def _two(operation: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    return lambda x, y: operation(_array(x), _array(y))


def _reduction(operation: Callable[..., Any]) -> Callable[..., Any]:
    def reduce(input_tensor: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return operation(input_tensor, axis=_tuple(axis), keepdims=keepdims)

    return reduce


def _array(value: Any) -> Any:
    return np.asarray(value, "float32") if isinstance(value, list) else value


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


# The parameters of what follows are those of TensorFlow's functions.


def _identity(input: Any) -> Any:
    return input


def _convert_to_tensor(value: Any, dtype: Any = None, dtype_hint: Any = None) -> Any:
    return value


def _cast(x: Any, dtype: str) -> Any:
    from keras import ops

    return ops.cast(x, dtype)


def _bias_add(value: Any, bias: Any) -> Any:
    return value + _array(bias)


def _squared_difference(x: Any, y: Any) -> Any:
    from keras import ops

    return ops.square(_array(x) - _array(y))


def _getitem(tensor: Any, slice_spec: Any) -> Any:
    keys = slice_spec if isinstance(slice_spec, list) else [slice_spec]
    return tensor[
        tuple(slice(key["start"], key["stop"], key["step"]) if isinstance(key, dict) else key for key in keys)
    ]


def _concat(values: Any, axis: int) -> Any:
    from keras import ops

    return ops.concatenate(values, axis)


def _stack(values: Any, axis: int = 0) -> Any:
    from keras import ops

    return ops.stack(values, axis)


def _add_n(inputs: Any) -> Any:
    return sum(inputs[1:], inputs[0])


def _split(value: Any, num_or_size_splits: Any, axis: int = 0) -> Any:
    from keras import ops

    if isinstance(num_or_size_splits, list):
        return ops.split(value, np.cumsum(num_or_size_splits)[:-1].tolist(), axis)
    return ops.split(value, num_or_size_splits, axis)


def _reshape(tensor: Any, shape: Any) -> Any:
    from keras import ops

    return ops.reshape(tensor, tuple(shape))


def _transpose(a: Any, perm: Any = None) -> Any:
    from keras import ops

    return ops.transpose(a, perm)


def _expand_dims(input: Any, axis: int) -> Any:
    from keras import ops

    return ops.expand_dims(input, axis)


def _squeeze(input: Any, axis: Any = None) -> Any:
    from keras import ops

    return ops.squeeze(input, _tuple(axis))


def _pad(tensor: Any, paddings: Any, mode: str = "CONSTANT", constant_values: float = 0) -> Any:
    from keras import ops

    value = {"constant_values": constant_values} if mode == "CONSTANT" else {}
    return ops.pad(tensor, paddings, mode.lower(), **value)


def _clip_by_value(t: Any, clip_value_min: Any, clip_value_max: Any) -> Any:
    from keras import ops

    return ops.clip(t, clip_value_min, clip_value_max)


def _matmul(a: Any, b: Any) -> Any:
    from keras import ops

    return ops.matmul(a, b)


def _softmax(logits: Any, axis: int = -1) -> Any:
    from keras import ops

    return ops.softmax(logits, axis)


def _leaky_relu(features: Any, alpha: float = 0.2) -> Any:
    from keras import ops

    return ops.leaky_relu(features, alpha)


def _gelu(features: Any, approximate: bool = False) -> Any:
    from keras import ops

    return ops.gelu(features, approximate)


def _silu(features: Any, beta: float = 1.0) -> Any:
    from keras import ops

    return ops.silu(features) if beta == 1 else features * ops.sigmoid(beta * features)


def _l2_normalize(x: Any, axis: Any = None, epsilon: float = 1e-12) -> Any:
    from keras import ops

    squares = ops.sum(ops.square(x), axis=_tuple(axis), keepdims=True)
    return x * ops.rsqrt(ops.maximum(squares, epsilon))


def _resize(
    images: Any,
    size: Any,
    method: str = "bilinear",
    preserve_aspect_ratio: bool = False,
    antialias: bool = False,
) -> Any:
    from keras import ops

    if preserve_aspect_ratio or method not in ("bilinear", "nearest", "bicubic", "lanczos3", "lanczos5"):
        how = f"{method}, preserve_aspect_ratio={preserve_aspect_ratio}"
        raise ValueError(
            f"it resizes images by TensorFlow's image.resize with {how}, which is not known here"
        )
    return ops.image.resize(images, tuple(size), interpolation=method, antialias=antialias)


def _rgb_to_grayscale(images: Any) -> Any:
    from keras import ops

    return ops.sum(images * np.array([0.2989, 0.587, 0.114], "float32"), axis=-1, keepdims=True)


def _grayscale_to_rgb(images: Any) -> Any:
    from keras import ops

    return ops.concatenate([images] * 3, -1)


_OTHERS: dict[str, Callable[..., Any]] = {
    "identity": _identity,
    "stop_gradient": _identity,
    "convert_to_tensor": _convert_to_tensor,
    "cast": _cast,
    "nn.bias_add": _bias_add,
    "math.squared_difference": _squared_difference,
    "__operators__.getitem": _getitem,
    "concat": _concat,
    "stack": _stack,
    "math.add_n": _add_n,
    "split": _split,
    "reshape": _reshape,
    "transpose": _transpose,
    "expand_dims": _expand_dims,
    "squeeze": _squeeze,
    "pad": _pad,
    "clip_by_value": _clip_by_value,
    "linalg.matmul": _matmul,
    "nn.softmax": _softmax,
    "nn.leaky_relu": _leaky_relu,
    "nn.gelu": _gelu,
    "nn.silu": _silu,
    "nn.swish": _silu,
    "math.l2_normalize": _l2_normalize,
    "image.resize": _resize,
    "image.rgb_to_grayscale": _rgb_to_grayscale,
    "image.grayscale_to_rgb": _grayscale_to_rgb,
}

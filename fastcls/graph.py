"""The graph of a Keras model: its calls in order, replayed on other tensors, described, counted.

Keras has no public way to walk a functional graph; whatever touches its private parts
(`_nodes_by_depth`, `Node`, `_keras_history`, `_functional`) is in this module alone.
"""

from __future__ import annotations

import hashlib
import math
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from fastcls.files import DIGEST_BYTES, digest, json_digest

# Of a layer's own configuration: what it is called, and what decides how it is created or trained, but not
# what it computes at inference. Only layers have these: the seed of another operation decides its value.
_OF_CREATION = r"name|\w+_initializer"
_OF_TRAINING = r"trainable|seed|\w+_regularizer|\w+_constraint"
# Of an object's record, around its configuration: how Keras finds its class again, and the shapes it saw.
_OF_RECORDS = ("registered_name", "build_config", "compile_config")
# Layers of Keras that hold Python code, a graph of TensorFlow's, or tables that are no weights.
NOT_PLAIN = (
    *("Lambda", "FlaxLayer", "JaxLayer", "TFSMLayer", "TorchModuleWrapper"),
    *("IntegerLookup", "StringLookup", "TextVectorization"),
)
# How the names of a head's layers begin, which share a graph with those of the trunk later.
HEAD_PREFIX = "head_"


def is_functional(model: Any) -> bool:
    """Whether a model is a graph of operations, as functional and built Sequential models are."""
    return hasattr(model, "_nodes_by_depth") or getattr(model, "_functional", None) is not None


def nodes(model: Any) -> list[Any]:
    """The calls of a functional model's operations, in topological order, inputs left out."""
    by_depth = _functional(model)._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth] if not node.is_input]


def opened_nodes(model: Any) -> Iterator[Any]:
    """`nodes`, with those of nested models in their place."""
    for node in nodes(model):
        if is_functional(node.operation):
            yield from opened_nodes(node.operation)
        else:
            yield node


def operations(model: Any) -> list[Any]:
    """The distinct operations of a functional model in topological order, nested models opened."""
    return list({id(node.operation): node.operation for node in opened_nodes(model)}.values())


def is_built_in(operation: Any) -> bool:
    """Whether plain Keras can load an operation from a file: no code but its own is needed.

    It looks at the layers inside a layer too, such as that of a TimeDistributed.
    """
    import keras

    if not all(map(_is_plain, _parts(operation))):
        return False
    try:
        return _is_plain_record(keras.saving.serialize_keras_object(operation))
    except Exception:  # whatever a custom initializer or regularizer raises
        return False


def policies(model: Any) -> tuple[str, ...]:
    """Names of the dtype policies that the layers of a functional model compute in: distinct, sorted."""
    return tuple(sorted({name for node in nodes(model) for name in _policies(node.operation)}))


def operation_of(tensor: Any) -> Any:
    """The operation (or input layer) whose output a symbolic tensor is."""
    return tensor._keras_history.operation


def operations_between(inputs: Iterable[Any], outputs: Iterable[Any]) -> list[Any]:
    """The distinct operations that compute symbolic tensors from others, each before those it needs."""
    known, waiting = {id(tensor) for tensor in inputs}, list(outputs)
    found: dict[int, Any] = {}
    while waiting:
        tensor = waiting.pop(0)
        if id(tensor) in known or not hasattr(tensor, "_keras_history"):
            continue
        operation, number, _ = tensor._keras_history
        node = operation._inbound_nodes[number]
        known |= {id(output) for output in node.outputs}
        found.setdefault(id(operation), operation)
        waiting += node.input_tensors
    return list(found.values())


def replay(
    model: Any,
    tensor: Any,
    leave_out: Iterable[Any] = (),
    instead: Iterable[tuple[Any, Callable[..., Any]]] = (),
) -> Any:
    """Call the operations of a functional model one by one on a tensor, nested models opened.

    On a symbolic tensor this adds the model's own layers, with their weights, to the graph of that
    tensor: a flat graph, where calling the model would add one opaque layer.

    Args:
        model: Functional or Sequential Keras model with one input.
        tensor: What takes the place of the model's input: symbolic, or an array, which is computed with.
        leave_out: Operations whose input takes the place of their output.
        instead: Operations, and what is called in the place of each.

    Returns:
        The model's (first) output for `tensor`.
    """
    calls = {id(operation): _pass_on for operation in leave_out}
    calls |= {id(operation): call for operation, call in instead}
    return _replay(model, [tensor], calls)[0]


def _pass_on(value: Any, *_: Any, **__: Any) -> Any:
    return value


def replay_all(model: Any, tensor: Any) -> list[Any]:
    """`replay` of a model of several outputs: all of them."""
    return _replay(model, [tensor], {})


def rename_apart(operations: Iterable[Any], taken: Iterable[str]) -> None:
    """Number the names of operations that are taken already: a Keras graph has each name once.

    Args:
        operations: What may be renamed.
        taken: Names that stay as they are.
    """
    used = set(taken)
    for operation in operations:
        name, number = operation.name, 0
        while name in used:
            number += 1
            name = f"{operation.name}_{number}"
        if number:
            operation.name = name
        used.add(name)


def keep_from_heads(operations: Iterable[Any]) -> None:
    """Rename the operations of a base whose names begin as those of a head do: names tell the two apart."""
    for operation in operations:
        if operation.name.startswith(HEAD_PREFIX):
            operation.name = f"base_{operation.name}"


def multiply_adds(node: Any) -> int:
    """Multiply-adds of one call of a convolution or dense layer for one image; 0 for anything else."""
    kernels = [weight for weight in _weights(node) if weight.path.endswith("kernel")]
    transposed = "Transpose" in type(node.operation).__name__
    positions = (node.input_tensors if transposed else node.outputs)[0].shape[1:-1]
    return math.prod(positions) * sum(math.prod(kernel.shape) for kernel in kernels) if kernels else 0


def parameters(node: Any) -> dict[int, int]:
    """Number of parameters of each weight that one call uses, by the weight's identity."""
    return {id(weight): math.prod(weight.shape) for weight in _weights(node)}


def architecture_digest(model: Any, *, trained: bool = False) -> str:
    """Hash of what a functional model computes at inference, whatever its layers are called.

    Args:
        model: The model.
        trained: Of what it becomes by training too: which weights move, how they are held back, which
            calls share them.
    """
    import keras

    place = {id(model.inputs[0]): 0}
    first: dict[int, int] = {}
    rows = []
    for number, node in enumerate(nodes(model)):
        operation = node.operation
        record = keras.saving.serialize_keras_object(operation)
        config = {key: value for key, value in record["config"].items() if key != "name"}
        arguments = _describe([node.arguments.args, node.arguments.kwargs], place)
        row = [record["module"], record["class_name"], _describe(config, {}, trained=trained), arguments]
        rows.append([*row, _policies(operation), first.setdefault(id(operation), number) if trained else 0])
        for tensor in node.outputs:
            place[id(tensor)] = len(place)
    output = place[id(model.outputs[0])]
    return json_digest([list(model.inputs[0].shape), str(model.inputs[0].dtype), rows, output])


def weights_digest(model: Any) -> str:
    """Hash of a functional model's weights in the order in which they are used."""
    state = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for node in nodes(model):
        for weight in _weights(node):
            values = np.ascontiguousarray(weight.numpy())
            state.update(f"{values.shape}{values.dtype}".encode())
            state.update(values.data)
    return state.hexdigest()


def _functional(model: Any) -> Any:
    return getattr(model, "_functional", None) or model  # a Sequential model holds a functional one


def _replay(model: Any, tensors: list[Any], calls: Mapping[int, Callable[..., Any]]) -> list[Any]:
    import keras

    model = _functional(model)
    computed = {id(old): new for old, new in zip(model.inputs, tensors, strict=True)}
    for node in nodes(model):
        inputs = [computed[id(tensor)] for tensor in node.input_tensors]
        if is_functional(node.operation):
            outputs = _replay(node.operation, inputs, calls)
        else:
            arguments, options = node.arguments.fill_in(computed)
            call = calls.get(id(node.operation), node.operation)
            outputs = keras.tree.flatten(call(*arguments, **options))
        computed.update((id(old), new) for old, new in zip(node.outputs, outputs, strict=True))
    return [computed[id(tensor)] for tensor in model.outputs]


def _weights(node: Any) -> list[Any]:
    return list(getattr(node.operation, "weights", ()))  # operations that are not layers have none


def _parts(operation: Any) -> list[Any]:
    """An operation and all layers inside it."""
    return operation._flatten_layers() if hasattr(operation, "_flatten_layers") else [operation]


def _policies(operation: Any) -> list[str]:
    """Names of the dtype policies of a layer and those inside it; none for what is no layer."""
    return [_policy(part) for part in _parts(operation) if hasattr(part, "dtype_policy")]


def _policy(layer: Any) -> str:
    import keras

    policy = layer.dtype_policy
    # A map has a policy for each layer, by its path: there, the name of a layer decides what it computes.
    return str(
        (policy[layer.path] if isinstance(policy, keras.dtype_policies.DTypePolicyMap) else policy).name
    )


def _is_plain(part: Any) -> bool:
    """Whether an operation is Keras's own, and the functions that it calls."""
    import keras

    arguments = [(node.arguments.args, node.arguments.kwargs) for node in part._inbound_nodes]
    functions = [value for value in vars(part).values() if isinstance(value, types.FunctionType)]
    functions += [value for value in keras.tree.flatten(arguments) if isinstance(value, types.FunctionType)]
    owners = [type(part), *functions]
    return type(part).__name__ not in NOT_PLAIN and all(o.__module__.startswith("keras.") for o in owners)


def _is_plain_record(value: Any) -> bool:
    """Whether each object in a configuration is of a class of Keras."""
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain_record, value))
    if not isinstance(value, dict):
        return True
    module = value.get("module") if "class_name" in value else None
    if module and module not in ("keras", "builtins") and not module.startswith("keras."):
        return False
    return value.get("class_name") != "function" and all(map(_is_plain_record, value.values()))


def _describe(value: Any, place: dict[int, int], *, trained: bool = False) -> Any:
    """A JSON-able description of a configuration, or of arguments with tensors as numbers of `place`."""
    if id(value) in place:
        return ["tensor", place[id(value)]]
    if isinstance(value, dict):
        relevant = _relevant(value, trained=trained)
        return {key: _describe(inner, place, trained=trained) for key, inner in relevant.items()}
    if isinstance(value, (list, tuple)):
        return [_describe(inner, place, trained=trained) for inner in value]
    if isinstance(value, slice):
        return ["slice", _describe([value.start, value.stop, value.step], place)]
    if hasattr(value, "__array__"):  # its repr would leave out the middle of a long one
        values = np.asarray(value)
        return ["array", list(values.shape), str(values.dtype), digest(values.tobytes())]
    return value if isinstance(value, (str, int, float, bool, type(None))) else repr(value)


def _relevant(value: dict[str, Any], *, trained: bool) -> dict[str, Any]:
    """What matters of a record of an object, of the configuration of a layer, or of any other dictionary.

    The name of a layer alone is left out: that of a dtype policy decides what is computed.
    """
    if {"class_name", "config"} <= value.keys():
        return {key: inner for key, inner in value.items() if key not in _OF_RECORDS}
    if "trainable" not in value:
        return value
    left_out = _OF_CREATION if trained else f"{_OF_CREATION}|{_OF_TRAINING}"
    return {key: inner for key, inner in value.items() if not re.fullmatch(left_out, key)}

"""Code that counts the images of a batch, in a graph that does not know how many there are.

`ops.reshape(x, (batch * windows, ...))` needs a number. The code gets one that no other size of a model is a
multiple of; afterwards, what is a multiple of it in the graph becomes "as many as there are".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastcls import graph

_COUNT = 1009  # a prime: the shape of an array has it as a factor where it counts images, and nowhere else


def counted_input(shape: tuple[int, ...]) -> Any:
    """A symbolic batch, (_COUNT, *shape) float32."""
    import keras

    return keras.Input(batch_shape=(_COUNT, *shape), name="counted")


def for_any_count(counted: Any, output: Any, tensor: Any) -> Any:
    """The graph between a counted batch and what code has made of it, on a batch of any size.

    Args:
        counted: Of `counted_input`.
        output: Symbolic, made of it.
        tensor: Symbolic, in its place, (B, *shape).

    Raises:
        ValueError: The number of images is needed for more than the shape of an array.
    """
    import keras

    model = keras.Model(counted, output)
    called = [node for node in graph.nodes(model) if type(node.operation).__name__ in _INSTEAD]
    instead = [
        (node.operation, _INSTEAD[type(node.operation).__name__](node))
        for node in called
        if not isinstance(node.operation, keras.layers.Layer)
    ]
    left = {id(operation) for operation, _ in instead}
    for operation in graph.operations(model):
        if id(operation) not in left and any(map(_is_counted, _numbers(operation))):
            raise ValueError(f"{operation.name} needs the number of images of a batch")
    return graph.replay(model, tensor, instead=instead)


def _reshape_as(node: Any) -> Any:
    """The operation of a call of `ops.reshape`, with the place of the images left open."""
    made = type(node.operation)(tuple(_open(size) for size in node.outputs[0].shape))
    made.name = node.operation.name
    return made


def _roll_as(node: Any) -> Callable[[Any], Any]:
    """A call of `ops.roll` in operations that LiteRT has too."""
    operation = node.operation

    def roll(tensor: Any) -> Any:
        for shift, axis in zip(operation.shift, operation.axis, strict=True):
            tensor = _rolled(tensor, shift, axis)
        graph.operation_of(tensor).name = operation.name
        return tensor

    return roll


def _rolled(tensor: Any, shift: int, axis: int) -> Any:
    from keras import ops

    before, place = [slice(None)] * axis, -shift % tensor.shape[axis]
    parts = tensor[(*before, slice(place, None))], tensor[(*before, slice(None, place))]
    return ops.concatenate(parts, axis=axis)


def _open(size: int) -> int:
    return -1 if _is_counted(size) else size


def _is_counted(number: int) -> bool:
    return number != 0 and number % _COUNT == 0


def _numbers(operation: Any) -> list[int]:
    """Whole numbers that a call of an operation is given, shapes of arrays too."""
    import keras

    given = [[node.arguments.args, node.arguments.kwargs] for node in operation._inbound_nodes[-1:]]
    if not isinstance(operation, keras.layers.Layer):
        given.append([value for name, value in vars(operation).items() if not name.startswith("_")])
    found = []
    for value in keras.tree.flatten(given):
        if isinstance(value, int):
            found.append(value)
        elif hasattr(value, "shape") and not isinstance(value, keras.KerasTensor):
            found += [size for size in value.shape if isinstance(size, int)]
    return found


_INSTEAD: dict[str, Callable[[Any], Any]] = {"Reshape": _reshape_as, "Roll": _roll_as}

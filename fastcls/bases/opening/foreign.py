"""Layers of other libraries, opened: what they compute, said in layers of Keras.

A layer without weights of its own is opened by running its `call` on symbolic tensors, down to layers of
Keras. One with weights of its own needs a rule (`rules.RULES`) that says it in layers of Keras.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fastcls import graph
from fastcls.bases.opening.counting import counted_input, for_any_count
from fastcls.bases.opening.rules import RULES, is_block, is_encoder, is_of_keras_hub

BLOCK_NAME = r"block_\d+"  # of the last operation of a block of a transformer, from block_0


@dataclass
class Opened:
    """What became of a model.

    Attributes:
        output: Symbolic.
        closed: Names and classes of the layers that could not be opened.
        prefix_tokens: How many tokens come before those of the patches, such as a class token; None where no
            patches were embedded.
    """

    output: Any = None
    closed: dict[str, str] = field(default_factory=dict)
    prefix_tokens: int | None = None


def open_layers(model: Any, tensor: Any) -> Opened:
    """`graph.replay`, with foreign layers opened.

    Args:
        model: Functional Keras model with one input. It is taken apart: nothing should call it any more.
        tensor: Symbolic, in the place of its input.
    """
    _name_by_place(model)
    found = Opened()
    if not any(_is_foreign(layer) for layer in model._flatten_layers()):
        found.output = graph.replay(model, tensor)
        return found
    counted = counted_input(tuple(tensor.shape[1:]))
    with _opening(found):
        output = graph.replay(model, counted)
    found.output = for_any_count(counted, output, tensor)
    return found


@contextlib.contextmanager
def _opening(found: Opened) -> Iterator[None]:
    """Inside, calls of foreign layers on symbolic tensors are opened.

    Their code calls other layers, so that there is no other place to step in than `Layer.__call__`.
    """
    import keras

    plain = keras.layers.Layer.__call__
    inside = 0
    named: set[int] = set()
    activations: dict[int, Any] = {}

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal inside
        if not any(isinstance(each, keras.KerasTensor) for each in keras.tree.flatten((args, kwargs))):
            return plain(self, *args, **kwargs)
        if inside and _does_nothing(self):
            return args[0]
        if graph.is_functional(self) and len(self.inputs) == 1:
            (tensor,) = keras.tree.flatten(args)
            return graph.replay(self, tensor)
        if not _is_foreign(self):
            activation = _end_foreign(self, activations)
            return activation(plain(self, *args, **kwargs))
        if kwargs.get("training", 0) is None:
            kwargs.pop("training")
        rule = RULES.get(type(self).__name__) if is_of_keras_hub(type(self)) else None
        if not rule and _owns_weights(self):
            found.closed[self.name] = type(self).__name__
            return plain(self, *args, **kwargs)
        inside += 1
        try:
            output = rule(self, found, *args, **kwargs) if rule else self.call(*args, **kwargs)
        finally:
            inside -= 1
        _name_after(self, output, args, named)
        return output

    keras.layers.Layer.__call__ = call
    try:
        yield
    finally:
        keras.layers.Layer.__call__ = plain


def _is_foreign(layer: Any) -> bool:
    """Whether a layer is of a class that is not Keras's own."""
    return not type(layer).__module__.startswith("keras.")


def _does_nothing(layer: Any) -> bool:
    kind = type(layer).__name__
    return not _is_foreign(layer) and (kind == "Identity" or (kind == "Dropout" and not layer.rate))


def _owns_weights(layer: Any) -> bool:
    return bool(layer._trainable_variables or layer._non_trainable_variables)


def _name_after(layer: Any, output: Any, args: Any, named: set[int]) -> None:
    """Give the last operation of an opened layer its name, so that one can cut there: block_8.

    Layers keep their own names, and operations the first name that they are given, or that of a block.
    """
    import keras

    output = output[0] if isinstance(output, (tuple, list)) else output  # others come beside it
    if not isinstance(output, keras.KerasTensor) or any(output is each for each in args):
        return
    last = graph.operation_of(output)
    is_new = id(last) not in named or is_block(type(layer))
    if not isinstance(last, keras.layers.Layer) and is_new:
        last.name = layer.name
        named.add(id(last))


def _end_foreign(layer: Any, found: dict[int, Any]) -> Any:
    """The function of another library that a layer of Keras ends with, which it no longer does then."""
    import keras

    activation = getattr(layer, "activation", None)
    if callable(activation) and not activation.__module__.startswith("keras."):
        found[id(layer)] = activation
        layer.activation = keras.activations.linear
    return found.get(id(layer), _as_it_is)


def _as_it_is(tensor: Any) -> Any:
    return tensor


def _name_by_place(layer: Any, prefix: str = "", blocks: Iterator[int] | None = None) -> None:
    """Call the layers inside foreign layers by their place, such as block_0_attention for attention.

    Args:
        layer: A model, or a layer.
        prefix: What the names inside it begin with; "" where they stay.
        blocks: Numbers of the blocks of a transformer to come.
    """
    seen: set[str] = set()
    blocks = blocks or itertools.count()
    for inner in layer._flatten_layers(include_self=False, recursive=False):
        if is_block(type(inner)):
            inner.name = f"block_{next(blocks)}"
        elif prefix:
            inner.name = _free(_joined(prefix, inner.name), seen)
        elif is_of_keras_hub(type(layer)):
            inner.name = inner.name.removeprefix(f"{layer.name}_")
        if graph.is_functional(inner) or is_encoder(type(inner)):
            _name_by_place(inner, prefix, blocks)
        elif _is_foreign(inner):
            _name_by_place(inner, inner.name)


def _joined(prefix: str, name: str) -> str:
    """A name after a prefix, without the words that both share.

    >>> _joined("block_0_mlp", "fc1"), _joined("block_0_mlp", "mlp_fc1")
    ('block_0_mlp_fc1', 'block_0_mlp_fc1')
    """
    words = prefix.split("_")
    for place in range(len(words)):
        if name.startswith("_".join([*words[place:], ""])):
            return "_".join([*words[:place], name])
    return f"{prefix}_{name}"


def _free(name: str, taken: set[str]) -> str:
    """The name, with a number where it is taken; it is taken then."""
    numbered, number = name, 0
    while numbered in taken:
        number += 1
        numbered = f"{name}_{number}"
    taken.add(numbered)
    return numbered

"""The calls of a stored model, made again with layers of Keras 3: nested models are opened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastcls import graph
from fastcls.bases.opening.keras2.layers import Built, build, plain_name
from fastcls.bases.opening.keras2.operations import KINDS as OPERATIONS
from fastcls.bases.opening.keras2.operations import operation_of
from fastcls.bases.opening.keras2.structure import (
    CONSTANT,
    Stored,
    input_names,
    is_reference,
    references,
)

# Nothing at inference. Left out, augmentation and the like are not in front of a cut or a normalization.
IDLE = (
    *("InputLayer", "ActivityRegularization", "StochasticDepth"),
    *("RandomFlip", "RandomRotation", "RandomZoom", "RandomTranslation", "RandomHeight", "RandomWidth"),
    *("RandomContrast", "RandomBrightness"),
)
# Options of calls that Keras 2 writes down whatever their value, beside those that are None.
_IGNORED = ("name", "mask", "training")
_ERROR_CHARACTERS = 200

_Find = Callable[[tuple[str, int, int]], Any]


class Replay:
    """Makes the calls of a model, and keeps what it builds for them.

    Attributes:
        built: The layers that have been called, as they were stored and as they are now.
    """

    def __init__(self) -> None:
        self.built: dict[Stored, Built] = {}

    def run(self, model: Stored, tensors: Sequence[Any]) -> list[Any]:
        """Call a model.

        Args:
            model: What is stored of it.
            tensors: Its inputs, symbolic.

        Returns:
            Its outputs.

        Raises:
            ValueError: Something in it is not of Keras, or Keras 3 cannot compute the same.
        """
        outputs = list(tensors)
        if model.kind != "Sequential":
            return self._run_graph(model, outputs)
        for child in model.children:
            outputs = self._call(child, outputs, {})
        return outputs

    def _run_graph(self, model: Stored, tensors: list[Any]) -> list[Any]:
        inputs = input_names(model)
        first = _first_calls(model)
        done = {(name, 0): [tensor] for name, tensor in zip(inputs, tensors, strict=True)}

        def key(reference: tuple[str, int, int]) -> tuple[str, int]:
            return reference[0], reference[1] - first[reference[0]]

        def find(reference: tuple[str, int, int]) -> Any:
            return done[key(reference)][reference[2]]

        waiting = [
            (child, number, call)
            for child in model.children
            for number, call in enumerate(child.calls)
            if child.name not in inputs
        ]
        while waiting:  # they may be stored in any order
            later = []
            for child, number, call in waiting:
                if all(key(reference) in done for reference in references(call)):
                    done[child.name, number] = self._call(child, *_arguments(call, find))
                else:
                    later.append((child, number, call))
            if len(later) == len(waiting):
                raise ValueError(f"the inputs of layer {later[0][0].name!r} are not in it")
            waiting = later
        return [find(end) for end in references(model.config["output_layers"])]

    def _call(self, stored: Stored, inputs: list[Any], options: dict[str, Any]) -> list[Any]:
        if stored.kind in IDLE:
            return inputs
        if options.get("training") is True:
            raise ValueError(f"layer {stored.name!r} is called with training=True: it has no fixed result")
        if stored.is_model:
            return self.run(stored, inputs)
        options = {key: v for key, v in options.items() if v is not None and key not in _IGNORED}
        if stored.kind in OPERATIONS:
            outputs = operation_of(stored)(inputs, options)
        else:
            outputs = self._call_layer(stored, inputs, options)
        _name(inputs, outputs, plain_name(stored.name))
        return outputs

    def _call_layer(self, stored: Stored, inputs: list[Any], options: dict[str, Any]) -> list[Any]:
        import keras

        x = inputs[0] if len(inputs) == 1 else inputs
        if stored.kind == "MultiHeadAttention" and len(inputs) == 1:
            options = {"value": x, **options}
        if stored not in self.built:
            self.built[stored] = _explained(stored, lambda: build(stored, plain_name(stored.name)))
        return keras.tree.flatten(_explained(stored, lambda: self.built[stored](x, **options)))


def _explained(stored: Stored, act: Callable[[], Any]) -> Any:
    """Do what fails on a layer of somebody else with a name of Keras, and in a damaged file."""
    try:
        return act()
    except Exception as error:
        if type(error) is ValueError and str(error).startswith("layer "):
            raise
        reason = " ".join(str(error).split())[:_ERROR_CHARACTERS]
        raise ValueError(f"layer {stored.name!r} is not the {stored.kind} of Keras 3: {reason}") from error


def _name(inputs: Sequence[Any], outputs: Sequence[Any], name: str) -> None:
    """Give operations, which Keras names after their kind, the name of the layer that they stand for."""
    import keras

    made = graph.operations_between(inputs, outputs)
    operations = [operation for operation in made if not isinstance(operation, keras.layers.Layer)]
    if len(operations) < len(made):
        name = f"{name}_activation"
    for number, operation in enumerate(operations):  # the last comes first
        operation.name = f"{name}_{number}" if number else name


def _first_calls(model: Stored) -> dict[str, int]:
    """The lowest number of a call for each layer: 1 for a nested model, whose own graph was its call 0."""
    first: dict[str, int] = {}
    for name, call, _ in references(
        [model.config["output_layers"], *(child.calls for child in model.children)]
    ):
        first[name] = min(first.get(name, call), call)
    return first


def _arguments(call: Any, find: _Find) -> tuple[list[Any], dict[str, Any]]:
    """Tensors and options of a stored call: [[layer, call, output, options], ...], or one such list."""
    options: dict[str, Any] = {}

    def fill(value: Any) -> Any:
        if is_reference(value):
            return find(tuple(value[:3]))
        return [fill(inner) for inner in value] if isinstance(value, list) else value

    def take(stored: Any) -> Any:
        if len(stored) > 3:
            options.update({key: fill(value) for key, value in stored[3].items()})
        return stored[2] if stored[0] == CONSTANT else find(tuple(stored[:3]))

    stored_inputs = [call] if isinstance(call[0], str) else call
    return [take(stored) for stored in stored_inputs], options

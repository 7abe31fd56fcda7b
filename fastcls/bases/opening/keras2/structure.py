"""What Keras 2 stores of a model: its layers, nested models, and which calls which."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MODELS = ("Functional", "Model", "Sequential")
# In the place of a tensor, where a call of an operation takes a number.
CONSTANT = "_CONSTANT_VALUE"
# What other names Keras 2 has for layers of Keras 3.
_SAME = {
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "SyncBatchNormalization": "BatchNormalization",
    "Convolution2D": "Conv2D",
    "Custom>CustomScaleLayer": "CustomScaleLayer",  # of keras.applications; others are the user's
}
_SHAPES = ("batch_input_shape", "batch_shape", "build_input_shape")


@dataclass(frozen=True, eq=False)
class Stored:
    """A layer or model as it is stored; it is a key of dictionaries by its identity.

    Attributes:
        kind: Its class, as Keras 3 calls it; "MODULE>CLASS" for what is not of Keras.
        class_name: Its class, as the file calls it.
        name: Its own name.
        config: Its arguments. Tuples and arrays are lists.
        children: The layers of a model.
        calls: For each call in a functional model, what it is called on.
    """

    kind: str
    class_name: str
    name: str
    config: dict[str, Any]
    children: tuple[Stored, ...] = ()
    calls: tuple[Any, ...] = ()

    @property
    def is_model(self) -> bool:
        """Whether it holds layers."""
        return self.kind in MODELS

    @property
    def trainable(self) -> bool:
        """Whether Keras 2 trained it; it decides in which order its weights are stored."""
        return bool(self.config.get("trainable", True))


def parse(record: Any) -> Stored:
    """Read the record of a layer or model.

    Args:
        record: {"class_name": ..., "config": {...}, ...}, as JSON has it.
    """
    kind, config = str(record["class_name"]), record["config"]
    class_name = kind
    module, registered = record.get("module") or "keras", record.get("registered_name") or ""
    if ">" in registered:
        kind = registered
    elif module.partition(".")[0] not in ("keras", "tf_keras"):
        kind = f"{module}>{kind}"
    if isinstance(config, list):  # Sequential, up to Keras 2.2.2
        config = {"name": "sequential", "layers": config}
    children = config.get("layers", ()) if kind in MODELS else ()
    config = {key: plain(value) for key, value in config.items() if not (key == "layers" and children)}
    return Stored(
        kind=_SAME.get(kind, kind),
        class_name=class_name.rpartition(">")[2],
        name=str(record.get("name") or config.get("name") or kind.lower()),
        config=config,
        children=tuple(parse(child) for child in children),
        calls=tuple(plain(record.get("inbound_nodes") or ())),
    )


def plain(value: Any) -> Any:
    """Lists and numbers in place of the tuples and arrays that Keras 2 writes as dictionaries."""
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    if value.get("class_name") == "__tuple__":
        return plain(value["items"])
    if value.get("class_name") == "__ellipsis__":
        return Ellipsis
    if value.get("class_name") == "__numpy__":
        return value["config"]["value"]
    if set(value) == {"type", "value"}:  # an array, by Keras 2.0 to 2.3
        return value["value"]
    return {key: plain(inner) for key, inner in value.items()}


def input_shape(model: Stored) -> tuple[int | None, ...]:
    """Shape of a model's one input, with the batch in front.

    Raises:
        ValueError: It has several inputs, or the file does not say the shape.
    """
    entries = model.children[:1]
    if model.kind != "Sequential":
        names = input_names(model)
        if len(names) != 1:
            raise ValueError(f"it takes {len(names)} inputs: {', '.join(names)}. A base takes one, of images")
        entries = tuple(child for child in model.children if child.name == names[0])
    for layer in (model, *entries):
        shape = next((layer.config[key] for key in _SHAPES if layer.config.get(key)), None)
        if shape:
            return tuple(shape)
    if entries and entries[0].is_model:
        return input_shape(entries[0])
    raise ValueError("it does not say what images it takes")


def input_names(model: Stored) -> list[str]:
    """Names of the layers that are a functional model's inputs."""
    return [name for name, _, _ in references(model.config["input_layers"])]


def references(value: Any) -> Iterator[tuple[str, int, int]]:
    """Each (layer, call, output) in what is stored of a call or of outputs, nested or named."""
    if is_reference(value):
        yield value[0], value[1], value[2]
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    for inner in inside:
        yield from references(inner)


def is_reference(value: Any) -> bool:
    """Whether it means a tensor: [layer, call, output], with or without options of the call it is in."""
    return (
        isinstance(value, list)
        and len(value) in (3, 4)
        and isinstance(value[0], str)
        and value[0] != CONSTANT
        and all(type(number) is int for number in value[1:3])
    )

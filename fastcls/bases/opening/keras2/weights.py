"""The weights of a Keras 2 model: where each format keeps them, and into which variables they go."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator, Mapping, Sized
from pathlib import Path
from typing import Any

import numpy as np

from fastcls.bases.opening.keras2.checkpoint import Checkpoint, open_checkpoint
from fastcls.bases.opening.keras2.layers import Built
from fastcls.bases.opening.keras2.structure import Stored

# What Keras 2 calls a variable that has another name in Keras 3.
_NAMES = {("DepthwiseConv2D", "kernel"): "depthwise_kernel", ("LayerScale", "kernel"): "gamma"}
# Layers inside a layer: what Keras 3 calls them, and as which attribute Keras 2 keeps them.
_PARTS = {
    **{"query": "_query_dense", "key": "_key_dense", "value": "_value_dense"},
    **{"attention_output": "_output_dense"},
    **dict.fromkeys(("lstm_cell", "gru_cell", "simple_rnn_cell", "conv_lstm_cell"), "cell"),
}
_NOT_TRAINED = ("moving_mean", "moving_variance", "mean", "variance", "count")
# A weights file hardly shrinks in an archive: one that does is made to fill the memory.
_MOST_EXPANSION = 100


def fill(root: Stored, built: Mapping[Stored, Built], path: Path) -> None:
    """Give the layers of a model their weights.

    Args:
        root: The model as it is stored.
        built: Its layers of Keras 3.
        path: Where it is stored: `.h5` or `.keras` file, or SavedModel folder.

    Raises:
        ValueError: The file lacks some, or they are of other shapes.
    """
    import h5py

    slots = {stored: _slots(stored, made.layer) for stored, made in built.items() if made.layer is not None}
    if path.is_dir():
        _fill_from_checkpoint(root, slots, path)
    elif path.suffix == ".keras":
        _fill_from_archive(root, slots, path)
    else:
        with h5py.File(path) as file:
            _fill_from_groups(root, slots, file.get("model_weights", file))
    for made in built.values():
        if hasattr(made.layer, "finalize_state"):
            made.layer.finalize_state()


_Slots = dict[Stored, dict[tuple[str, str], Any]]


def _slots(stored: Stored, layer: Any) -> dict[tuple[str, str], Any]:
    """Variables of a layer by the attribute of Keras 2 that holds them, "" for the layer, and name there."""
    slots = {}
    for variable in layer.weights:
        part, _, name = variable.path.partition("/")[2].rpartition("/")
        kept = "layer" if stored.kind == "TimeDistributed" else _PARTS.get(part, part)
        kind = stored.config["layer"]["class_name"] if stored.kind == "TimeDistributed" else stored.kind
        slots[kept, _NAMES.get((kind, name), name)] = variable
    return slots


def _assign(stored: Stored, name: str, variable: Any, values: Any) -> None:
    """Fill a variable with an array, or with an HDF5 dataset that is read only if it fits."""
    shape = tuple(variable.shape)
    is_factor = stored.kind == "LayerScale" and values.shape == shape[2:3]
    if values.shape != shape and not is_factor:
        raise ValueError(f"{name} of layer {stored.name!r} is of shape {values.shape}. Expected: {shape}")
    variable.assign(np.asarray(values).reshape(shape))


def _require_count(layer: Stored, expected: Sized, stored: Sized) -> None:
    if len(stored) != len(expected):
        what = f"layer {layer.name!r}, a {layer.kind}"
        raise ValueError(f"{what}, holds {len(stored)} weights. That of Keras has {len(expected)}")


def _array(group: Any, name: str) -> Any:
    """An array in an HDF5 file that is stored in that file: it may link to others."""
    import h5py

    found = group[name]
    is_own = isinstance(found, h5py.Dataset) and found.file.filename == group.file.filename
    if not is_own or found.external or found.is_virtual:
        raise ValueError(f"its weights {name} are a link to another file, which is not read")
    return found


# .h5


def _fill_from_groups(root: Stored, slots: _Slots, groups: Any) -> None:
    """A group for each layer of the outermost model, its arrays in the order in which Keras 2 lists them."""
    for layer in root.children:
        trained, others = _in_order(layer, slots)
        order = trained + others
        if not order and layer not in slots:
            continue
        group = groups[layer.name]
        names = [_text(name) for name in _attribute(group, "weight_names")]
        _require_count(layer, order, names)
        for name, (owner, key) in zip(names, order, strict=True):
            if _ending(name) not in (key[1], "variable", ""):
                raise ValueError(f"it holds {name!r} in place of {key[1]} of layer {owner.name!r}")
            _assign(owner, name, slots[owner][key], _array(group, name))


def _in_order(layer: Stored, slots: _Slots) -> tuple[list[Any], list[Any]]:
    """(layer, variable) of what was trained, and of what was not; a model has all of the former first."""
    trained: list[Any] = []
    others: list[Any] = []
    if layer.is_model:
        for child in layer.children:
            inner = _in_order(child, slots)
            trained += inner[0]
            others += inner[1]
    else:
        keys = [(layer, key) for key in slots.get(layer, ())]
        trained = [key for key in keys if key[1][1] not in _NOT_TRAINED]
        others = [key for key in keys if key[1][1] in _NOT_TRAINED]
    return (trained, others) if layer.trainable else ([], trained + others)


def _attribute(group: Any, name: str) -> list[Any]:
    """A list that is in several attributes, numbered, where it is too long for one."""
    if name in group.attrs:
        return list(group.attrs[name])
    numbered = (f"{name}{number}" for number in range(len(group.attrs)))
    return [value for key in numbered if key in group.attrs for value in group.attrs[key]]


def _ending(name: str) -> str:
    """kernel, of "dense_1/kernel_2:0"."""
    return re.sub(r"(_\d+)?(:\d+)?$", "", name.rpartition("/")[2])


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


# .keras


def _fill_from_archive(root: Stored, slots: _Slots, path: Path) -> None:
    import h5py

    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("model.weights.h5")
        if info.file_size > _MOST_EXPANSION * info.compress_size:
            raise ValueError(f"{info.filename} is too large")
        with h5py.File(io.BytesIO(archive.read(info))) as file:
            _fill_from_folders(root, slots, file)


def _fill_from_folders(model: Stored, slots: _Slots, group: Any) -> None:
    """layers/CLASS_NUMBER/vars/0: layers are numbered by class within a model, arrays within a layer."""
    counts: dict[str, int] = {}
    for layer in model.children:
        folder = _snake_case(layer.class_name)
        number = counts[folder] = counts.get(folder, -1) + 1
        place = f"layers/{folder}_{number}" if number else f"layers/{folder}"
        if layer.is_model:
            _fill_from_folders(layer, slots, group[place])
        for part, names in _by_part(slots.get(layer, {})).items():
            inside = f"{place}/{part}/vars" if part else f"{place}/vars"
            _require_count(layer, names, group[inside])
            for index, name in enumerate(names):
                _assign(layer, name, slots[layer][part, name], _array(group, f"{inside}/{index}"))


def _by_part(keys: Mapping[tuple[str, str], Any]) -> dict[str, list[str]]:
    parts: dict[str, list[str]] = {}
    for part, name in keys:
        parts.setdefault(part, []).append(name)
    return parts


def _snake_case(name: str) -> str:
    """As `tf_keras.utils.generic_utils.to_snake_case`."""
    return re.sub("([a-z])([A-Z])", r"\1_\2", re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)).lower()


# SavedModel


def _fill_from_checkpoint(root: Stored, slots: _Slots, folder: Path) -> None:
    """layer-0, layer-1, ... of a model, and a layer's variables by the attributes that hold them."""
    for layer, node in _nodes(root, open_checkpoint(folder / "variables" / "variables")):
        children = node.children
        if layer in slots and "variables" in children:
            _require_count(layer, slots[layer], children["variables"].children)
        for (part, name), variable in slots.get(layer, {}).items():
            holder = children[part].children if part else children
            _assign(layer, name, variable, holder[name].read())


def _nodes(model: Stored, node: Checkpoint) -> Iterator[tuple[Stored, Checkpoint]]:
    layers = [child for child in model.children if (model.kind, child.kind) != ("Sequential", "InputLayer")]
    children = node.children
    for number, layer in enumerate(layers):
        child = children[f"layer-{number}"]
        yield layer, child
        if layer.is_model:
            yield from _nodes(layer, child)

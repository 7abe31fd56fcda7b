"""What a model file says of itself, read and checked before Keras acts on it: no Python in it ever runs.

A configuration names classes. Only those of Keras's own layers pass. A SavedModel holds graphs too, which
may not touch files or networks, though none is run.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastcls import archives, graph
from fastcls.errors import OptionError

# How Keras writes values that JSON lacks.
_VALUES = (
    *("__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__", "__keras_tensor__", "__tuple__"),
    "TensorShape",
)
# Classes that no module of Keras 3 exports, and models are made of.
_MODELS = ("Functional", "Model", "Sequential", "InputLayer")
_MODULES = ("layers", "initializers", "regularizers", "constraints", "dtype_policies")
# Where Keras looks itself, for its own kinds of objects only: code that is installed, not that of the file.
_PACKAGES = ("keras.src", "keras.ops", "keras_hub")
# Of training, which is never restored.
_NOT_READ = ("compile_config", "training_config")
# What TensorFlow calls operations that read or write files, talk to others, or call back into Python.
_REACHING_OUT = re.compile(
    "File|Dataset|Reader|Restore|Save|Checkpoint|Summary|Snapshot|ImmutableConst|PyFunc|Print|Debug"
    "|Rpc|Remote|Send|Recv|Collective|BigQuery|Sql"
)
# What a SavedModel is saved and loaded by, in functions that TensorFlow gives these names.
_SAVING = re.compile("__inference__traced_(save|restore)")
# Numbers of fields in keras_metadata.pb.
_NODES, _PATH, _METADATA = 1, 3, 5
_CHECKPOINT_OPERATIONS = {"SaveV2", "RestoreV2", "MergeV2Checkpoints", "ShardedFilename"}


@dataclass(frozen=True)
class StoredModel:
    """The configuration of a model in a file.

    Attributes:
        config: Class and configuration of the model, as JSON has them.
        keras_version: Of the Keras that wrote it.
    """

    config: Any
    keras_version: str

    @property
    def is_of_keras_2(self) -> bool:
        """Whether it was written before Keras 3."""
        return not self.keras_version.startswith("3")


def is_saved_model(path: Path) -> bool:
    """Whether a path is a SavedModel folder."""
    return (path / "saved_model.pb").is_file()


def read_stored_model(path: Path) -> StoredModel:
    """Read the configuration in a `.keras` or `.h5` file or in a SavedModel folder.

    Raises:
        OptionError: It is a SavedModel without layers.
        ValueError, KeyError, OSError: The file is damaged, or holds no model.
    """
    if path.is_dir():
        return _read_saved_model(path)
    return _read_archive(path) if path.suffix == ".keras" else _read_hdf5(path)


def require_plain(config: Any) -> None:
    """Raise ValueError for what is not of Keras's own in the configuration of a model of Keras 3."""
    reasons = [*_foreign(config)]
    if reasons:
        raise ValueError("; ".join(dict.fromkeys(reasons)))


def _read_archive(path: Path) -> StoredModel:
    with zipfile.ZipFile(path) as archive:
        config, metadata = (archives.read_json(archive, name) for name in ("config.json", "metadata.json"))
    return StoredModel(config, str(metadata.get("keras_version", "")))


def _read_hdf5(path: Path) -> StoredModel:
    import h5py

    with h5py.File(path) as file:
        if "model_config" not in file.attrs:
            raise ValueError("it holds no configuration of a model")
        config = file.attrs["model_config"]
        version, backend = (_text(file.attrs.get(key, "")) for key in ("keras_version", "backend"))
    if not version or version.startswith("1."):  # the first releases did not write it
        raise ValueError(f"it was saved by Keras {version or 1}. Models of Keras 2 and 3 are read")
    if backend == "theano":
        raise ValueError("it was saved by Keras on Theano, which mirrors the kernels of convolutions")
    return StoredModel(json.loads(config), version)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _foreign(value: Any, layer: str = "") -> Iterator[str]:
    """Why a configuration cannot be trusted to Keras."""
    if isinstance(value, list):
        for inner in value:
            yield from _foreign(inner, layer)
    if not isinstance(value, dict):
        return
    layer = _name_of(value) or layer
    if "class_name" in value:
        yield from _foreign_class(value, layer)
    for key, inner in value.items():
        if _is_activation(key) and isinstance(inner, str) and not _is_activation_of_keras(inner):
            yield f"layer {layer!r} has the activation {inner!r}, which is not one of Keras"
        if key not in _NOT_READ:
            yield from _foreign(inner, layer)


def _foreign_class(record: dict[str, Any], layer: str) -> Iterator[str]:
    kind, module = str(record["class_name"]), str(record.get("module") or "keras")
    if kind == "function":
        if not _is_activation_of_keras(record.get("config")):
            yield f"layer {layer!r} has the function {record.get('config')!r}, which is not one of Keras"
    elif kind in ("Lambda", "__lambda__"):
        yield f"layer {layer!r} is a Lambda, Python code inside the file, which is never run"
    elif kind not in _VALUES and (kind in graph.NOT_PLAIN or not _is_of_keras(kind, module)):
        yield f"layer {layer!r} is a {kind}, which is not one of Keras's own layers"


def _is_of_keras(kind: str, module: str) -> bool:
    import keras

    if any(module == package or module.startswith(f"{package}.") for package in _PACKAGES):
        return True
    if module.partition(".")[0] not in ("keras", "tf_keras"):
        return False
    return kind in _MODELS or any(isinstance(getattr(getattr(keras, m), kind, None), type) for m in _MODULES)


def _is_activation(key: str) -> bool:
    return key == "activation" or key.endswith("_activation")


def _is_activation_of_keras(name: Any) -> bool:
    import keras

    return isinstance(name, str) and callable(getattr(keras.activations, name, None))


def _name_of(record: dict[str, Any]) -> str:
    inner = record.get("config")
    # A policy has a name too, and nothing else.
    names = [record.get("name"), inner.get("name") if isinstance(inner, dict) and len(inner) > 1 else None]
    return next((name for name in names if isinstance(name, str)), "")


def _read_saved_model(folder: Path) -> StoredModel:
    """Only Keras 2 writes layers into SavedModels."""
    saved = parse_saved_model(folder)
    require_closed_graphs([meta.graph_def for meta in saved.meta_graphs])
    described = folder / "keras_metadata.pb"
    if described.is_file():
        metadata = _root_metadata(described.read_bytes())
    else:  # up to TensorFlow 2.4
        nodes = saved.meta_graphs[0].object_graph_def.nodes if saved.meta_graphs else ()
        metadata = nodes[0].user_object.metadata if nodes else ""
    if not metadata:
        raise OptionError(
            f"{folder} is a SavedModel without Keras layers (an export for serving): it cannot be cut or "
            "stitched. Give the .keras or .h5 file that it was exported from"
        )
    root = json.loads(metadata)
    if root.get("class_name") not in _MODELS or "config" not in root:
        raise ValueError(
            f"it holds a {root.get('class_name')}, a model whose structure is in Python code only"
        )
    return StoredModel({key: root[key] for key in ("class_name", "config")}, "2")


def parse_saved_model(folder: Path) -> Any:
    """The protocol buffer of a SavedModel folder.

    Raises:
        ValueError: It is damaged.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    try:
        return SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    except DecodeError as error:
        raise ValueError(f"saved_model.pb is damaged: {error}") from error


def _root_metadata(data: bytes) -> str:
    """The root's JSON. SavedMetadata of Keras 2 is { repeated SavedObject nodes = 1 }."""
    from google.protobuf.message import DecodeError

    try:
        nodes = [dict(_fields(value)) for number, value in _fields(data) if number == _NODES]
        return next(node[_METADATA].decode() for node in nodes if node.get(_PATH) == b"root")
    except (DecodeError, KeyError, StopIteration, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"keras_metadata.pb is damaged: {error!r}") from error


def _fields(message: Any) -> list[tuple[int, Any]]:
    """(number, value) of the fields of a protocol buffer whose definition is not installed."""
    from google.protobuf.empty_pb2 import Empty
    from google.protobuf.unknown_fields import UnknownFieldSet

    return [(field.field_number, field.data) for field in UnknownFieldSet(Empty.FromString(message))]


def require_closed_graphs(graphs: list[Any]) -> None:
    """Raise ValueError for graphs that touch files or networks, or call Python."""
    nodes = [node for graph_def in graphs for node in graph_def.node]
    for graph_def in graphs:
        for function in graph_def.library.function:
            allowed = _CHECKPOINT_OPERATIONS if _SAVING.match(function.signature.name) else ()
            nodes += [node for node in function.node_def if node.op not in allowed]
    kinds = sorted({node.op for node in nodes if _REACHING_OUT.search(node.op)})
    if kinds:
        raise ValueError(
            f"its graphs hold {', '.join(kinds)}: what touches files or networks or calls Python is never run"
        )

"""What a model file says of itself, read and checked before Keras acts on it: no Python in it ever runs.

A configuration names classes. Only those of Keras's own layers pass, and of a model of Keras 2 only those
that compute the same in Keras 3. A SavedModel holds graphs too, which may not touch files or networks.
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
from fastcls.optional import require

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
_CHECKPOINT_OPERATIONS = {"SaveV2", "RestoreV2", "MergeV2Checkpoints", "ShardedFilename"}


@dataclass(frozen=True)
class StoredModel:
    """The configuration of a model in a file.

    Attributes:
        config: Class and configuration of the model, as JSON has them.
        keras_version: Of the Keras that wrote it; "" where the file does not say it.
    """

    config: Any
    keras_version: str

    @property
    def is_of_keras_2(self) -> bool:
        """Whether it was written before Keras 3."""
        return not self.keras_version.startswith("3")


def read_stored_model(path: Path) -> StoredModel:
    """Read the configuration in a `.keras` or `.h5` file.

    Raises:
        ValueError, KeyError, OSError: The file is damaged, or holds no model.
    """
    return _read_archive(path) if path.suffix == ".keras" else _read_hdf5(path)


def read_saved_model(folder: Path) -> StoredModel:
    """Read the configuration in a SavedModel folder of Keras 2.

    Raises:
        MissingExtraError: Keras 2 is not installed.
        ValueError: The graphs of the folder reach out, or it holds no functional model.
    """
    _require_closed_graphs(folder / "saved_model.pb")
    require("tf_keras", extra="savedmodel", purpose="Reading a SavedModel")
    from google.protobuf.message import DecodeError
    from tf_keras.protobuf.saved_metadata_pb2 import SavedMetadata

    try:
        nodes = SavedMetadata.FromString((folder / "keras_metadata.pb").read_bytes()).nodes
    except DecodeError as error:
        raise ValueError(f"keras_metadata.pb is damaged: {error}") from error
    roots = [json.loads(node.metadata) for node in nodes if node.node_path == "root"]
    if not roots or roots[0].get("class_name") not in _MODELS:
        kind = roots[0].get("class_name") if roots else "nothing"
        raise ValueError(f"it holds {kind}, a model whose structure is in Python code only")
    return StoredModel({key: roots[0][key] for key in ("class_name", "config")}, "2")


def require_plain(stored: StoredModel) -> None:
    """Raise ValueError for what is no layer of Keras's own, or means something else in this Keras."""
    reasons = [*_foreign(stored.config)]
    if stored.is_of_keras_2:
        reasons += _changed(stored.config)
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
        config, version = file.attrs["model_config"], file.attrs.get("keras_version", "")
    return StoredModel(json.loads(config), version.decode() if isinstance(version, bytes) else str(version))


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


def _changed(value: Any, layer: str = "") -> Iterator[str]:
    """What of a model of Keras 2 would compute something else in Keras 3, without a word from it."""
    if isinstance(value, list):
        for inner in value:
            yield from _changed(inner, layer)
    if not isinstance(value, dict):
        return
    layer = _name_of(value) or layer
    if value.get("class_name") == "UnitNormalization":  # of several axes, and of values near 0
        yield f"layer {layer!r} is a UnitNormalization, which is another in Keras 3"
    if value.get("training") is True:
        yield f"layer {layer!r} is called with training=True, which Keras 3 does not keep to"
    for key, inner in value.items():
        name = (
            inner.get("config")
            if isinstance(inner, dict) and inner.get("class_name") == "function"
            else inner
        )
        if _is_activation(key) and name == "hard_sigmoid":
            yield f"layer {layer!r} has the activation hard_sigmoid, which is another function in Keras 3"
        yield from _changed(inner, layer)


def _name_of(record: dict[str, Any]) -> str:
    inner = record.get("config")
    # A policy has a name too, and nothing else.
    names = [record.get("name"), inner.get("name") if isinstance(inner, dict) and len(inner) > 1 else None]
    return next((name for name in names if isinstance(name, str)), "")


def _require_closed_graphs(path: Path) -> None:
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    try:
        graphs = [meta.graph_def for meta in SavedModel.FromString(path.read_bytes()).meta_graphs]
    except DecodeError as error:
        raise ValueError(f"saved_model.pb is damaged: {error}") from error
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

"""Keras 3's own `.h5` files: where a model calls operations, Keras does not find them again by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_MODELS = ("Functional", "Model", "Sequential")


def read_hdf5(config: Any, path: Path) -> Any:
    """Build a model from its configuration, and load its weights.

    Args:
        config: Of `with_modules`, checked.
        path: The `.h5` file that it is from.
    """
    import keras

    kind = keras.Sequential if config["class_name"] == "Sequential" else keras.Model
    model = kind.from_config(config["config"])
    model.load_weights(path)
    return model


def with_modules(config: Any) -> Any:
    """Say of each operation in a model's configuration where Keras defines it.

    The format has no modules, and Keras takes all classes for layers: `x + 3` is an "Add" there, as the layer
    of that name is. Only layers have "trainable" among their arguments.

    Args:
        config: Class and configuration of the model, as JSON has them.
    """
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
        return config
    if config.get("class_name") in _MODELS:
        layers = [with_modules(layer) for layer in config["config"].get("layers", ())]
        return {**config, "config": {**config["config"], "layers": layers}}
    if "trainable" in config["config"] or config.get("class_name") == "InputLayer":
        return config
    module = _module_of(str(config.get("class_name")))
    return {**config, "module": module, "registered_name": None} if module else config


def _module_of(operation: str) -> str | None:
    import keras
    from keras.src import ops

    for module in (ops, ops.image):
        kind = getattr(module, operation, None)
        if isinstance(kind, type) and issubclass(kind, keras.Operation):
            return kind.__module__
    return None

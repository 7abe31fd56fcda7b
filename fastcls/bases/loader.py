"""Bases by name, from a file, or from a function: a Keras model and what it needs to see."""

from __future__ import annotations

import importlib
import os
import random
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastcls import graph
from fastcls.backend import import_keras
from fastcls.bases.applications import APPLICATIONS, Application, find_application
from fastcls.errors import OptionError, closest
from fastcls.optional import require
from fastcls.specs import BaseSpec

_MODEL_SUFFIXES = (".keras", ".h5", ".hdf5")
# First operations of a model that takes pixels 0-255 and normalizes them itself.
_NORMALIZING = ("Rescaling", "Normalization", "TrueDivide", "Divide", "Multiply", "Subtract", "GetItem")


@dataclass(frozen=True)
class Base:
    """A base model and what it needs to see.

    Attributes:
        name: How the user called it.
        model: Flat functional Keras model, normalized (B, H, W, 3) float32 -> anything.
        size: (height, width) in pixels.
        normalize: "tf", "torch", "caffe" or "none": what happens to pixels before `model`.
    """

    name: str
    model: Any
    size: tuple[int, int]
    normalize: str


def load_base(spec: BaseSpec | str) -> Base:
    """Build or load a base.

    Args:
        spec: What to load; a name alone stands for its defaults.

    Raises:
        OptionError: The name, weights, size or normalization is unknown or does not fit.
    """
    spec = BaseSpec(spec) if isinstance(spec, str) else spec
    import_keras()
    application = find_application(spec.name)
    if application:
        return _load_application(spec, application)
    model = _load_user_model(spec)
    size = _input_size(spec, model)
    model = _flatten(model, size)
    if spec.weights is not None:
        _load_weights(spec, model)
    return Base(spec.name, model, size, spec.normalize or _own_normalization(spec, model))


def is_function(name: str) -> bool:
    """Whether a base is given as "module:function"."""
    module, _, function = name.partition(":")
    return bool(module and function.isidentifier()) and not Path(name).exists()


def import_function(name: str) -> Callable[..., Any]:
    """The function of "module:function"; the working folder is searched first, as `python -m` does.

    Raises:
        OptionError: There is no such module or function.
    """
    module, _, function = name.partition(":")
    if os.getcwd() not in sys.path:  # noqa: PTH109 (compared with strings)
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise OptionError(f"Cannot import {name!r}: {error}. Expected module:function") from error


def _load_application(spec: BaseSpec, application: Application) -> Base:
    size = spec.size or (application.side, application.side)
    weights = spec.weights or "imagenet"
    if weights == "imagenet":
        model = _build(application, size, "imagenet", spec.include_top)
    else:
        model = _build(application, size, None, spec.include_top)
        if weights != "none":
            _load_application_weights(spec, application, model, size)
    return Base(spec.name, model, size, spec.normalize or application.normalize)


def _build(application: Application, size: tuple[int, int], weights: str | None, top: bool) -> Any:
    from keras import applications
    from keras.src.backend.common import global_state

    # Keras numbers unnamed layers over the life of the process; a base must always have the same names.
    numbering = global_state.get_global_attribute("object_name_uids")
    global_state.set_global_attribute("object_name_uids", None)
    randomness = random.getstate()
    random.seed(0)  # initializers draw their seeds from here: random weights are the same everywhere
    try:
        options: dict[str, Any] = {} if top else {"pooling": "avg"}
        create = getattr(applications, application.function)
        return create(weights=weights, include_top=top, input_shape=(*size, 3), **options)
    except Exception as error:
        raise OptionError(_explain(error, application, size)) from error
    finally:
        random.setstate(randomness)
        global_state.set_global_attribute("object_name_uids", numbering)


def _explain(error: Exception, application: Application, size: tuple[int, int]) -> str:
    if "URL fetch failure" in str(error):
        folder = os.environ.get("KERAS_HOME", "~/.keras")
        return (
            f"The ImageNet weights of {application.function} cannot be downloaded ({error}). "
            f"Give a weights file with --weights PATH, or put Keras's file into {folder}/models"
        )
    return f"{application.function} cannot be built for {size[0]}x{size[1]} pixels: {error}"


def _load_application_weights(
    spec: BaseSpec, application: Application, model: Any, size: tuple[int, int]
) -> None:
    try:
        _load_weights(spec, model)
    except OptionError:
        if spec.include_top or not str(spec.weights).endswith(".h5"):
            raise
        # Perhaps the file also holds the classifier: load all of it, keep the part in common.
        whole = _build(application, (application.side, application.side), None, True)
        _load_weights(spec, whole)
        _copy_leading_weights(whole, model)


def _load_weights(spec: BaseSpec, model: Any) -> None:
    path = Path(str(spec.weights))
    if not path.is_file():
        raise OptionError(
            f"There is no weights file {path}. Expected imagenet, none, or a .weights.h5, .h5 or .keras file"
        )
    try:
        if path.suffix == ".keras":
            _copy_leading_weights(_load_file(path), model)
        else:
            _load_weights_file(path, model)
    except (ValueError, KeyError, OSError, IndexError) as error:
        reason = str(error).strip().splitlines()[0][:300]
        raise OptionError(f"The weights in {path} do not fit {spec.name}: {reason}") from error


def _load_weights_file(path: Path, model: Any) -> None:
    with warnings.catch_warnings():
        # Keras warns of every group that it skips, then raises if a layer of the model got no weights.
        warnings.simplefilter("ignore", UserWarning)
        model.load_weights(path)


def _copy_leading_weights(source: Any, target: Any) -> None:
    theirs, ours = source.weights, target.weights
    shapes = [tuple(weight.shape) for weight in theirs[: len(ours)]]
    if shapes != [tuple(weight.shape) for weight in ours]:
        raise ValueError("the file holds another architecture")
    for weight, value in zip(ours, theirs, strict=False):
        weight.assign(value)


def _load_user_model(spec: BaseSpec) -> Any:
    import keras

    if is_function(spec.name):
        model = import_function(spec.name)()
        if not isinstance(model, keras.Model):
            raise OptionError(f"{spec.name} must return a keras.Model. Received: {type(model).__name__}")
        return model
    path = Path(spec.name)
    if path.name.endswith(".weights.h5"):
        raise OptionError(f"{path} holds weights without a model. Use: --base NAME --weights {path}")
    if path.is_file() and path.suffix in _MODEL_SUFFIXES:
        return _load_file(path)
    if (path / "saved_model.pb").is_file():
        return _load_saved_model(path)
    if path.suffix in _MODEL_SUFFIXES or path.exists():
        raise OptionError(f"{path} is not a Keras model file. Expected an existing .keras, .h5 or SavedModel")
    raise OptionError(
        f"Unknown base: {spec.name!r}. The closest names are {closest(spec.name, APPLICATIONS)}; "
        "`fastcls bases` lists all. A file (.keras, .h5, SavedModel) or module:function also works"
    )


def _load_file(path: Path) -> Any:
    import keras

    try:
        return keras.saving.load_model(path, compile=False)
    except (ValueError, TypeError, OSError, KeyError, ImportError) as error:
        reason = str(error).strip().splitlines()[0][:300]
        raise OptionError(
            f"{path} cannot be loaded as a Keras model: {reason}. "
            "A model with layers of your own loads as module:function"
        ) from error


def _load_saved_model(path: Path) -> Any:
    # Keras 3 cannot read a SavedModel's layers; Keras 2 can, and both know the .h5 format.
    if not (path / "keras_metadata.pb").is_file():
        raise OptionError(
            f"{path} is a SavedModel without Keras layers (an export for serving): it cannot be cut or "
            "stitched. Give the .keras or .h5 file that it was exported from"
        )
    legacy = require("tf_keras", extra="savedmodel", purpose="Reading a SavedModel")
    with tempfile.TemporaryDirectory() as folder:
        converted = Path(folder) / "model.h5"
        legacy.models.load_model(path, compile=False).save(converted)
        return _load_file(converted)


def _input_size(spec: BaseSpec, model: Any) -> tuple[int, int]:
    inputs = getattr(model, "inputs", None) or []
    shapes = [tuple(tensor.shape) for tensor in inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][-1] != 3:
        raise OptionError(
            f"A base takes one input of RGB images (batch, height, width, 3). {spec.name} takes: "
            f"{shapes or 'an unknown shape (a subclassed model that was never built?)'}"
        )
    own = shapes[0][1:3]
    size = spec.size or own
    if None in size:
        raise OptionError(f"{spec.name} takes images of any size: choose one with --size HEIGHTxWIDTH")
    if any(fixed not in (None, wanted) for fixed, wanted in zip(own, size, strict=True)):
        raise OptionError(f"{spec.name} takes images of {own[0]}x{own[1]}. Received: size={size}")
    return size


def _flatten(model: Any, size: tuple[int, int]) -> Any:
    import keras

    image = keras.Input((*size, 3), name="input")
    if not hasattr(model, "_nodes_by_depth") and not getattr(model, "_functional", None):
        return keras.Model(image, model(image))  # subclassed: one opaque layer
    return keras.Model(image, graph.replay(model, image))


def _own_normalization(spec: BaseSpec, model: Any) -> str:
    first = next((type(node.operation).__name__ for node in graph.nodes(model)), "")
    if first in _NORMALIZING:
        return "none"
    raise OptionError(
        f"How {spec.name} wants its pixels is unknown: it has no normalization inside. "
        "Say it with --normalize tf|torch|caffe|none"
    )

"""Keras models from files: `.keras`, `.h5`, and SavedModel folders of Keras 2."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path
from typing import Any

from fastcls.backend import reproducible_build
from fastcls.errors import OptionError
from fastcls.optional import require

_SUFFIXES = (".keras", ".h5", ".hdf5")


def read_model(path: Path) -> Any:
    """Read a model, without its optimizer.

    Code inside the file (Lambda layers) is not run.

    Raises:
        OptionError: There is no such file, it holds no model, is damaged, or needs code of the user's.
    """
    if path.name.endswith(".weights.h5"):
        raise OptionError(f"{path} holds weights without a model. Use: --base NAME --weights {path}")
    if (path / "saved_model.pb").is_file():
        return _read_saved_model(path)
    if not path.is_file() or path.suffix not in _SUFFIXES:
        raise OptionError(f"{path} is not a Keras model file. Expected an existing .keras, .h5 or SavedModel")
    if path.suffix == ".keras" and not zipfile.is_zipfile(path):
        raise OptionError(f"{path} is not a Keras model: it is no zip archive. It may be truncated")
    return _load(path)


def looks_like_file(name: str) -> bool:
    """Whether a base's name means a file or folder, there or not."""
    return Path(name).suffix in _SUFFIXES or Path(name).exists()


def first_line(error: Exception) -> str:
    """The beginning of an error's text: Keras goes on with whole configurations."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]


def _load(path: Path) -> Any:
    import keras

    try:
        with reproducible_build():  # a file has no seeds of its dropouts
            return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # damaged files fail anywhere: in zip, JSON, HDF5, or a layer's own code
        raise OptionError(
            f"{path} cannot be loaded as a Keras model: {first_line(error)}. If it is whole, and has layers "
            "or functions of your own, give it as module:function, a function that returns the model"
        ) from error


def _read_saved_model(path: Path) -> Any:
    # Keras 3 cannot read a SavedModel's layers; Keras 2 can, and both know the .h5 format.
    if not (path / "keras_metadata.pb").is_file():
        raise OptionError(
            f"{path} is a SavedModel without Keras layers (an export for serving): it cannot be cut or "
            "stitched. Give the .keras or .h5 file that it was exported from"
        )
    legacy = require("tf_keras", extra="savedmodel", purpose="Reading a SavedModel")
    with tempfile.TemporaryDirectory() as folder:
        converted = Path(folder) / "model.h5"
        try:
            legacy.models.load_model(path, compile=False).save(converted)
        except Exception as error:  # subclassed models, layers of the user's own, damaged files
            raise OptionError(
                f"{path} cannot be converted from Keras 2: {first_line(error)}. "
                "Save it with Keras 2 as an .h5 file, if it is a functional model"
            ) from error
        return _load(converted)

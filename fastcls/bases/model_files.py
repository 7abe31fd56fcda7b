"""Keras models from files: `.keras`, `.h5`, and SavedModel folders of Keras 2."""

from __future__ import annotations

import contextlib
import json
import logging
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastcls.backend import reproducible_build
from fastcls.bases.stored_models import read_saved_model, read_stored_model, require_plain
from fastcls.errors import MissingExtraError, OptionError
from fastcls.optional import require

_SUFFIXES = (".keras", ".h5", ".hdf5")


def read_model(path: Path) -> Any:
    """Read a model, without its optimizer.

    Code inside the file (Lambda layers) is not run.

    Raises:
        OptionError: There is no such file, it holds no model, is damaged, or has layers or functions that are
            not Keras's own, or not those of this Keras.
    """
    if path.name.endswith(".weights.h5"):
        raise OptionError(f"{path} holds weights without a model. Use: --base NAME --weights {path}")
    if (path / "saved_model.pb").is_file():
        return _read_saved_model(path)
    if not path.is_file() or path.suffix not in _SUFFIXES:
        raise OptionError(f"{path} is not a Keras model file. Expected an existing .keras, .h5 or SavedModel")
    if path.suffix == ".keras" and not zipfile.is_zipfile(path):
        raise OptionError(f"{path} is not a Keras model: it is no zip archive. It may be truncated")
    return _load(path, path)


def looks_like_file(name: str) -> bool:
    """Whether a base's name means a file or folder, there or not."""
    return Path(name).suffix in _SUFFIXES or Path(name).exists()


def first_line(error: Exception) -> str:
    """The beginning of an error's text: Keras goes on with whole configurations."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]


def _load(file: Path, path: Path) -> Any:
    """Load a file that is checked first; messages call it `path`."""
    import keras

    with _explained(path):
        stored = read_stored_model(file)
        require_plain(stored)
        if file.suffix == ".keras" and stored.is_of_keras_2:
            raise ValueError("it is a .keras file of Keras 2. Save the model there as .h5, which is read")
        with reproducible_build():  # a file has no seeds of its dropouts
            return keras.saving.load_model(file, compile=False, safe_mode=True)


def _read_saved_model(path: Path) -> Any:
    # Keras 3 cannot read a SavedModel's layers; Keras 2 can, and both know the .h5 format. The graphs inside
    # are not even loaded: the layers are built from their configuration, and filled from the checkpoint.
    if not (path / "keras_metadata.pb").is_file():
        raise OptionError(
            f"{path} is a SavedModel without Keras layers (an export for serving): it cannot be cut or "
            "stitched. Give the .keras or .h5 file that it was exported from"
        )
    with _explained(path):
        stored = read_saved_model(path)
        require_plain(stored)
    legacy = require("tf_keras", extra="savedmodel", purpose="Reading a SavedModel")
    with tempfile.TemporaryDirectory() as folder:
        converted = Path(folder) / "model.h5"
        with _explained(path), _quiet():
            model = legacy.models.model_from_json(json.dumps(stored.config))
            status = model.load_weights(path / "variables" / "variables")
            status.assert_existing_objects_matched()
            model.save(converted, include_optimizer=False)
        return _load(converted, path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keras 2 warns of its .h5 format, and of models that are not compiled: both are ours."""
    logger = logging.getLogger("tensorflow")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        logger.disabled = True
        try:
            yield
        finally:
            logger.disabled = False


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except MissingExtraError:
        raise
    except Exception as error:  # damaged files fail anywhere: in zip, JSON, HDF5, or a layer's own code
        raise OptionError(
            f"{path} cannot be loaded as a Keras model: {_reason(error)}. If it is whole, build it of "
            "Keras's own layers, and give it as module:function, a function that returns the model"
        ) from error


def _reason(error: Exception) -> str:
    """What Keras says last: before it, there is the whole configuration of a layer."""
    return first_line(ValueError(str(error).rpartition("Exception encountered: ")[2] or repr(error)))

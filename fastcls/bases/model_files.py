"""Keras models from files: `.keras`, `.h5`, and SavedModel folders of Keras 2."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastcls.backend import reproducible_build
from fastcls.bases.opening.hdf5 import read_hdf5, with_modules
from fastcls.bases.opening.keras2.reader import read_keras_2
from fastcls.bases.stored_models import is_saved_model, read_stored_model, require_plain
from fastcls.errors import OptionError

_SUFFIXES = (".keras", ".h5", ".hdf5")
_HDF5 = b"\x89HDF\r\n\x1a\n"  # how such a file starts, whatever it is called: many are NAME.model


def read_model(path: Path) -> Any:
    """Read a model, without its optimizer.

    Code inside the file (Lambda layers, graphs) is not run. A model of Keras 2 becomes a flat one of Keras 3.

    Raises:
        OptionError: There is no such file, it holds no model, is damaged, or has layers or functions that are
            not Keras's own.
    """
    if path.name.endswith(".weights.h5"):
        raise OptionError(f"{path} holds weights without a model. Use: --base NAME --weights {path}")
    if is_saved_model(path):
        return _load(path)
    if not path.is_file() or (path.suffix not in _SUFFIXES and not _is_hdf5(path)):
        raise OptionError(f"{path} is not a Keras model file. Expected an existing .keras, .h5 or SavedModel")
    if path.suffix == ".keras" and not zipfile.is_zipfile(path):
        raise OptionError(f"{path} is not a Keras model: it is no zip archive. It may be truncated")
    return _load(path)


def looks_like_file(name: str) -> bool:
    """Whether a base's name means a file or folder, there or not."""
    return Path(name).suffix in _SUFFIXES or Path(name).exists()


def _is_hdf5(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_HDF5)) == _HDF5


def first_line(error: Exception) -> str:
    """The beginning of an error's text: Keras goes on with whole configurations."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]


def _load(path: Path) -> Any:
    import keras

    with _explained(path):
        stored = read_stored_model(path)
        if stored.is_of_keras_2:
            return read_keras_2(stored.config, path)
        config = with_modules(stored.config) if path.suffix != ".keras" else stored.config
        require_plain(config)
        with reproducible_build():  # a file has no seeds of its dropouts
            if path.suffix != ".keras":
                return read_hdf5(config, path)
            return keras.saving.load_model(path, compile=False, safe_mode=True)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OptionError:
        raise
    except Exception as error:  # damaged files fail anywhere: in zip, JSON, HDF5, or a layer's own code
        raise OptionError(
            f"{path} cannot be loaded as a Keras model: {_reason(error)}. If it is whole, build it of "
            "Keras's own layers, and give it as module:function, a function that returns the model"
        ) from error


def _reason(error: Exception) -> str:
    """What Keras says last: before it, there is the whole configuration of a layer."""
    return first_line(ValueError(str(error).rpartition("Exception encountered: ")[2] or repr(error)))

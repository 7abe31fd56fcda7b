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
    require_whole(path)
    if path.name.endswith(".weights.h5"):
        raise OptionError(f"{path} holds weights without a model. Use: --base NAME --weights {path}")
    if is_saved_model(path):
        return _load(path)
    if not path.is_file() or (path.suffix not in _SUFFIXES and not _is_hdf5(path)):
        raise OptionError(f"{path} is not a Keras model file. Expected an existing .keras, .h5 or SavedModel")
    return _load(path)


def require_whole(path: Path) -> None:
    """Refuse a model or weights file that is not as long as it says, or is of another kind than its name.

    Raises:
        OptionError: As the message says.
    """
    if not path.is_file() or path.suffix not in _SUFFIXES:
        return
    reason = _broken_zip(path) if path.suffix == ".keras" else _broken_hdf5(path)
    if reason:
        raise OptionError(f"{path} is damaged: {reason}. Copy or download it again")


def _broken_zip(path: Path) -> str:
    """Why a file is no whole zip archive; "" if it is one."""
    if zipfile.is_zipfile(path):  # which looks at its end
        return ""
    with path.open("rb") as file:
        return "it is truncated" if file.read(2) == b"PK" else "it is no zip archive"


def _broken_hdf5(path: Path) -> str:
    """Why a file is no whole HDF5 file; "" if it is one."""
    import h5py

    try:
        with h5py.File(path):
            return ""
    except OSError as error:
        known = {"truncated file": "it is truncated", "signature not found": "it is no HDF5 file"}
        return next((words for text, words in known.items() if text in str(error)), first_line(error))


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

"""The file of a classifier: a Keras model and what is known of it, looked at without Keras."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastcls import archives, files
from fastcls.backend import import_keras, reproducible_build
from fastcls.errors import OptionError
from fastcls.run_record import read_described
from fastcls.training.familiarity import Familiarity

FAMILIARITY = "fastcls/familiarity.npz"
_CONFIG = "config.json"


@dataclass(frozen=True)
class ModelFile:
    """A whole file with a Keras model.

    Attributes:
        path: The file.
        digest: Of its bytes.
    """

    path: Path
    digest: str

    @classmethod
    def open(cls, path: Path, size: tuple[int, int]) -> ModelFile:
        """Look at a file, as far as that can be done without Keras.

        Args:
            path: The file.
            size: (height, width) of the image that its model is to take.

        Raises:
            OptionError: It is damaged, or takes others.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                wrong = archive.testzip()
                described = archives.read_json(archive, _CONFIG)
        except Exception as error:  # zipfile fails on a damaged file anywhere
            raise OptionError(f"{path} is damaged: {type(error).__name__}: {error}") from error
        if wrong:
            raise OptionError(f"{path} is damaged: the checksum of its {wrong} does not match")
        with contextlib.suppress(LookupError, TypeError):  # of another kind: Keras will tell
            _require_size(described["config"]["layers"][0]["config"]["batch_shape"][1:3], size, path)
        return cls(path, files.file_digest(path))

    def load_model(self, size: tuple[int, int]) -> Any:
        """The Keras model.

        Raises:
            OptionError: The file was replaced since it was opened, Keras cannot load it, or its model takes
                images of another size.
        """
        keras = import_keras()
        try:
            if files.file_digest(self.path) != self.digest:
                raise OptionError(f"{self.path} was replaced after it was opened. Load it again")
            with reproducible_build():  # a file has no seeds of its dropouts, which may be trained further
                model = keras.saving.load_model(self.path, compile=False)
        except OptionError:
            raise
        except Exception as error:  # Keras fails on a damaged file anywhere
            raise OptionError(f"{self.path} is damaged: {type(error).__name__}: {error}") from error
        _require_size(model.inputs[0].shape[1:3], size, self.path)
        return model


def layer_names(path: Path) -> tuple[str, ...]:
    """Names of the layers of a model in a file, and of models inside of it; none where it does not tell."""
    with contextlib.suppress(Exception), zipfile.ZipFile(path) as archive:  # Keras will tell what is wrong
        return tuple(_names_in(archives.read_json(archive, _CONFIG)["config"]))
    return ()


def _names_in(config: Mapping[str, Any]) -> Iterator[str]:
    for layer in config.get("layers", ()):
        yield layer["config"]["name"]
        yield from _names_in(layer["config"])


def read_member(file: Path, name: str) -> dict[str, Any]:
    """What travels with the model in a file.

    Raises:
        OptionError: There is none, or it is damaged.
    """
    if not file.is_file():
        raise OptionError(
            f"There is no classifier at {file}. Train one with: fastcls train-head CACHE --out RUN"
        )
    try:
        with zipfile.ZipFile(file) as archive:
            return read_described(archives.read_json(archive, name))
    except Exception as error:  # zipfile fails on a damaged file anywhere
        raise OptionError(f"{file} is not a classifier made by fastcls, or damaged: {error}") from error


def read_familiarity(file: Path) -> Familiarity | None:
    """What the training images of a classifier are like; None where its file does not say.

    Raises:
        OptionError: It is damaged.
    """
    with zipfile.ZipFile(file) as archive:
        if FAMILIARITY not in archive.namelist():
            return None
        try:
            return Familiarity.from_bytes(archive.read(FAMILIARITY))
        except Exception as error:  # zipfile and NumPy fail on a damaged file anywhere
            raise OptionError(f"{file} is damaged: its {FAMILIARITY}: {error}") from error


def _require_size(found: Any, size: tuple[int, int], path: Path) -> None:
    if tuple(found) != tuple(size):
        raise OptionError(f"{path} is damaged: its model does not take images of {tuple(size)}")

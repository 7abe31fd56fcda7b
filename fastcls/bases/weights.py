"""Weights files: all weights of a model come from the file, and all of the file go into the model."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from fastcls.bases.model_files import first_line, read_model, require_whole
from fastcls.errors import OptionError


def load_weights(model: Any, path: Path, name: str) -> None:
    """Load a `.weights.h5`, `.h5` or `.keras` file into a model of exactly that architecture.

    Args:
        model: What to fill; when this raises, its weights are in no particular state.
        path: The file.
        name: What the model is called in messages.

    Raises:
        OptionError: There is no such file, it is damaged, or it holds weights of another architecture.
    """
    if not path.is_file() or path.suffix not in (".h5", ".hdf5", ".keras"):
        raise OptionError(
            f"Expected imagenet, random, or an existing .weights.h5, .h5 or .keras file as weights. "
            f"Received: {path}"
        )
    require_whole(path)
    try:
        if path.suffix == ".keras":
            _copy(read_model(path), model)
        else:
            _load_hdf5(path, model)
    except Exception as error:  # damaged files fail anywhere in HDF5
        raise OptionError(f"The weights in {path} do not fit {name}: {first_line(error)}") from error


def copy_leading_weights(source: Any, target: Any) -> None:
    """Fill a model with the first weights of one that goes on after it, with a classifier for example.

    Raises:
        ValueError: The weights of `source` do not begin with those of `target`.
    """
    theirs, ours = source.weights[: len(target.weights)], target.weights
    if [tuple(weight.shape) for weight in theirs] != [tuple(weight.shape) for weight in ours]:
        raise ValueError("the shapes of the weights differ")
    for weight, value in zip(ours, theirs, strict=True):
        weight.assign(value)


def count_classes(path: Path, trunk: Any) -> int | None:
    """How many classes the classifier in a weights file tells apart; None when that cannot be seen.

    Args:
        path: A `.weights.h5`, `.h5` or `.keras` file.
        trunk: The model of that file without its classifier.

    Raises:
        OptionError: The file is damaged.
    """
    trunks = Counter(tuple(weight.shape) for weight in trunk.weights)
    classifier = Counter(_stored_shapes(path)) - trunks
    biases = {shape[-1] for shape in classifier if len(shape) == 1}
    inputs = {shape[-2] for shape in classifier if len(shape) > 1}
    ends = biases - inputs  # the layer whose output no other takes
    return ends.pop() if len(ends) == 1 else None


def _stored_shapes(path: Path) -> list[tuple[int, ...]]:
    if path.suffix == ".keras":
        return [tuple(weight.shape) for weight in read_model(path).weights]
    try:
        return _read_shapes(path)
    except Exception as error:  # damaged files fail anywhere in HDF5
        raise OptionError(f"{path} cannot be read: {first_line(error)}") from error


def _copy(source: Any, target: Any) -> None:
    _require_count(len(source.weights), target)
    copy_leading_weights(source, target)


def _load_hdf5(path: Path, model: Any) -> None:
    if path.name.endswith(".weights.h5"):
        # Keras leaves out what it finds no place for: a longer chain of equal layers would load in part.
        _require_count(len(_read_shapes(path)), model)
    with warnings.catch_warnings():
        # Keras warns of every group that it skips, then raises if a layer of the model got no weights.
        warnings.simplefilter("ignore", UserWarning)
        model.load_weights(path)


def _read_shapes(path: Path) -> list[tuple[int, ...]]:
    """Shapes of the weight arrays in an HDF5 file, those of an optimizer left out."""
    import h5py

    shapes: list[tuple[int, ...]] = []

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith("optimizer"):
            shapes.append(item.shape)

    with h5py.File(path) as file:
        file.visititems(note)
    return shapes


def _require_count(held: int, model: Any) -> None:
    if held != len(model.weights):
        raise ValueError(f"it holds {held} weight arrays, the model has {len(model.weights)}")

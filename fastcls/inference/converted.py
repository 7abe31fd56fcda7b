"""Saved models, converted once per machine for the fastest engine in float32: they run without TensorFlow."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from fastcls import files, home
from fastcls.engines import Engine, engine_class, engines_of
from fastcls.engines.crops import crops
from fastcls.engines.trunk import Trunk
from fastcls.errors import CacheError, ConversionError, MissingExtraError, OptionError
from fastcls.machine import cores, cpu_flags
from fastcls.specs import ENGINES

TOLERANCE = 1e-4
_COMPARED = 8
_MODEL = "model.keras"  # beside which an engine has its files; it is not there itself
_COMPARISON = "comparison.json"
_PACKAGES = ("keras", "openvino", "tensorflow")
logger = logging.getLogger(__name__)


class _Comparison(TypedDict):
    reason: str


def converted(kind: str, digest: str, load: Callable[[], Any] | None = None) -> Engine | None:
    """A saved Keras model that ends in probabilities, as the fastest engine in float32 runs it.

    Args:
        kind: What the model is, such as "classifier".
        digest: Of its file.
        load: Loads it, to convert it where that has not been done on this machine; None to leave that.

    Returns:
        None where there is no such engine, the model was not converted, or the engine does not come as near
        to Keras as `TOLERANCE`.
    """
    engine = _fastest()
    if engine is None:
        return None
    key = _key(engine, digest)
    place = home.find(kind, key)
    if place is None and load:
        model = load()
        place = home.kept(kind, key, lambda folder: _convert(engine, model, folder))
    if place is None or home.read(place, _COMPARISON, _Comparison)["reason"]:
        return None
    try:
        return engine(place / _MODEL, cores())
    except (CacheError, ConversionError) as error:
        logger.warning("%s. Keras is used instead", error)
        return None


def _fastest() -> type[Engine] | None:
    for name in engines_of("float32"):
        engine = engine_class(ENGINES[name]["float32"])
        try:
            if engine.converts:
                engine.require()
                return engine
        except (MissingExtraError, OptionError):
            continue
    return None


def _key(engine: type[Engine], digest: str) -> str:
    versions = []
    for package in _PACKAGES:
        try:
            versions.append(metadata.version(package))
        except metadata.PackageNotFoundError:
            versions.append("")
    return files.json_digest([engine.__name__, digest, versions, sorted(cpu_flags())])


def _convert(engine: type[Engine], model: Any, folder: Path) -> None:
    """Convert a model, and note how near the engine comes to Keras, or why it cannot be used."""
    trunk, inputs = Trunk(folder / _MODEL, model), _inputs(model)
    difference, reason = None, ""
    try:
        engine.prepare(trunk, lambda: inputs)
        found = engine(trunk.path, cores()).run(inputs)
        difference = float(np.abs(found - trunk.run(inputs)).max())
        if not difference <= TOLERANCE:
            reason = f"its probabilities differ by {difference:.2g}, allowed are {TOLERANCE:g}"
    except (CacheError, ConversionError) as error:
        reason = str(error)
    if reason:
        logger.warning("Keras is used for this model, in place of a faster engine: %s", reason)
    files.write_json(folder / _COMPARISON, {"difference": difference, "reason": reason})


def _inputs(model: Any) -> np.ndarray:
    """What Keras and an engine are compared on: photographs, or random bottlenecks."""
    tensor = model.inputs[0]
    shape = tuple(tensor.shape[1:])
    if tensor.dtype == "uint8":
        return crops(shape[:2], _COMPARED)
    noise = np.random.default_rng(0).standard_normal((_COMPARED, *shape), np.float32)
    return np.abs(noise)

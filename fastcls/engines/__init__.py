"""Engines run the trunk on a batch: images (B, H, W, 3) uint8 -> bottlenecks (B, ...) float32."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Protocol

import numpy as np

_CLASSES = {
    ("openvino", "int8"): "fastcls.engines.openvino:Int8Engine",
    ("openvino", "bfloat16"): "fastcls.engines.openvino:Bfloat16Engine",
    ("tensorflow", "bfloat16"): "fastcls.engines.tensorflow:Bfloat16Engine",
    ("openvino", "float16"): "fastcls.engines.openvino:Float16Engine",
    ("tensorflow", "float16"): "fastcls.engines.tensorflow:Float16Engine",
    ("openvino", "float32"): "fastcls.engines.openvino:OpenVINOEngine",
    ("tensorflow", "float32"): "fastcls.engines.tensorflow:TensorFlowEngine",
}
REFERENCE = _CLASSES["tensorflow", "float32"]


def engines_of(precision: str) -> list[str]:
    """Names of the engines that compute in a precision, the fastest on CPUs first."""
    return [engine for engine, computed in _CLASSES if computed == precision]


def engine_path(engine: str, precision: str) -> str:
    """The class of an engine, as "module:class"."""
    return _CLASSES[engine, precision]


def engine_class(path: str) -> Any:
    """The class that a "module:class" names."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


class Engine(Protocol):
    """What runs the trunk on a batch.

    An engine that a user can choose also has two class methods: `require()` raises `OptionError` where
    this machine or install cannot run it, and `prepare(trunk, read_images)` makes what it loads from
    beside the trunk, once per cache; images (N, H, W, 3) uint8 are read only by those who learn from them.
    Those that learn have `is_calibrated`, and `damage(trunk)`: what is wrong with what was learnt, or "".
    """

    def __init__(self, trunk: Path, threads: int = 0) -> None:
        """Load a saved trunk, with so many threads for one batch; 0 for the engine's choice."""

    def run(self, images: np.ndarray) -> np.ndarray:
        """Forward (B, H, W, 3) uint8 RGB images to (B, ...) float32 bottlenecks."""

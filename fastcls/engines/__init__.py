"""Engines run the trunk on a batch: images (B, H, W, 3) uint8 -> bottlenecks (B, ...) float32."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Protocol

import numpy as np

from fastcls.errors import OptionError

_CLASSES = {
    ("tensorflow", "float32"): "fastcls.engines.tensorflow:TensorFlowEngine",
    ("openvino", "float32"): "fastcls.engines.openvino:OpenVINOEngine",
    ("openvino", "bfloat16"): "fastcls.engines.openvino:Bfloat16Engine",
}
REFERENCE = _CLASSES["tensorflow", "float32"]


def find_engine(engine: str, precision: str) -> str:
    """The engine of a name and a precision, as "module:class".

    Raises:
        OptionError: The engine does not compute in that precision.
    """
    found = _CLASSES.get((engine, precision))
    if found:
        return found
    able = [known for known, computed in _CLASSES if computed == precision]
    raise OptionError(
        f"The engine {engine} does not compute in {precision}. These do: {', '.join(able)}. "
        "Choose one with --engine"
    )


def load_engine(engine: str, trunk: Path, threads: int = 0) -> Engine:
    """Load a trunk into an engine.

    Args:
        engine: "module:class" with the signature of `TensorFlowEngine`.
        trunk: The saved Keras model.
        threads: Threads for inference, 0 for the engine's choice.
    """
    module, _, name = engine.partition(":")
    loaded: Engine = getattr(importlib.import_module(module), name)(trunk, threads)
    return loaded


class Engine(Protocol):
    """What runs the trunk on a batch."""

    def run(self, images: np.ndarray) -> np.ndarray:
        """Forward (B, H, W, 3) uint8 RGB images to (B, ...) float32 bottlenecks."""

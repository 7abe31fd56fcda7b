"""OpenVINO runs the trunk on CPUs: faster than TensorFlow at the same precision, and in bfloat16.

The trunk is converted once, normalization included, and kept beside it: later engines do without
TensorFlow, whose import alone takes seconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fastcls import files
from fastcls.errors import OptionError
from fastcls.optional import require


class OpenVINOEngine:
    """Runs a trunk on batches of images.

    Args:
        trunk: A saved Keras model, RGB uint8 image (B, H, W, 3) -> bottleneck (B, ...).
        threads: Threads for inference, 0 for OpenVINO's choice.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        OptionError: This CPU does not compute in the engine's precision natively.
    """

    precision = "float32"
    _hint = "f32"
    _capability = "FP32"

    def __init__(self, trunk: Path, threads: int = 0) -> None:
        openvino = require("openvino", extra="openvino", purpose="The engine openvino")
        core = openvino.Core()
        if self._capability not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise OptionError(
                f"This CPU does not compute in {self.precision} natively. Use --precision float32"
            )
        options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": self._hint, "NUM_STREAMS": 1}
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads
        self._model = core.compile_model(_converted(openvino, trunk), "CPU", options)

    def run(self, images: np.ndarray) -> np.ndarray:
        """Forward a batch.

        Args:
            images: (B, H, W, 3) uint8 RGB.

        Returns:
            (B, ...) float32.
        """
        rows: np.ndarray = self._model(images, share_inputs=True)[0]
        return rows


class Bfloat16Engine(OpenVINOEngine):
    """Computes in bfloat16, on CPUs that have it (AVX-512 BF16 or AMX)."""

    precision = "bfloat16"
    _hint = "bf16"
    _capability = "BF16"


def _converted(openvino: Any, trunk: Path) -> Path:
    """The trunk as an OpenVINO model file, made if it is not there yet."""
    folder = trunk.with_name("openvino")
    if not folder.exists():
        from fastcls.engines.tensorflow import trace

        traced = trace(trunk)
        try:
            model = openvino.convert_model(traced)
        except Exception as error:  # whatever the converter raises, it does not know an operation
            raise OptionError(
                f"OpenVINO cannot convert this trunk: {error}. Use --engine tensorflow"
            ) from error
        try:
            with files.atomic_folder(folder) as temporary:
                openvino.save_model(model, temporary / "trunk.xml", compress_to_fp16=False)
        except OSError:
            if not folder.exists():  # else another process was first
                raise
    return folder / "trunk.xml"

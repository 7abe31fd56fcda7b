"""OpenVINO: the fastest on CPUs of Intel and ARM; OpenVINO Model Server serves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastcls.engines.fusion import fuse
from fastcls.engines.openvino import quantize
from fastcls.engines.openvino_core import import_openvino
from fastcls.exporting.runtimes import OPENVINO_KEYS, OUTPUT, RUNTIMES
from fastcls.exporting.source import Source
from fastcls.specs.exporting import FLOAT16, INT8

_LABELS = ("model_info", "labels")  # where tools of OpenVINO look for names of classes


def write(source: Source, folder: Path) -> None:
    """Write classifier.xml and classifier.bin into a folder."""
    openvino = import_openvino()
    model = openvino.convert_model(source.network.traced)
    fuse(model)
    if source.precision == INT8:
        model = quantize(model, source.images)
    _name(model)
    model.set_rt_info(source.text, list(OPENVINO_KEYS))
    labels = " ".join(name.replace(" ", "_") for name in source.document["class_names"])
    model.set_rt_info(labels, list(_LABELS))
    is_half = source.precision == FLOAT16
    openvino.save_model(model, folder / RUNTIMES["openvino"].name, compress_to_fp16=is_half)


def _name(model: Any) -> None:
    model.outputs[0].get_tensor().set_names({OUTPUT})

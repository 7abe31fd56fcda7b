"""ONNX: runs in ONNX Runtime, in browsers, in C++, .NET and on phones.

Keras's own export reports success and writes files that do not run, for layers that normalize, exact GELU and
grouped convolutions (Keras 3.15 with tf2onnx 1.17).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from fastcls.exporting.runtimes import INPUT, ONNX_KEY, OUTPUT, RUNTIMES
from fastcls.exporting.source import Source
from fastcls.specs.exporting import FLOAT16

_NAMES = "names"  # where programs look for names of classes
_OPSET = 18


def write(source: Source, folder: Path) -> None:
    """Write classifier.onnx into a folder."""
    import onnx
    import tf2onnx

    model, _ = tf2onnx.convert.from_graph_def(
        source.network.frozen.graph.as_graph_def(),
        name="classifier",
        input_names=[f"{INPUT}:0"],
        output_names=[f"{OUTPUT}:0"],
        opset=_OPSET,
        custom_op_handlers={"Erfc": (_complement_of_erf, [])},  # which ONNX does not have
        tensors_to_rename={f"{INPUT}:0": INPUT, f"{OUTPUT}:0": OUTPUT},
    )
    if source.precision == FLOAT16:
        model = _to_float16(model)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    names = json.dumps(source.document["class_names"], ensure_ascii=False)
    onnx.helper.set_model_props(model, {ONNX_KEY: source.text, _NAMES: names})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, folder / RUNTIMES["onnx"].name)


def _to_float16(model: Any) -> Any:
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    made = OnnxModel(convert_float_to_float16(model, keep_io_types=True))
    made.topological_sort()  # the casts stand at the end
    return made.model


def _complement_of_erf(context: Any, node: Any, _: str, __: Any) -> None:
    import tf2onnx

    features, output = node.input[0], node.output[0]
    dtype, shape = context.get_dtype(output), context.get_shape(output)
    context.remove_node(node.name)
    one = context.make_const(tf2onnx.utils.make_name("one"), np.array(1, np.float32)).output[0]
    erf = context.make_node("Erf", [features]).output[0]
    context.make_node("Sub", [one, erf], outputs=[output], name=node.name, shapes=[shape], dtypes=[dtype])

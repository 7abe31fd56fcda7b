"""The layers of an OpenVINO model that multiply: names, cost, and how much rounding disturbs them.

An IR is OpenVINO's file of a model: an .xml with the graph and a .bin with the weights.
"""

from __future__ import annotations

import itertools
import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_KINDS = ("Convolution", "GroupConvolution", "MatMul")
_FUSED = ("Add", "Clamp", "Relu")  # computed by the layer itself, where their other input is constant
# Of one core with AVX-512 BF16, in multiply-adds of bfloat16: what moving a byte costs, and writing an
# element once more in the other type. Fitted to MobileNetV2; coarse, but the same on every machine.
_PER_BYTE = 8
_PER_BORDER = 32


@dataclass(frozen=True)
class Kernel:
    """A convolution or matrix product.

    Attributes:
        name: Its kind and its place among all kernels of the model, from 1, as in "GroupConvolution 2".
        place: That place, from 0.
        operation: The operation of the model.
        multiply_adds: How many it computes for one image.
        moved: How many elements it reads and writes for one image.
        written: How many of them it writes.
        can_be_marked: Whether OpenVINO computes it rightly in float32 amid other types.
    """

    name: str
    place: int
    operation: Any
    multiply_adds: int
    moved: int
    written: int
    can_be_marked: bool

    @property
    def id(self) -> str:
        """What the operation is called in the IR, which depends on how it was converted."""
        return str(self.operation.get_friendly_name())

    def cost(self, bytes_of_element: int) -> float:
        """Of computing one image with elements of 2 bytes, or of 4 bytes at half the rate."""
        return max(self.multiply_adds * bytes_of_element / 2, self.moved * bytes_of_element * _PER_BYTE)


def kernels_of(model: Any) -> list[Kernel]:
    """The kernels of a model, in the order in which they are computed."""
    found = [operation for operation in model.get_ordered_ops() if operation.get_type_name() in _KINDS]
    return [_kernel(operation, place) for place, operation in enumerate(found)]


def _kernel(operation: Any, place: int) -> Kernel:
    kind = operation.get_type_name()
    read, weights = (_shape(operation.input_value(number)) for number in (0, 1))
    written = math.prod(_shape(operation.output(0)))
    # Inputs of one output: all dimensions of the weights but (groups and) output channels.
    inputs = {"MatMul": read[-1:], "Convolution": weights[1:], "GroupConvolution": weights[2:]}[kind]
    moved = math.prod(read) + written + (math.prod(weights) if kind == "MatMul" else 0)
    multiply_adds, can_be_marked = written * math.prod(inputs), not _is_summed(operation)
    return Kernel(f"{kind} {place + 1}", place, operation, multiply_adds, moved, written, can_be_marked)


def _is_summed(operation: Any) -> bool:
    """Whether what an operation computes is added to what another layer does, before the next kernel.

    The CPU plugin of OpenVINO 2026.4 fuses the sum with the kernel. Where it is marked, the plugin then loses
    the batch, or crashes.
    """
    consumers = list(operation.output(0).get_target_inputs())
    while len(consumers) == 1 and not _is_sum(consumers[0]):
        follower = consumers[0].get_node()
        if follower.get_type_name() in _KINDS or not follower.get_output_size():
            break
        consumers = list(follower.output(0).get_target_inputs())
    return any(_is_sum(consumer) for consumer in consumers)


def _is_sum(consumer: Any) -> bool:
    operation = consumer.get_node()
    is_sum = operation.get_type_name() in ("Add", "Subtract")
    return is_sum and not _is_of_constants(operation, consumer.get_index())


def _shape(output: Any) -> list[int]:
    """Its shape for one image."""
    return [size.get_length() if size.is_static else 1 for size in output.get_partial_shape()]


def cost_of_float32(kernels: Sequence[Kernel], chosen: Collection[Kernel]) -> float:
    """The share of the time that goes to computing some kernels in float32 in place of 16 bits."""
    places = {kernel.place for kernel in chosen}
    borders = sum(kernel.written for kernel in chosen if kernel.place + 1 not in places)
    extra = sum(kernel.cost(4) - kernel.cost(2) for kernel in chosen) + borders * _PER_BORDER
    return extra / (sum(kernel.cost(2) for kernel in kernels) + extra)


def rounding_model(model: Any, kernels: Sequence[Kernel], rounded: str) -> Any:
    """A model whose outputs say how much rounding disturbs each of some kernels by itself.

    Args:
        model: The model.
        kernels: Some of its kernels.
        rounded: Type to which the inputs of each kernel are rounded, "bf16" or "f16".

    Returns:
        A model of the same input, with an output (B,) for each kernel: the mean square of the disturbance,
        after what is fused with the kernel, over the variance of the undisturbed.
    """
    import openvino

    outputs = [_disturbance(kernel.operation, rounded) for kernel in kernels]
    return openvino.Model(outputs, model.get_parameters())


def _disturbance(operation: Any, rounded: str) -> Any:
    from openvino import opset13 as opset

    exact = operation
    near = _copy(operation, [_rounded(operation.input_value(number), rounded) for number in (0, 1)])
    for follower, port in _fused(operation):
        inputs = [follower.input_value(number) for number in range(follower.get_input_size())]
        inputs[port] = near.output(0)
        exact, near = follower, _copy(follower, inputs)
    axes = list(range(1, len(exact.output(0).get_partial_shape())))
    of_a_channel = axes[1:] if "Convolution" in operation.get_type_name() else axes[:-1]
    difference = opset.subtract(near, exact)
    centered = opset.subtract(exact, opset.reduce_mean(exact, of_a_channel or axes, keep_dims=True))
    squares = (opset.reduce_mean(opset.multiply(x, x), axes) for x in (difference, centered))
    return opset.divide(*squares)


def _rounded(output: Any, rounded: str) -> Any:
    from openvino import opset13 as opset

    return opset.convert(opset.convert(output, rounded), "f32")


def _copy(operation: Any, inputs: list[Any]) -> Any:
    from openvino.utils.node_factory import NodeFactory

    factory = NodeFactory(operation.get_type_info().version_id)
    return factory.create(operation.get_type_name(), inputs, operation.get_attributes())


def _fused(operation: Any) -> list[tuple[Any, int]]:
    """What follows an operation in the same kernel: each operation, and the input that it takes it by."""
    found: list[tuple[Any, int]] = []
    while True:
        consumers = list(operation.output(0).get_target_inputs())
        if len(consumers) != 1:
            return found
        port, operation = consumers[0].get_index(), consumers[0].get_node()
        if operation.get_type_name() not in _FUSED or not _is_of_constants(operation, port):
            return found
        found.append((operation, port))


def _is_of_constants(operation: Any, port: int) -> bool:
    """Whether all inputs of an operation but one are constant."""
    others = (operation.input_value(n) for n in range(operation.get_input_size()) if n != port)
    return all(other.get_node().get_type_name() == "Constant" for other in others)


def mark_precise(ir: Path, marked: Path, kernels: Collection[Kernel]) -> None:
    """Write the .xml of an IR with some kernels marked: OpenVINO on CPUs then computes them in float32."""
    tree = ElementTree.parse(ir)
    ids = {kernel.id for kernel in kernels}
    for layer in tree.iterfind("layers/layer"):
        if layer.get("name") in ids:
            info = layer.find("rt_info")
            if info is None:
                info = ElementTree.Element("rt_info")
                layer.insert(1, info)  # after <data>
            ElementTree.SubElement(info, "attribute", name="precise", version="0")
    tree.write(marked)


def float32_ids(compiled: Any) -> set[str]:
    """The operations of a compiled model that are computed in float32, by their names in the IR."""
    nodes = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    exact = [node for node in nodes if _text(node, "runtimePrecision") == "f32"]
    return set(itertools.chain.from_iterable(_text(node, "originalLayersNames").split(",") for node in exact))


def _text(info: Any, name: str) -> str:
    value = info[name] if name in info else ""  # noqa: SIM401 - this mapping has no `get`
    return str(getattr(value, "value", value))


def relative_errors(rows: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """|row - reference| / |reference| of each row: (N, ...) twice -> (N,)."""
    ours, theirs = (values.reshape(len(values), -1).astype(np.float64) for values in (rows, reference))
    lengths = np.linalg.norm(theirs, axis=1)
    return np.linalg.norm(ours - theirs, axis=1) / np.where(lengths == 0, 1, lengths)

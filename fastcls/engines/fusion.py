"""Layer normalization, attention and GELU of a converted graph, in operations that OpenVINO has kernels for.

TensorFlow says them in small pieces, in forms that OpenVINO's own transformations do not recognize.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastcls.engines.openvino_core import import_openvino

_SCORES = ("BTNH,BSNH->BNTS", "BNTS,BSNH->BTNH")  # of Keras: query and key, then probabilities and value


def fuse(model: Any) -> None:
    """Say it by MVN, ScaledDotProductAttention and Gelu where possible; numbers differ by rounding alone.

    Args:
        model: OpenVINO model, which is changed.
    """
    for result in model.get_results():
        if not result.get_element_type().is_real():  # a shape that TensorFlow has looked at
            model.remove_result(result)
    for node in model.get_ordered_ops():
        fused = _layer_norm(node) or _attention(node) or _gelu(node)
        if fused:
            fused.set_friendly_name(node.get_friendly_name())
            for target in node.output(0).get_target_inputs():
                target.replace_source_output(fused.output(0))
    model.validate_nodes_and_infer_types()


def _layer_norm(node: Any) -> Any:
    """MVN for x * f + (-mean * f + offset), where f = scale / sqrt(variance + epsilon); None for all else.

    Converters leave out an offset of 0. Those of maps are left: the converter turns maps, so that their
    channels come first.
    """
    found = _operands(node, "Add", _is("Multiply"), _is_shift)
    if not found:
        return None
    scaled, shift = found
    moved = _operands(shift, "Add", _is("Multiply"), _is("Constant"))
    mean_part, offset = moved or (shift, None)
    tensor, factor = scaled.input_value(0), scaled.input_value(1).get_node()
    mean = _multiplied(mean_part.input_value(0).get_node(), -1)
    if mean is None or not _same(mean_part.input_value(1).get_node(), factor):
        return None
    root, scale = _operands(factor, "Multiply", _is("Power"), _is("Constant")) or (factor, None)
    epsilon = _epsilon(root, tensor, mean)
    if epsilon is None:
        return None
    op = import_openvino().opset13
    last = op.constant(np.array([-1], np.int64))
    normal = op.mvn(tensor, last, True, epsilon, "inside_sqrt")
    normal = op.multiply(normal, scale) if scale else normal
    return op.add(normal, offset) if offset else normal


def _is_shift(node: Any) -> bool:
    """Whether it may be -mean * f, or that and an offset."""
    product, _ = _operands(node, "Add", _is("Multiply"), _is("Constant")) or (node, None)
    return _is("Multiply")(product) and _multiplied(product.input_value(0).get_node(), -1) is not None


def _epsilon(root: Any, tensor: Any, mean: Any) -> float | None:
    """The epsilon of 1 / sqrt(variance + epsilon) over the last axis of a tensor; None for all else."""
    if root.get_type_name() != "Power" or _value(root.input_value(1).get_node()) != -0.5:
        return None
    found = _operands(root.input_value(0).get_node(), "Add", _is("ReduceMean"), _is("Constant"))
    if not found:
        return None
    squares = found[0].input_value(0).get_node()
    if squares.get_type_name() != "SquaredDifference":
        return None
    if squares.input_value(0) != tensor or squares.input_value(1) != mean:
        return None
    axes, rank = _data(found[0].input_value(1).get_node()), len(tensor.get_partial_shape())
    return _value(found[1]) if [int(axis) % rank for axis in np.ravel(axes)] == [rank - 1] else None


def _attention(node: Any) -> Any:
    """Attention for softmax(query key * scale) value of (B, T, N, H) tensors; None for all else."""
    if not _is_einsum(node, _SCORES[1]):
        return None
    softmax = node.input_value(0).get_node()
    scaled = softmax.get_type_name() == "Softmax" and softmax.input_value(0).get_node()
    found = scaled and _operands(
        scaled, "Multiply", lambda each: _is_einsum(each, _SCORES[0]), _is("Constant")
    )
    if not found or _data(found[1]).size != 1:
        return None
    op = import_openvino().opset13

    def swapped(tensor: Any) -> Any:
        return op.transpose(tensor, op.constant(np.array([0, 2, 1, 3], np.int64)))

    query, key, value = found[0].input_value(0), found[0].input_value(1), node.input_value(1)
    # A bias of the key adds the same to all scores of a query, which softmax takes away.
    biased = _operands(key.get_node(), "Add", lambda each: not _is("Constant")(each), _is("Constant"))
    if biased and _is_bias(biased[1]):
        key = biased[0].output(0)
    nothing, scale = (op.constant(np.float32(value)) for value in (0.0, _value(found[1])))
    return swapped(op.scaled_dot_product_attention(*map(swapped, (query, key, value)), nothing, scale))


def _is_bias(constant: Any) -> bool:
    """Whether a constant that is added to (B, T, N, H) tensors is the same for all tokens."""
    shape = _data(constant).shape
    return len(shape) < 3 or shape[-3] == 1


def in_products(model: Any) -> Any:
    """A copy of a fused model with attention as two products and a softmax.

    On CPUs, OpenVINO takes these and the transposes around them for one kernel. ScaledDotProductAttention
    becomes the same kernel, but its transposes remain, which are copies.
    """
    model = model.clone()
    op = import_openvino().opset13
    for node in model.get_ordered_ops():
        if node.get_type_name() != "ScaledDotProductAttention":
            continue
        query, key, value, _, scale = node.input_values()
        scores = op.matmul(op.multiply(query, scale), key, False, True)
        products = op.matmul(op.softmax(scores, -1), value, False, False)
        for target in node.output(0).get_target_inputs():
            target.replace_source_output(products.output(0))
    model.validate_nodes_and_infer_types()
    return model


def _gelu(node: Any) -> Any:
    """Gelu for (x / 2) * (1 - erf(-x / sqrt(2))), as TensorFlow says it by erfc; None for all else."""
    found = _operands(node, "Multiply", _is("Multiply"), _is("Subtract"))
    halved = found and _multiplied(found[0], 0.5)
    if not found or halved is None:
        return None
    one, erf = (found[1].input_value(place).get_node() for place in range(2))
    if one.get_type_name() != "Constant" or _value(one) != 1 or erf.get_type_name() != "Erf":
        return None
    turned = _multiplied(erf.input_value(0).get_node(), -math.sqrt(0.5))
    if turned is None or turned != halved:
        return None
    return import_openvino().opset13.gelu(halved, "erf")


def _multiplied(node: Any, factor: float) -> Any:
    """What is multiplied by a factor, the same for all; None where it is something else."""
    if node.get_type_name() != "Multiply":
        return None
    for place in range(2):
        constant = node.input_value(place).get_node()
        if constant.get_type_name() != "Constant" or _data(constant).size != 1:
            continue
        if math.isclose(_value(constant), factor, rel_tol=1e-6):
            return node.input_value(1 - place)
    return None


def has_attention(model: Any) -> bool:
    """Whether a model, fused or not, is a transformer: its matrices are multiplied by what softmax gives."""
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind == "ScaledDotProductAttention":
            return True
        if kind == "Softmax":
            followers = [target.get_node() for target in node.output(0).get_target_inputs()]
            if any(each.get_type_name() in ("MatMul", "Einsum") for each in followers):
                return True
    return False


Test = Callable[[Any], bool]


def _operands(node: Any, kind: str, first: Test, second: Test) -> tuple[Any, Any] | None:
    """The nodes that a commutative operation of two takes, in the order of the tests; None for all else."""
    if node.get_type_name() != kind:
        return None
    one, other = (node.input_value(place).get_node() for place in range(2))
    if first(one) and second(other):
        return one, other
    return (other, one) if first(other) and second(one) else None


def _is(kind: str) -> Test:
    return lambda node: bool(node.get_type_name() == kind)


def _is_einsum(node: Any, equation: str) -> bool:
    return node.get_type_name() == "Einsum" and node.get_attributes()["equation"] == equation


def _same(one: Any, other: Any) -> bool:
    return bool(one.get_friendly_name() == other.get_friendly_name())


def _data(constant: Any) -> np.ndarray:
    data: np.ndarray = constant.get_data()
    return data


def _value(constant: Any) -> float:
    return float(np.ravel(_data(constant))[0])

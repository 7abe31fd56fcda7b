"""Cut a base at a named layer: the trunk is frozen and cached, the tail is the rest."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastcls import graph
from fastcls.backend import import_keras
from fastcls.bases.loader import Base, load_base
from fastcls.bases.normalize import normalize
from fastcls.bases.opening.foreign import BLOCK_NAME
from fastcls.errors import OptionError, closest
from fastcls.files import PathLike
from fastcls.pooling import pool_positions, pooling_of
from fastcls.specs import TOKEN_POOLS, BaseSpec, CutSpec, share_of
from fastcls.wording import count_of

# What may come after the classifying layer.
_PASSING = ("Activation", "Softmax", "ReLU", "Dropout", "Flatten", "Reshape", "GlobalAveragePooling2D")


# How far from the share that was asked for a base may be cut, for a smaller bottleneck.
SHARE_TOLERANCE = 0.15


@dataclass(frozen=True)
class CutPoint:
    """An operation that every path from input to output passes through.

    Attributes:
        layer: Its name.
        shape: Shape of its output for one image.
        multiply_adds: Of the convolutions and dense layers up to and including it, for one image.
        share: Their share of the base's, 0..1.
        parameters: Number of parameters up to and including it.
        tensor: Its symbolic output (B, *shape).
    """

    layer: str
    shape: tuple[int, ...]
    multiply_adds: int
    share: float
    parameters: int
    tensor: Any

    @property
    def fits(self) -> bool:
        """Whether its output is a vector (C), tokens (T, C) or a map (H, W, C): others cannot be cached."""
        return len(self.shape) in (1, 2, 3)


@dataclass(frozen=True)
class Cut:
    """A base in two parts that share its weights: `tail(trunk(x)) == base.model(x)`.

    Attributes:
        base: The base.
        layer: Name of the last operation of the trunk.
        trunk: Keras model, normalized image (B, H, W, 3) float32 -> output of `layer`.
        tail: Keras model, output of `layer` -> output of the base; None when `layer` is the last.
        pool: What becomes of the positions of the trunk's output: see `CutSpec`.
        dtype: Storage type of a bottleneck.
        precision: Type in which the trunk computes, or "auto".
        full_decode: See `CutSpec`, as for `resize`.
    """

    base: Base
    layer: str
    trunk: Any
    tail: Any
    pool: str
    dtype: str
    precision: str
    full_decode: bool = False
    resize: str = "stretch"

    @property
    def pooling(self) -> str:
        """What becomes of its positions; "none" where the trunk's output is a vector, which has none."""
        return pooling_of(self.pool, self.trunk.outputs[0], self.base.prefix_tokens)


def cut(
    base: Base | BaseSpec | PathLike,
    layer: str | None = None,
    *,
    pool: str | None = None,
    dtype: str = "float32",
    precision: str = "auto",
    full_decode: bool = False,
    last: int | None = None,
    resize: str = "stretch",
) -> Cut:
    """Cut a base.

    Args:
        base: What to cut; a name or a `BaseSpec` is loaded first.
        layer: A cut point, or a share such as "80%" (see `near_share`); None for that before the classifier.
        pool: What becomes of the positions of a map or of tokens: see `CutSpec`.
        dtype: Storage type of a bottleneck, "float32" or "float16".
        precision: Type in which the trunk computes, or "auto" (see `CutSpec`).
        full_decode: See `CutSpec`.
        last: How many of the last blocks of a transformer to take, end to end: see `CutSpec`.
        resize: See `CutSpec`.

    Raises:
        OptionError: There is no such layer, some path through the base avoids it, its output is no vector,
            tokens or map, or an option is unknown.
    """
    keras = import_keras()
    asked = CutSpec("", layer, pool, dtype, precision, full_decode, last, resize)
    base = base if isinstance(base, Base) else load_base(base)
    points = cut_points(base.model)
    if asked.last:
        point = _last_blocks(base, points, asked.last)
    else:
        point = _find(base, points, asked.layer) if asked.layer else _end(base, points, str(asked.pool))
    _require_fitting(base, points, point)
    output = point.tensor if asked.last else base.model.outputs[0]
    trunk = keras.Model(base.model.inputs[0], point.tensor, name="trunk")
    tail = None if point.tensor is output else keras.Model(point.tensor, output, name="tail")
    made = Cut(base, point.layer, trunk, tail, str(asked.pool), dtype, precision, full_decode, resize)
    _require_class_token(made)
    _require_own_pooling(made, points)
    return made


def cut_points(model: Any) -> list[CutPoint]:
    """All cut points of a flat functional model, from input to output.

    One sweep over the graph keeps the set of tensors that are still needed: where it has a single
    member, that is the output of a cut point.
    """
    order = graph.nodes(model)
    uses = _last_uses(order, model.outputs[0])
    total = sum(graph.multiply_adds(node) for node in order) or 1
    points, done, needed = [], 0, set()
    weights: dict[int, int] = {}  # a layer that is called twice has them once
    for place, node in enumerate(order):
        done += graph.multiply_adds(node)
        weights |= graph.parameters(node)
        needed |= {id(tensor) for tensor in node.outputs}
        needed = {tensor for tensor in needed if uses.get(tensor, -1) > place}
        if len(node.outputs) == 1 and needed == {id(node.outputs[0])}:
            tensor = node.outputs[0]
            shape = tuple(tensor.shape[1:])
            counts = (done, done / total, sum(weights.values()))
            points.append(CutPoint(node.operation.name, shape, *counts, tensor))
    return points


def default_cut_point(model: Any, points: list[CutPoint]) -> CutPoint:
    """The cut point before the classifier; the output of a base that has no classifier."""
    classifier = _classifier_tensors(model)
    before = [p for p in points if id(p.tensor) not in classifier and not _is_dropout(p)]
    return before[-1] if before else points[-1]


def near_share(base: Base, points: Sequence[CutPoint], share: float) -> CutPoint:
    """The cut point near a share of the multiply-adds.

    Of those within 15 points of the share it is the one with the smallest output; if there are none, the
    nearest. Multiply-adds are counted up to the default cut, as nothing after it becomes part of a
    classifier, and there are some on both sides.

    Raises:
        OptionError: There is no such cut point.
    """
    end = default_cut_point(base.model, list(points))

    def distance(point: CutPoint) -> float:
        return abs(point.multiply_adds / end.multiply_adds - share)

    before = [p for p in points if p.fits and 0 < p.multiply_adds < end.multiply_adds]
    if not before:
        raise OptionError(
            f"{base.name} cannot be cut at {share:.0%} of its multiply-adds: no cut point divides them. Name "
            f"a layer: `fastcls layers {base.name}` lists them"
        )
    reach = max(SHARE_TOLERANCE, min(map(distance, before)))
    near = [point for point in reversed(before) if distance(point) <= reach]
    return min(near, key=lambda point: (math.prod(point.shape), distance(point)))


def bottleneck_model(cut: Cut) -> Any:
    """The trunk as it is cached and stitched: a flat Keras model with normalization and pooling inside.

    Returns:
        Keras model, image (B, H, W, 3) uint8 RGB -> bottleneck (B, ...) float32.
    """
    import keras

    image, bottlenecks = _bottlenecks([cut])
    return keras.Model(image, bottlenecks[0], name="trunk")


def combined_trunk(cuts: Sequence[Cut]) -> Any:
    """The trunk of several cuts of one base: what they share is computed once.

    Returns:
        Keras model, image (B, H, W, 3) uint8 RGB -> the bottlenecks of each cut, flattened, end to end:
        (B, D) float32.
    """
    import keras

    image, bottlenecks = _bottlenecks(cuts)
    flat = [keras.layers.Flatten(name=f"cut_{place}")(tensor) for place, tensor in enumerate(bottlenecks)]
    model = keras.Model(image, keras.layers.Concatenate(name="cuts")(flat), name="trunk")
    graph.rename_apart(model.operations, taken=())
    return model


def _bottlenecks(cuts: Sequence[Cut]) -> tuple[Any, list[Any]]:
    """An image tensor, and the bottleneck of each of some cuts of one base."""
    import keras

    base = cuts[0].base
    image = keras.Input((*base.size, 3), dtype="uint8", name="image")
    normalized = keras.Model(image, normalize(image, base.normalize))
    whole = keras.Model(base.model.inputs[0], [cut.trunk.outputs[0] for cut in cuts])
    tensors = graph.replay_all(whole, normalized.outputs[0])
    pooled = [
        pool_positions(tensor, cut.pooling, cut.base.prefix_tokens) if cut.pooling != "none" else tensor
        for tensor, cut in zip(tensors, cuts, strict=True)
    ]
    added = [*normalized.operations, *graph.operations_between(tensors, pooled)]
    kept = whole.operations
    graph.rename_apart((o for o in added if o not in kept), taken=(o.name for o in kept))
    return image, pooled


def tail_model(cut: Cut) -> Any:
    """What lies between the bottleneck and the classifier, to be trained further.

    Returns:
        Keras model, bottleneck (B, ...) float32 -> features (B, D) float32, pooled as by "auto"; None when
        nothing lies there, when pooling has made another thing of the bottleneck, or when the features are no
        vector, tokens or map.
    """
    import keras

    if cut.tail is None:
        return None
    points = cut_points(cut.base.model)
    end = default_cut_point(cut.base.model, points)
    start = next(point for point in points if point.layer == cut.layer)
    if points.index(end) <= points.index(start) or cut.pooling != "none" or not end.fits:
        return None
    prefix_tokens = cut.base.prefix_tokens
    pooling = pooling_of("auto", end.tensor, prefix_tokens)
    features = end.tensor if pooling == "none" else pool_positions(end.tensor, pooling, prefix_tokens)
    return keras.Model(start.tensor, features, name="tail")


def _last_uses(order: list[Any], output: Any) -> dict[int, int]:
    uses = {id(tensor): place for place, node in enumerate(order) for tensor in node.input_tensors}
    return uses | {id(output): len(order)}


def _last_blocks(base: Base, points: Sequence[CutPoint], count: int) -> CutPoint:
    """The outputs of the last blocks of a transformer, joined by channel: tokens (T, count x C).

    Each goes through what follows the last block, up to the last tokens, which is a normalization: so DINOv2
    is evaluated (https://github.com/facebookresearch/dinov2, `get_intermediate_layers`).
    """
    from keras import Model, layers

    blocks = [p for p in points if len(p.shape) == 2 and re.fullmatch(BLOCK_NAME, p.layer)]
    if len(blocks) < count:
        raise OptionError(
            f"--last {count}: {base.name} has {count_of(len(blocks), 'block')} of a transformer. "
            + ("Ask for fewer" if blocks else "Leave --last out")
        )
    end = [point for point in points if point.shape == blocks[-1].shape][-1]
    outputs = [block.tensor for block in blocks[-count:]]
    if end is not blocks[-1]:
        norm = Model(blocks[-1].tensor, end.tensor)
        outputs = [graph.replay(norm, tensor) for tensor in outputs]
    joined = layers.Concatenate(name=f"last_{count}")(outputs) if count > 1 else outputs[0]
    return replace(end, layer=f"last_{count}", shape=tuple(joined.shape[1:]), tensor=joined)


def _require_fitting(base: Base, points: list[CutPoint], point: CutPoint) -> None:
    if not point.fits:
        raise OptionError(
            f"{base.name} cannot be cut at {point.layer!r}: its output is an array of shape {point.shape}. "
            "Expected a vector, tokens (tokens, channels) or a map (height, width, channels). "
            f"{_nearest(base, points, point.layer)}"
        )


def _nearest(base: Base, points: list[CutPoint], layer: str) -> str:
    order = [node.operation.name for node in graph.nodes(base.model)]
    fitting = [point.layer for point in points if point.fits]
    near = sorted(fitting, key=lambda name: abs(order.index(name) - order.index(layer)))
    return f"The nearest cut points are {', '.join(near[:3])}" if near else "It has no cut point"


def _find(base: Base, points: list[CutPoint], layer: str) -> CutPoint:
    order = [node.operation.name for node in graph.nodes(base.model)]
    share = share_of(layer)
    if share is not None:
        return near_share(base, points, share)
    if layer not in order:
        close = closest(layer, [point.layer for point in points if point.fits])
        raise OptionError(
            f"{base.name} has no layer {layer!r}. The closest cut points are {close}; "
            f"`fastcls layers {base.name}` lists all. Layers inside the classifier of a keras.applications "
            "base need --include-top"
        )
    if order.count(layer) > 1:
        raise OptionError(
            f"{base.name} cannot be cut at {layer!r}: "
            f"it calls that layer {count_of(order.count(layer), 'time')}. "
            f"`fastcls layers {base.name}` lists other cut points"
        )
    named = [point for point in points if point.layer == layer]
    if not named:
        raise OptionError(
            f"{base.name} cannot be cut at {layer!r}: some path from input to output avoids it. "
            f"{_nearest(base, points, layer)}"
        )
    return named[0]


def _classifier_tensors(model: Any) -> set[int]:
    """Outputs of the operations from the classifying layer on; empty for a base without a classifier."""
    ending: list[Any] = []
    for node in reversed(graph.nodes(model)):
        ending.append(node)
        kind = type(node.operation).__name__
        if kind == "Dense" or (kind == "Conv2D" and _has_softmax(ending)):
            return {id(tensor) for later in ending for tensor in later.outputs}
        if kind not in _PASSING:
            break
    return set()


def _is_dropout(point: CutPoint) -> bool:
    return type(graph.operation_of(point.tensor)).__name__ == "Dropout"


def _has_softmax(ending: list[Any]) -> bool:
    activations = [getattr(node.operation, "activation", None) for node in ending]
    named = [getattr(activation, "__name__", "") for activation in activations]
    return "softmax" in named or any(type(node.operation).__name__ == "Softmax" for node in ending)


def _end(base: Base, points: list[CutPoint], pool: str) -> CutPoint:
    """The default cut point; the last tokens where the base pools them and another pooling is asked."""
    end = default_cut_point(base.model, points)
    if pool in ("auto", "map") or not _pools_itself(base, end):
        return end
    return [point for point in points if len(point.shape) == 2 and point.shape[0] > 1][-1]


def _pools_itself(base: Base, end: CutPoint) -> bool:
    return base.prefix_tokens is not None and len(end.shape) == 1


def _require_own_pooling(cut: Cut, points: list[CutPoint]) -> None:
    end = default_cut_point(cut.base.model, points)
    pools = _pools_itself(cut.base, end)
    if cut.pool == "map" and not (pools and cut.layer == end.layer):
        here = "has it after its last layer alone. Leave --cut and --last out"
        raise OptionError(
            f"--pool map is the attention pooling at the end of a base, such as SigLIP's. {cut.base.name} "
            f"{here if pools else 'has none. Use --pool avg'}"
        )


def _require_class_token(cut: Cut) -> None:
    if cut.pool not in TOKEN_POOLS:
        return
    shape = tuple(cut.trunk.outputs[0].shape[1:])
    if len(shape) != 2 or cut.base.prefix_tokens == 0:
        other = {
            1: "a vector, which is pooled already. Leave --pool out",
            2: "tokens without a class token. Use --pool avg",
        }
        raise OptionError(
            f"--pool {cut.pool} takes a class token. The output of {cut.layer!r} of {cut.base.name} is "
            f"{other.get(len(shape), f'a map of shape {shape}. Use --pool avg')}"
        )

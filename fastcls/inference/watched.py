"""A network run with a look inside: one of its maps, the logits, and how these depend on it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcls import graph
from fastcls.backend import import_keras
from fastcls.errors import OptionError, closest
from fastcls.wording import count_of

NO_LOGITS = (
    "The classifier has no logits to explain: it does not end with a softmax or a sigmoid over the classes. "
    "A head of the kind knn counts the votes of neighbors: train another, such as logreg"
)
# Of the names of the layers that `fastcls.bases.normalize` makes: one of its kinds is a convolution.
_NORMALIZATION = "normalize_"
_BLOCK = re.compile(r"block_(\d+)_")  # how names of layers inside of the blocks of a transformer begin
# What may come after the layer that gives the probabilities, as it leaves them as they are.
_PASSING = ("Dropout", "Identity")


@dataclass(frozen=True)
class Watched:
    """What a batch of images made of a network.

    Attributes:
        maps: The output of the watched layer, (B, h, w, C) float32.
        probabilities: (B, classes) float32.
        gradients: Labels (B,) -> the gradient of the logit of each image's label with respect to its map,
            (B, h, w, C) float32.
    """

    maps: np.ndarray
    probabilities: np.ndarray
    gradients: Callable[[np.ndarray], np.ndarray]


class WatchedNetwork:
    """A classifier's network, of which one map is watched, or tokens of patches as a map.

    It is called layer by layer, models inside of models too: what Keras returns of an inner layer of a nested
    model is of another graph (https://github.com/tensorflow/tensorflow/issues/44462).

    Args:
        model: Keras model, image (B, H, W, 3) -> probabilities (B, classes).
        layer: Name of the layer to watch; None for the last map before the head, or, of a transformer, for
            the first normalization in its last block: what the class token takes from the patches is all
            there, while what the block makes of the patches themselves counts nothing.

    Raises:
        OptionError: The network is no graph of layers, has no map, no such layer or no logits.

    Attributes:
        layer: Name of the watched layer.
        shape: Shape of its map: (h, w, C).
    """

    def __init__(self, model: Any, layer: str | None = None) -> None:
        if not graph.is_functional(model):
            raise OptionError(
                "Only a graph of layers can be explained, such as a functional model. Received: "
                f"a {type(model).__name__}"
            )
        self._model, nodes = model, list(graph.opened_nodes(model))
        self._last, self._split = _ending(nodes)
        self._grid = _grid(nodes)
        node = _find(nodes, layer, self._grid) if layer else _default(nodes, self._grid)
        self._watched, self.layer = node.operation, str(node.operation.name)
        shape = tuple(node.outputs[0].shape[1:])
        self.shape: tuple[int, ...] = shape if _is_map(shape) else (*self._grid, shape[-1])

    def forward(self, images: np.ndarray) -> Watched:
        """Run the network on images, (B, H, W, 3) uint8 RGB."""
        import tensorflow as tf

        seen: dict[str, Any] = {}

        def watch(*arguments: Any, **options: Any) -> Any:
            seen["map"] = self._watched(*arguments, **options)
            tape.watch(seen["map"])
            return seen["map"]

        def end(*arguments: Any, **options: Any) -> Any:
            seen["logits"], probabilities = self._split(*arguments, **options)
            return probabilities

        # The weights are not watched: only what comes after the map is recorded.
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            instead = ((self._watched, watch), (self._last, end))
            probabilities = graph.replay(self._model, tf.constant(images), instead=instead)

        def gradients(labels: np.ndarray) -> np.ndarray:
            chosen = tf.one_hot(labels, seen["logits"].shape[-1], dtype=seen["logits"].dtype)
            return self._as_map(tape.gradient(seen["logits"], seen["map"], output_gradients=chosen))

        return Watched(self._as_map(seen["map"]), _as_float32(probabilities), gradients)

    def _as_map(self, tensor: Any) -> np.ndarray:
        """A map as it is; of tokens (B, T, C) those of the patches, which come last, in their places."""
        found, (height, width, channels) = _as_float32(tensor), self.shape
        if found.ndim == 4:
            return found
        return found[:, found.shape[1] - height * width :].reshape(-1, height, width, channels)


def map_layers(nodes: list[Any]) -> list[Any]:
    """The calls that give a map of more than one position, from the first layer with a kernel on."""
    own = itertools.dropwhile(lambda node: not _is_kernel(node), nodes)
    return [node for node in own if _is_map(node.outputs[0].shape[1:])]


def _is_kernel(node: Any) -> bool:
    return not node.operation.name.startswith(_NORMALIZATION) and graph.multiply_adds(node) > 0


def _is_map(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and shape[0] * shape[1] > 1


def _grid(nodes: list[Any]) -> tuple[int, ...]:
    """Height and width, in patches, of a network whose last map is made into tokens; else none."""
    reshaping = [node for node in nodes if type(node.operation).__name__ == "Reshape"]
    for node in reversed(reshaping):
        shape, made = (tuple(each[0].shape[1:]) for each in (node.input_tensors, node.outputs))
        if _is_map(shape) and made == (shape[0] * shape[1], shape[2]):
            return shape[:2]
    return ()


def _is_tokens(shape: tuple[int, ...], grid: tuple[int, ...]) -> bool:
    """Whether something has a row per patch, after those of a few other tokens."""
    return bool(grid) and len(shape) == 2 and shape[0] >= grid[0] * grid[1]


def _default(nodes: list[Any], grid: tuple[int, ...]) -> Any:
    blocks: dict[int, Any] = {}  # the first normalization of each
    for node in nodes:
        named = _BLOCK.match(node.operation.name)
        if named and type(node.operation).__name__ == "LayerNormalization":
            blocks.setdefault(int(named[1]), node)
    return blocks[max(blocks)] if grid and blocks else _last_map(nodes)


def _last_map(nodes: list[Any]) -> Any:
    maps = map_layers(nodes)
    if not maps:
        raise OptionError(
            "The classifier has no map before its head: none of its layers gives an array of height, width "
            "and channels. Grad-CAM explains networks with convolutions"
        )
    last, after = maps[-1], nodes[nodes.index(maps[-1]) :]
    tokens = [node.operation.name for node in after if len(node.outputs[0].shape) == 3]
    if tokens:
        raise OptionError(
            f"The last map of the classifier, {last.operation.name!r}, is made into tokens "
            f"({tokens[-1]!r}) by blocks whose names are unknown. Name a layer with --layer, such as the "
            "first normalization in the last block"
        )
    return last


def _find(nodes: list[Any], layer: str, grid: tuple[int, ...]) -> Any:
    named = [node for node in nodes if node.operation.name == layer]
    tokens = [node for node in nodes if _is_tokens(node.outputs[0].shape[1:], grid)]
    maps = [node.operation.name for node in [*map_layers(nodes), *tokens]]
    if not named:
        near = f". The closest that give a map are {closest(layer, maps)}" if maps else ""
        raise OptionError(f"The classifier has no layer {layer!r}{near}")
    if len(named) > 1:
        raise OptionError(
            f"{layer!r} cannot be explained: it is called {count_of(len(named), 'time')}. Name another layer"
        )
    shape = tuple(named[0].outputs[0].shape[1:])
    if not _is_map(shape) and not _is_tokens(shape, grid):
        raise OptionError(
            f"{layer!r} gives an array of shape {shape}, which is no map of height, width and channels. "
            f"The last layers that give one are {', '.join(maps[-3:]) or 'none'}"
        )
    return named[0]


# The logits


def _ending(nodes: list[Any]) -> tuple[Any, Callable[..., tuple[Any, Any]]]:
    """The operation that gives the probabilities, and what gives the logits and them in its place."""
    for node in reversed(nodes):
        split = _split(node.operation)
        if split:
            return node.operation, split
        if type(node.operation).__name__ not in _PASSING and _activation(node.operation) != "linear":
            break
    raise OptionError(NO_LOGITS)


def _split(operation: Any) -> Callable[..., tuple[Any, Any]] | None:
    keras = import_keras()
    kind, is_squashing = type(operation).__name__, _activation(operation) in ("softmax", "sigmoid")
    if kind in ("Softmax", "Sigmoid") or (kind == "Activation" and is_squashing):
        return lambda logits, *more, **options: (logits, operation(logits, *more, **options))
    if not is_squashing or not isinstance(operation, (keras.layers.Dense, keras.layers.EinsumDense)):
        return None
    linear = type(operation).from_config({**operation.get_config(), "activation": "linear"})

    def both(features: Any, **_: Any) -> tuple[Any, Any]:
        if not linear.built:
            linear.build(features.shape)
            linear.set_weights(operation.get_weights())
        logits = linear(features)
        return logits, operation.activation(logits)

    return both


def _activation(operation: Any) -> str:
    return str(getattr(getattr(operation, "activation", None), "__name__", ""))


def _as_float32(tensor: Any) -> np.ndarray:
    return np.asarray(tensor, np.float32)

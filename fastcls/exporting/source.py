"""A stitched classifier, as formats take it: a Keras model, its TensorFlow graph, and what is known of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from fastcls.engines.trunk import freeze
from fastcls.exporting.runtimes import INPUT, OUTPUT
from fastcls.specs import PixelRule
from fastcls.specs.exporting import FLOAT32

# Keras runs grouped convolutions in a function that is compiled as a whole, which is then never inlined.
_APART = ("_XlaMustCompile", "_noinline")


class Network:
    """A stitched Keras model, and its TensorFlow graphs once somebody needs them.

    Args:
        model: RGB uint8 image (B, H, W, 3) -> probabilities (B, C).
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    @cached_property
    def traced(self) -> Any:
        """A concrete function with variables."""
        return trace(self.model)

    @cached_property
    def frozen(self) -> Any:
        """The same with constants, and nothing but plain operations; see `plain`."""
        return plain(self.traced)


@dataclass(frozen=True, eq=False)
class Source:
    """What is exported.

    Attributes:
        network: The classifier.
        document: What travels with it.
        precision: To write it in.
        images: (N, H, W, 3) uint8, to find the ranges of int8 on.
        encoded: The pixel rule of a second input, of encoded images; None for none.
    """

    network: Network
    document: Mapping[str, Any]
    precision: str = FLOAT32
    images: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 0, 3), np.uint8))
    encoded: PixelRule | None = None

    @property
    def text(self) -> str:
        """What travels with it, as JSON."""
        return json.dumps(self.document, ensure_ascii=False)


def trace(model: Any) -> Any:
    """The TensorFlow graph of a Keras model, with named input and output.

    Args:
        model: Its one input is RGB uint8 images.
    """
    import tensorflow as tf

    def run(image: Any) -> Any:
        return tf.identity(model(image, training=False), name=OUTPUT)

    return tf.function(run).get_concrete_function(_spec(model.inputs[0]))


def plain(traced: Any) -> Any:
    """A graph with constants in place of variables, without functions, from `image:0` to `probabilities:0`.

    Args:
        traced: What `trace` returned.
    """
    import tensorflow as tf

    frozen = freeze(traced)
    graph = frozen.graph.as_graph_def()
    _let_inline(graph)

    def run(image: Any) -> Any:
        (output,) = tf.import_graph_def(
            graph, {frozen.inputs[0].name: image}, [frozen.outputs[0].name], name="classifier"
        )
        return tf.identity(output, name=OUTPUT)

    # Freezing inlines what may now be inlined.
    return freeze(tf.compat.v1.wrap_function(run, [_spec(traced.inputs[0])]))


def _spec(tensor: Any) -> Any:
    import tensorflow as tf

    return tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype, name=INPUT)


def _let_inline(graph: Any) -> None:
    """Rename the functions of a graph, without what keeps them from being inlined.

    By their old names TensorFlow would find those that it knows already.
    """
    for function in graph.library.function:
        function.signature.name += "_plain"
        for name in _APART:
            function.attr.pop(name, None)
    for node in [*graph.node, *(node for each in graph.library.function for node in each.node_def)]:
        for name in _APART:
            node.attr.pop(name, None)
        for value in node.attr.values():
            if value.HasField("func"):
                value.func.name += "_plain"

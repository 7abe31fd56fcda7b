"""What runs a saved model: an engine that it was converted for, else Keras."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from fastcls import home
from fastcls.engines import Engine
from fastcls.engines.devices import gpus
from fastcls.engines.trunk import freeze, trace
from fastcls.errors import OptionError
from fastcls.inference.converted import converted

AUTO, KERAS = "auto", "tensorflow"
# Fewer inputs are through Keras before a model is converted.
WORTH = 64
Forward = Callable[[np.ndarray], np.ndarray]


class Forwarder:
    """Runs a model on batches: (B, ...) -> probabilities (B, C) float32.

    Args:
        kind: What the model is, such as "classifier".
        load: Gives the Keras model.
        digest: Of its file; "" for a model that is not converted, as it is of no file.
        engine: "tensorflow" for Keras, another for what a model is converted for, "auto" for the fastest.
    """

    def __init__(self, kind: str, load: Callable[[], Any], digest: str = "", engine: str = AUTO) -> None:
        self._kind, self._load, self._digest, self._asked = kind, load, digest, engine
        self._engine: Engine | None = None
        self._looked: list[bool] = []  # for an engine, once as it is, once to convert the model

    def choose(self, count: int | None) -> Forward:
        """What runs it fastest.

        Args:
            count: How many inputs there are; None if that is not known.

        Raises:
            OptionError: The engine that was asked for cannot run it.
        """
        if self._asked not in (AUTO, KERAS):
            return self._require().run
        is_few = count is not None and count < WORTH
        engine = self._find(is_worth=count is not None and not is_few)
        if engine:
            return engine.run
        return self._traced if is_few else self._frozen

    def keep(self) -> None:
        """Convert it for the next time, where that was not done and can be kept."""
        if home.folder():
            self._find(is_worth=True)

    def _find(self, *, is_worth: bool) -> Engine | None:
        """The engine that it was converted for, or is, if that is worth it."""
        if self._asked == KERAS:
            return None
        has_looked = is_worth in self._looked or True in self._looked
        # Keras is faster on a GPU.
        if self._digest and not self._engine and not has_looked and not (is_worth and gpus()):
            self._looked.append(is_worth)
            self._engine = converted(self._kind, self._digest, self._load if is_worth else None)
        return self._engine

    def _require(self) -> Engine:
        """The engine that was asked for, also where Keras is faster."""
        self._engine = self._engine or converted(self._kind, self._digest, self._load)
        if self._engine is None:
            raise OptionError(
                f"The engine {self._asked} cannot run this classifier here: it is not installed, does not "
                "support this CPU, or does not come near to Keras. Use --engine auto"
            )
        return self._engine

    @cached_property
    def _graph(self) -> Any:
        return trace(self._load())

    @cached_property
    def _frozen_graph(self) -> Any:
        return freeze(self._graph)

    def _traced(self, inputs: np.ndarray) -> np.ndarray:
        return _run(self._graph, inputs)

    def _frozen(self, inputs: np.ndarray) -> np.ndarray:
        """More to prepare, less for each input."""
        return _run(self._frozen_graph, inputs)[0]


def _run(graph: Any, inputs: np.ndarray) -> Any:
    import tensorflow as tf  # not before Keras

    return np.asarray(graph(tf.constant(inputs)))

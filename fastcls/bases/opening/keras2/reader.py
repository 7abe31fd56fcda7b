"""Reads a model of Keras 2 as a flat model of Keras 3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastcls import graph
from fastcls.backend import reproducible_build
from fastcls.bases.opening.keras2.calls import Replay
from fastcls.bases.opening.keras2.structure import Stored, input_shape, parse
from fastcls.bases.opening.keras2.weights import fill


def read_keras_2(config: Any, path: Path) -> Any:
    """Build a model of Keras 2 from its configuration, and fill it with its weights.

    Args:
        config: Class and configuration of the model, as JSON has them.
        path: The `.h5` or `.keras` file or the SavedModel folder that they are from.

    Returns:
        Functional Keras 3 model without nested models, which computes in float32. Its layers are called as
        in the file.

    Raises:
        ValueError: It is damaged, or cannot be built of Keras's own layers; the text says why.
    """
    try:
        root = parse(config)
    except (AttributeError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"its configuration is damaged ({_short(error)})") from error
    if not root.is_model:
        raise ValueError(f"it holds a {root.kind}, a model whose structure is in Python code only")
    try:
        model, replay = _build(root)
        fill(root, replay.built, path)
    except (AttributeError, KeyError, IndexError, TypeError) as error:
        raise ValueError(f"it is damaged, or in a form that is not known here ({_short(error)})") from error
    return model


def _build(root: Stored) -> tuple[Any, Replay]:
    import keras

    replay = Replay()
    with reproducible_build():  # a file has no seeds of its dropouts
        image = keras.Input(input_shape(root)[1:], name="input")
        outputs = replay.run(root, [image])
        graph.rename_apart(reversed(graph.operations_between([image], outputs)), taken=["input"])
        return keras.Model(image, outputs if len(outputs) > 1 else outputs[0]), replay


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"

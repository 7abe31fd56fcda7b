"""Whole networks to train on images: base and head in one graph, and which layers of it are trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fastcls import graph
from fastcls.bases.loader import Base
from fastcls.cutter import bottleneck_model, cut
from fastcls.errors import OptionError, closest
from fastcls.inference.stitcher import stitch
from fastcls.specs import FinetuneSpec, HeadSpec
from fastcls.tasks import ONE_LABEL, Task
from fastcls.training.heads.network import HEAD_PREFIX, build_head, is_batch_norm
from fastcls.wording import count_of

_FRONT = "downscale"
_NOISE = (
    *("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "AlphaDropout"),
    *("GaussianDropout", "GaussianNoise"),
)


def build_network(
    base: Base, head: HeadSpec, classes: int, downscale: int = 1, *, task: Task = ONE_LABEL
) -> Any:
    """Join a base, up to its pooled output before the classifier, and a head.

    Args:
        base: The base.
        head: What to put on it.
        classes: Number of classes.
        downscale: See `FinetuneSpec`.
        task: What is asked of an image.

    Returns:
        Keras model, RGB uint8 image (B, H, W, 3) -> probabilities (B, C).
    """
    trunk = bottleneck_model(cut(_with_front(base, downscale) if downscale > 1 else base))
    shape = tuple(trunk.outputs[0].shape[1:])
    return stitch(trunk, build_head(head, shape, classes, task=task))


def trainee_of(model: Any, spec: FinetuneSpec, *, batch_norm: bool) -> Any:
    """The same layers as a model to train: what is not trained runs as in inference.

    Args:
        model: A classifier, RGB uint8 image (B, H, W, 3) -> probabilities (B, C). Its layers are marked as
            trained or not.
        spec: What to train.
        batch_norm: Whether batch normalization of the base is trained; that of the head always is.

    Raises:
        OptionError: There is no such layer, or there are fewer.
    """
    import keras

    operations = graph.operations(model)
    base = [operation for operation in operations if not _is_outside(operation)]
    trained = {id(operation) for operation in base[_first(base, spec.train) :]}
    trained |= {id(operation) for operation in operations if operation.name.startswith(HEAD_PREFIX)}
    trained |= {id(operation) for operation in operations if operation.name == _FRONT}
    for operation in operations:
        if isinstance(operation, keras.layers.Layer):
            is_head = operation.name.startswith(HEAD_PREFIX)
            kept = is_batch_norm(operation) and not batch_norm and not is_head
            operation.trainable = id(operation) in trained and not kept
    # Of no effect in inference. Keras runs it in training wherever it lies, but for batch normalization
    # that is not trained.
    noise = [op for op in operations if id(op) not in trained and type(op).__name__ in _NOISE]
    image = model.inputs[0]
    return keras.Model(image, graph.replay(model, image, leave_out=noise))


def _with_front(base: Base, times: int) -> Base:
    """A base after a strided convolution, which starts as the mean of times x times pixels."""
    import keras

    height, width = (side * times for side in base.size)
    front = keras.layers.Conv2D(3, times, strides=times, name=_FRONT)
    image = keras.Input((height, width, 3))
    model = keras.Model(image, graph.replay(base.model, front(image)))
    kernel = np.broadcast_to(np.eye(3) / times**2, (times, times, 3, 3))
    front.set_weights([kernel, np.zeros(3)])
    return replace(base, model=model, size=(height, width))


def _first(base: Sequence[Any], train: str) -> int:
    """Place of the first trained operation."""
    if train in ("all", "none"):
        return 0 if train == "all" else len(base)
    if train.isdecimal():
        weighted = [
            place
            for place, operation in enumerate(base)
            if getattr(operation, "weights", ()) and not is_batch_norm(operation)
        ]
        if int(train) > len(weighted):
            raise OptionError(
                f"The base has only {count_of(len(weighted), 'layer')} with weights. "
                f"Received: --train {train}"
            )
        return weighted[-int(train)]
    names = [operation.name for operation in base]
    layer = train.split()[1]
    if layer not in names:
        raise OptionError(f"There is no layer {layer!r} in the base. The closest are {closest(layer, names)}")
    return names.index(layer)


def _is_outside(operation: Any) -> bool:
    return operation.name.startswith((HEAD_PREFIX, "normalize_")) or operation.name == _FRONT

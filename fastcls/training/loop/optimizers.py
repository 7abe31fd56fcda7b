"""Optimizers of Keras from what was asked for."""

from __future__ import annotations

from typing import Any

from fastcls.specs import OptimizerSpec


def build_optimizer(spec: OptimizerSpec, learning_rate: Any) -> Any:
    """Build a Keras optimizer.

    Args:
        spec: The optimizer.
        learning_rate: What Keras takes as one.
    """
    import keras

    asked = {
        "momentum": spec.momentum,
        "weight_decay": spec.weight_decay,
        "global_clipnorm": spec.clip_norm,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    return getattr(keras.optimizers, spec.name)(learning_rate=learning_rate, **given)

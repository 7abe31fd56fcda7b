"""The optimizer, and the learning rate of each step as a tensor that the compiled steps compute."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fastcls.specs import OptimizerSpec, TrainConfig
from fastcls.tasks import LOSS, Monitor


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


class Rate:
    """Warm-up, then a schedule of Keras, or a constant that plateaus of the validation lower.

    Args:
        config: Learning rate, schedule and epochs.
        steps: Steps per epoch.
        monitor: The figure whose plateaus count: the one that chooses the epoch.
    """

    def __init__(self, config: TrainConfig, steps: int, monitor: Monitor = LOSS) -> None:
        import keras

        self._spec, self._monitor = config.schedule, monitor
        self._warmup = config.schedule.warmup * steps
        self._level = keras.Variable(config.learning_rate, trainable=False)
        self._decay = _decay(config, steps)
        self._best, self._waited = math.inf, 0

    def at(self, step: Any) -> Any:
        """The rate of a step.

        Args:
            step: Counted from 0.
        """
        from keras import ops

        step = ops.cast(step, "float32")
        rate = self._decay(ops.maximum(step - self._warmup, 0.0)) if self._decay else self._level
        return rate * ops.minimum((step + 1) / max(self._warmup, 1), 1.0)

    def watch(self, row: Mapping[str, float]) -> None:
        """Lower the rate after an epoch, if the schedule is "plateau" and the epoch ends one."""
        if self._spec.kind != "plateau":
            return
        cost = self._monitor.cost(row)
        is_better = cost < self._best
        self._best = min(self._best, cost)
        self._waited = 0 if is_better else self._waited + 1
        if self._waited == self._spec.rate_patience:
            self._level.assign(
                max(float(self._level.numpy()) * self._spec.rate_factor, self._spec.rate_minimum)
            )
            self._waited = 0

    def get_state(self) -> dict[str, float]:
        """What plateaus have changed so far, for `set_state`."""
        return {"level": float(self._level.numpy()), "best": self._best, "waited": self._waited}

    def set_state(self, state: Mapping[str, float]) -> None:
        """Go on from a state."""
        self._level.assign(state["level"])
        self._best, self._waited = state["best"], int(state["waited"])


def _decay(config: TrainConfig, steps: int) -> Any:
    from keras.optimizers import schedules

    spec, rate = config.schedule, config.learning_rate
    if spec.kind == "cosine":
        return schedules.CosineDecay(
            rate, (config.epochs - spec.warmup) * steps, alpha=spec.rate_minimum / rate
        )
    if spec.kind in ("step", "exponential"):
        return schedules.ExponentialDecay(
            rate, spec.rate_interval * steps, spec.rate_factor, staircase=spec.kind == "step"
        )
    return None

"""What minimizes which loss, at which learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fastcls.errors import OptionError
from fastcls.specs.checks import check_at_least, check_choice
from fastcls.tasks import TASKS, Task

# Those of keras.optimizers; what each takes besides a learning rate.
OPTIMIZERS = {
    "SGD": ("momentum", "clip_norm"),
    "Adam": ("clip_norm",),
    "AdamW": ("weight_decay", "clip_norm"),
    "RMSprop": ("momentum", "clip_norm"),
    "Adagrad": ("clip_norm",),
    "Adadelta": ("clip_norm",),
    "Adamax": ("clip_norm",),
    "Nadam": ("clip_norm",),
}
# What each schedule takes besides warm-up epochs.
SCHEDULES = {
    "constant": (),
    "step": ("rate_factor", "rate_interval"),
    "exponential": ("rate_factor", "rate_interval"),
    "cosine": ("rate_minimum",),
    "plateau": ("rate_factor", "rate_patience", "rate_minimum"),
}
CLASS_WEIGHTS = ("none", "balanced", "log")
# "auto" is the first that fits the data.
LOSSES = tuple(name for task in TASKS.values() for name in task.losses)


@dataclass(frozen=True)
class OptimizerSpec:
    """What minimizes the loss.

    Attributes:
        name: One of `keras.optimizers` by its name there ("AdamW"), in letters of any case.
        momentum: Share of the last step in the next one; None for Keras's default. Of SGD and RMSprop.
        weight_decay: Share of each weight, times the learning rate, that a step takes away; None for
            Keras's default. Of AdamW.
        clip_norm: Gradients whose norm over all weights is larger are scaled down to it; None for never.
    """

    name: str = "Adam"
    momentum: float | None = None
    weight_decay: float | None = None
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        named = {name.lower(): name for name in OPTIMIZERS}.get(self.name.lower(), self.name)
        object.__setattr__(self, "name", named)
        check_choice("optimizer", self.name, tuple(OPTIMIZERS))
        self._refuse_without_effect()
        if self.momentum is not None and not 0 <= self.momentum < 1:
            raise OptionError(f"The momentum must be 0 or more and below 1. Received: {self.momentum}")
        if self.weight_decay is not None and not 0 <= self.weight_decay < math.inf:
            raise OptionError(f"The weight decay must be 0 or more. Received: {self.weight_decay}")
        if self.clip_norm is not None and not 0 < self.clip_norm < math.inf:
            raise OptionError(f"The norm to clip gradients to must be positive. Received: {self.clip_norm}")

    def _refuse_without_effect(self) -> None:
        for option in ("momentum", "weight_decay", "clip_norm"):
            if getattr(self, option) is not None and option not in OPTIMIZERS[self.name]:
                takers = ", ".join(name for name, options in OPTIMIZERS.items() if option in options)
                raise OptionError(
                    f"No effect with the optimizer {self.name}: {option}. Leave it out, or choose one of: "
                    f"{takers}"
                )


@dataclass(frozen=True)
class ScheduleSpec:
    """How the learning rate changes while a head is trained.

    Attributes:
        kind: "constant"; "step" or "exponential", times `rate_factor` per `rate_interval`, at its end or bit
            by bit; "cosine", half a wave down to `rate_minimum` at the end of the last epoch; "plateau",
            times `rate_factor` after `rate_patience` epochs without a better validation.
        warmup: Epochs in which the rate first rises, by the same amount with each step.
        rate_factor: Above 0 and below 1.
        rate_interval: Epochs.
        rate_patience: Epochs.
        rate_minimum: No rate is lower, but for those of the warm-up.
    """

    kind: str = "constant"
    warmup: int = 0
    rate_factor: float = 0.1
    rate_interval: int = 10
    rate_patience: int = 5
    rate_minimum: float = 0.0

    def __post_init__(self) -> None:
        check_choice("schedule", self.kind, tuple(SCHEDULES))
        self._refuse_without_effect()
        check_at_least("warmup", self.warmup, 0)
        check_at_least("rate_interval", self.rate_interval, 1)
        check_at_least("rate_patience", self.rate_patience, 1)
        if not 0 < self.rate_factor < 1:
            raise OptionError(f"The rate's factor must be above 0 and below 1. Received: {self.rate_factor}")

    def _refuse_without_effect(self) -> None:
        options = ("rate_factor", "rate_interval", "rate_patience", "rate_minimum")
        given = [name for name in options if getattr(self, name) != getattr(type(self), name)]
        unused = [name for name in given if name not in SCHEDULES[self.kind]]
        if unused:
            raise OptionError(f"No effect with the schedule {self.kind}: {', '.join(unused)}. Leave them out")


@dataclass(frozen=True)
class LossSpec:
    """The loss that is minimized.

    The figures of validation are always of the plain cross-entropy.

    Attributes:
        label_smoothing: Share of each target that is spread evenly over all classes; with several labels
            per image, over having a class and not having it.
        l2: Times the sum of the squares of the kernels that are trained (biases are free) it is added to the
            loss: those of the head, and of a tail or a base that is trained with it.
        class_weight: What an image counts by its class, of n_c of N images of C classes: "none" for 1,
            "balanced" for N / (C n_c), "log" for max(1, ln(m N / n_c)). With several labels per image, what
            having class c counts, where not having it counts 1: "balanced" for m (N - n_c) / n_c.
        class_weight_multiplier: The m above; None for 0.15 with "log", 1 with "balanced".
        name: One of `keras.losses`: "categorical_crossentropy" or "categorical_focal_crossentropy" for one
            label per image, "binary_crossentropy" or "binary_focal_crossentropy" for several; "auto" for
            the cross-entropy that fits the data.
    """

    label_smoothing: float = 0.0
    l2: float = 0.0
    class_weight: str = "none"
    class_weight_multiplier: float | None = None
    name: str = "auto"

    def __post_init__(self) -> None:
        check_choice("class_weight", self.class_weight, CLASS_WEIGHTS)
        check_choice("loss", self.name, ("auto", *LOSSES))
        self._check_multiplier()
        if not 0 <= self.label_smoothing < 1:
            raise OptionError(
                f"The label smoothing must be 0 or more and below 1. Received: {self.label_smoothing}"
            )
        if not 0 <= self.l2 < math.inf:
            raise OptionError(f"The factor of l2 must be 0 or more. Received: {self.l2}")

    def named(self, task: Task) -> str:
        """Name of the loss for data of a task.

        Raises:
            OptionError: The loss is for another task.
        """
        fitting = list(task.losses)
        if self.name not in ("auto", *fitting):
            raise OptionError(
                f"The data has {task} per image, for which the loss {self.name} is not. Choose one of: "
                f"{', '.join(fitting)}"
            )
        return fitting[0] if self.name == "auto" else self.name

    def _check_multiplier(self) -> None:
        if self.class_weight_multiplier is None:
            return
        if self.class_weight == "none":
            raise OptionError("No effect with the class weight none: class_weight_multiplier. Leave it out")
        if not 0 < self.class_weight_multiplier < math.inf:
            raise OptionError(
                f"The multiplier of class weights must be positive. Received: {self.class_weight_multiplier}"
            )

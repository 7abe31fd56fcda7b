"""Optimizer, learning rate schedule and loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastcls.errors import OptionError
from fastcls.specs.option import option
from fastcls.specs.options import described, settle
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


def _unused(table: Mapping[str, tuple[str, ...]], choice: str) -> set[str]:
    """What a choice of a table does not take, and another does."""
    return {name for names in table.values() for name in names} - set(table.get(choice, ()))


def _optimizer(value: Any) -> Any:
    """The name of an optimizer as Keras writes it."""
    return {name.lower(): name for name in OPTIMIZERS}.get(str(value).lower(), value)


@described
@dataclass(frozen=True)
class OptimizerSpec:
    """What minimizes the loss."""

    name: str = option(
        "Adam",
        "Optimizer from keras.optimizers (case-insensitive).",
        flag="--optimizer",
        choices=OPTIMIZERS,
        read=_optimizer,
        silences=lambda name: _unused(OPTIMIZERS, name),
    )
    momentum: float | None = option(None, "Momentum of SGD and RMSprop.", low=0, below=1, shown="Keras's")
    weight_decay: float | None = option(None, "Weight decay of AdamW.", low=0, shown="0.004")
    clip_norm: float | None = option(
        None, "Clip gradients to this global norm.", above=0, shown="no clipping"
    )

    def __post_init__(self) -> None:
        settle(self)


@described
@dataclass(frozen=True)
class ScheduleSpec:
    """How the learning rate changes while a head is trained."""

    kind: str = option(
        "constant",
        "Learning rate schedule: step (multiply by --rate-factor every --rate-interval epochs), exponential "
        "(the same, gradually), cosine (decay to --rate-minimum in the last epoch), or plateau (multiply by "
        "--rate-factor after --rate-patience epochs without improvement in validation).",
        flag="--schedule",
        choices=SCHEDULES,
        silences=lambda kind: _unused(SCHEDULES, kind),
    )
    warmup: int = option(0, "Epochs of linear warm-up.", low=0, metavar="EPOCHS")
    rate_factor: float = option(
        0.1, "Decay factor of step, exponential and plateau.", above=0, below=1, metavar="FACTOR"
    )
    rate_interval: int = option(
        10, "Epochs between reductions (step) or per decay factor (exponential).", low=1, metavar="EPOCHS"
    )
    rate_patience: int = option(
        5, "Epochs without improvement before plateau lowers the rate.", low=1, metavar="EPOCHS"
    )
    rate_minimum: float = option(0.0, "Lowest learning rate of cosine and plateau.", low=0, metavar="RATE")

    def __post_init__(self) -> None:
        settle(self)


@described
@dataclass(frozen=True)
class LossSpec:
    """The loss that is minimized; the figures of validation are always of the plain cross-entropy."""

    label_smoothing: float = option(
        0.0,
        "Fraction of each target spread evenly over all classes; with several labels per image, over yes "
        "and no of each class.",
        low=0,
        below=1,
        metavar="FRACTION",
    )
    l2: float | None = option(
        None,
        "L2 penalty: this times the sum of the squares of all trainable kernels.",
        low=0,
        metavar="FACTOR",
        shown="0.003 for a linear head on a cache, without --layers and --bottleneck-norm; else 0",
    )
    class_weight: str = option(
        "none",
        "Weight of an image in the loss by its class, which has n_c of N images of C classes: balanced "
        "(N / (C n_c)) or log (max(1, ln(m N / n_c))). With several labels per image, the weight of having "
        "a class.",
        choices=CLASS_WEIGHTS,
        silences=lambda weight: ["class_weight_multiplier"] if weight == "none" else [],
    )
    class_weight_multiplier: float | None = option(
        None,
        "The m of --class-weight: larger values weight rare classes more.",
        above=0,
        shown="0.15 for log, 1 for balanced",
        metavar="M",
    )
    name: str = option(
        "auto",
        "Loss from keras.losses; auto: categorical cross-entropy for one label per image, else binary.",
        flag="--loss",
        choices=("auto", *LOSSES),
    )

    def __post_init__(self) -> None:
        settle(self)

    def named(self, task: Task) -> str:
        """Name of the loss for data of a task.

        Raises:
            OptionError: The loss is for another task.
        """
        fitting = list(task.losses)
        if self.name not in ("auto", *fitting):
            raise OptionError(
                f"Loss {self.name} does not fit data with {task} per image. Choose one of: "
                f"{', '.join(fitting)}"
            )
        return fitting[0] if self.name == "auto" else self.name

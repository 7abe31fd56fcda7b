"""What head is trained, and how."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastcls.errors import OptionError
from fastcls.specs.checks import check_at_least, check_choice
from fastcls.specs.optimization import LossSpec, OptimizerSpec, ScheduleSpec

GRADIENT_ONLY = ("epochs", "batch_size", "learning_rate", "patience", "schedule", "loss", "sampling")
SAMPLINGS = ("uniform", "balanced")
THRESHOLDS = ("single", "per-class")


@dataclass(frozen=True)
class HeadSpec:
    """The trainable part on top of the bottleneck.

    Attributes:
        layers: Hidden layers before the softmax: an int is a ReLU dense layer of that many units, a
            float below 1 a dropout of that rate.
        function: "file.py:function", which takes the bottleneck tensor and the number of classes and
            returns the tensor of class probabilities; it replaces `layers`.
    """

    layers: tuple[int | float, ...] = ()
    function: str | None = None

    def __post_init__(self) -> None:
        for value in self.layers:
            dropout = isinstance(value, float) and 0 < value < 1
            dense = isinstance(value, int) and value >= 1
            if not dropout and not dense:
                raise OptionError(
                    "A head layer is a number of units (1 or more) or a dropout rate between 0 and 1. "
                    f"Received: {value}. Example: 256,0.4"
                )
        if self.layers and self.function:
            raise OptionError("Give the head either as layers or as a function, not both.")


@dataclass(frozen=True)
class TrainConfig:
    """How the head is trained.

    With one label per image, the validation loss is what chooses the epoch; with several, the mean over the
    classes of the area under the ROC curve. Below, a better validation is one with a lower loss or a higher
    area.

    Attributes:
        optimizer: The optimizer, or its name. Epochs, batch size, learning rate and patience have no
            effect on lbfgs and must keep their defaults with it.
        epochs: At most this many passes over the training rows.
        batch_size: Rows per step.
        learning_rate: Step size of the optimizer.
        schedule: How the learning rate changes, or the kind of change.
        loss: What is minimized.
        sampling: Which rows make an epoch: "uniform" for each one once, "balanced" for as many, drawn with
            replacement so that each class comes equally often.
        threshold: From which probability on a class is predicted, of several labels per image: "single"
            for the one with the most exact matches in validation, "per-class" for those of the highest F1,
            or a number; None for "single", or for 0.5 without validation.
        patience: Stop after this many epochs without a better validation; 0 never stops early.
        seed: Decides initial weights, order of rows and dropout.
        val: Share of the training rows to validate on instead of the cache's own validation part; 0
            trains without validation and keeps the last epoch.
        allow_partial: Train although some images have no bottleneck yet.
        allow_stale: Train although some image files have changed since their extraction.
    """

    optimizer: OptimizerSpec = field(default_factory=OptimizerSpec)
    epochs: int = 50
    batch_size: int = 32
    learning_rate: float = 1e-3
    schedule: ScheduleSpec = field(default_factory=ScheduleSpec)
    loss: LossSpec = field(default_factory=LossSpec)
    sampling: str = "uniform"
    threshold: str | float | None = None
    patience: int = 10
    seed: int = 0
    val: float | None = None
    allow_partial: bool = False
    allow_stale: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.optimizer, str):
            object.__setattr__(self, "optimizer", OptimizerSpec(self.optimizer))
        if isinstance(self.schedule, str):
            object.__setattr__(self, "schedule", ScheduleSpec(self.schedule))
        check_at_least("epochs", self.epochs, 1)
        check_at_least("batch_size", self.batch_size, 1)
        check_at_least("patience", self.patience, 0)
        check_at_least("seed", self.seed, 0)
        check_choice("sampling", self.sampling, SAMPLINGS)
        self._check_threshold()
        if not 0 < self.learning_rate < math.inf:
            raise OptionError(f"The learning rate must be positive. Received: {self.learning_rate}")
        if self.val is not None and not 0 <= self.val < 1:
            raise OptionError(
                f"val is a share of the training rows, 0 or more and below 1. Received: {self.val}"
            )
        if self.optimizer.name == "lbfgs":
            self._check_lbfgs()
        self._check_schedule()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """From what `dataclasses.asdict` made of one."""
        known = dict(values)
        if "solver" in known:  # as earlier runs call it
            known["optimizer"] = {"name": known.pop("solver")}
        known["optimizer"] = OptimizerSpec(**known["optimizer"])
        known["schedule"] = ScheduleSpec(**known.get("schedule", {}))
        known["loss"] = LossSpec(**known.get("loss", {}))
        return cls(**known)

    def _check_threshold(self) -> None:
        if isinstance(self.threshold, float):
            if not 0 < self.threshold <= 1:
                raise OptionError(f"A threshold must be above 0 and at most 1. Received: {self.threshold}")
        elif self.threshold is not None:
            check_choice("threshold", self.threshold, THRESHOLDS)
            if self.val == 0:
                raise OptionError(
                    f"The threshold {self.threshold} is chosen on validation rows. Received: val=0. Give the "
                    "threshold as a number"
                )

    def _check_schedule(self) -> None:
        spec = self.schedule
        if spec.warmup >= self.epochs:
            raise OptionError(f"{spec.warmup} epochs of warm-up leave none of {self.epochs} to train")
        if not 0 <= spec.minimum < self.learning_rate:
            raise OptionError(
                "The lowest learning rate must be 0 or more and below the first. "
                f"Received: {spec.minimum} and {self.learning_rate}"
            )
        if spec.kind == "plateau" and self.val == 0:
            raise OptionError(
                "The schedule plateau watches validation rows. Received: val=0. Choose another --schedule"
            )
        if spec.kind == "plateau" and 0 < self.patience <= spec.patience:
            raise OptionError(
                f"The training ends after {self.patience} epochs without a better validation, before "
                f"the rate is lowered after {spec.patience}. Give a shorter --rate-patience or a longer "
                "--patience"
            )

    def _check_lbfgs(self) -> None:
        plain = TrainConfig()
        given = [name for name in GRADIENT_ONLY if getattr(self, name) != getattr(plain, name)]
        if given:
            raise OptionError(f"No effect with the optimizer lbfgs: {', '.join(given)}. Leave them out")
        if self.val == 0:
            raise OptionError(
                "The optimizer lbfgs chooses its regularization on validation rows. Received: val=0. Give a "
                "share of the rows, such as --val 0.2, or use --optimizer adam"
            )

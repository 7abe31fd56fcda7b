"""What head is trained, and how."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastcls.errors import OptionError
from fastcls.specs.bases import CutSpec
from fastcls.specs.checks import check_at_least, check_choice
from fastcls.specs.heads import HeadSpec, check_head
from fastcls.specs.optimization import LossSpec, OptimizerSpec, ScheduleSpec
from fastcls.specs.records import CheckpointSpec, LogSpec
from fastcls.tasks import Task

SAMPLINGS = ("uniform", "balanced")
THRESHOLDS = ("single", "per-class")


@dataclass(frozen=True)
class TrainConfig:
    """How the head is trained.

    With one label per image, the validation loss is what chooses the epoch; with several, the mean over the
    classes of the area under the ROC curve. Below, a better validation is one with a lower loss or a higher
    area.

    Attributes:
        optimizer: The optimizer, or its name.
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
        views: Views of each image to train on, of which an epoch takes one; None for all that the last
            extraction made, 1 for the plain ones.
        allow_partial: Train although some images have no bottleneck yet.
        allow_stale: Train although some image files have changed since their extraction.
        checkpoints: Which epochs are kept.
        logs: What is written down of it.
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
    views: int | None = None
    allow_partial: bool = False
    allow_stale: bool = False
    checkpoints: CheckpointSpec = field(default_factory=CheckpointSpec)
    logs: LogSpec = field(default_factory=LogSpec)

    def __post_init__(self) -> None:
        if isinstance(self.optimizer, str):
            object.__setattr__(self, "optimizer", OptimizerSpec(self.optimizer))
        if isinstance(self.schedule, str):
            object.__setattr__(self, "schedule", ScheduleSpec(self.schedule))
        check_at_least("epochs", self.epochs, 1)
        check_at_least("batch_size", self.batch_size, 1)
        check_at_least("patience", self.patience, 0)
        check_at_least("seed", self.seed, 0)
        check_at_least("views", self.views, 1)
        check_choice("sampling", self.sampling, SAMPLINGS)
        self._check_threshold()
        if not 0 < self.learning_rate < math.inf:
            raise OptionError(f"The learning rate must be positive. Received: {self.learning_rate}")
        if self.val is not None and not 0 <= self.val < 1:
            raise OptionError(
                f"val is a share of the training rows, 0 or more and below 1. Received: {self.val}"
            )
        self._check_schedule()
        self._check_records()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """From what `dataclasses.asdict` made of one."""
        known = dict(values)
        known["optimizer"] = OptimizerSpec(**known["optimizer"])
        known["schedule"] = ScheduleSpec(**known.get("schedule", {}))
        known["loss"] = LossSpec(**known.get("loss", {}))
        known["checkpoints"] = CheckpointSpec(**known.get("checkpoints", {}))
        known["logs"] = LogSpec(**known.get("logs", {}))
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
        if not 0 <= spec.rate_minimum < self.learning_rate:
            raise OptionError(
                "The lowest learning rate must be 0 or more and below the first. "
                f"Received: {spec.rate_minimum} and {self.learning_rate}"
            )
        if spec.kind == "plateau" and self.val == 0:
            raise OptionError(
                "The schedule plateau watches validation rows. Received: val=0. Choose another --schedule"
            )
        if spec.kind == "plateau" and 0 < self.patience <= spec.rate_patience:
            raise OptionError(
                f"The training ends after {self.patience} epochs without a better validation, before "
                f"the rate is lowered after {spec.rate_patience}. Give a shorter --rate-patience or a longer "
                "--patience"
            )

    def _check_records(self) -> None:
        asked = [self.checkpoints.needs_validation, "confusion_every" if self.logs.confusion_every else ""]
        given = ", ".join(filter(None, asked))
        if given and self.val == 0:
            raise OptionError(f"No effect without validation rows: {given}. Leave them out. Received: val=0")


def check_effect(head: HeadSpec, config: TrainConfig) -> None:
    """Raise OptionError where a training asks for what its head has no use for, or lacks what it needs."""
    check_head(head, config)
    if config.val == 0:
        check_val(head, 0)


def check_val(head: HeadSpec, count: int) -> None:
    """Raise OptionError where a head needs validation rows, and there are none.

    Args:
        head: What is trained.
        count: How many there are.
    """
    if head.traits.needs_val and not count:
        raise OptionError(
            f"--head {head.kind} chooses its {head.traits.step.one} on validation rows, and there are none. "
            "Give a share of the rows, such as --val 0.2, or use --head linear"
        )


def check_cut(head: HeadSpec, cut: CutSpec) -> None:
    """Raise OptionError where a tail is to be trained and the cut leaves none."""
    if head.traits.needs_tail and cut.layer is None:
        raise OptionError(
            f"--head {head.kind} trains what follows the cut, and nothing follows the default one. Give "
            f"--cut and an earlier layer: `fastcls layers {cut.base.name}` lists them"
        )


def check_labels(head: HeadSpec, config: TrainConfig, task: Task) -> None:
    """Raise OptionError where a training does not fit the task of the data."""
    config.loss.named(task)
    if head.traits.tasks and task not in head.traits.tasks:
        taken = " or ".join(map(str, head.traits.tasks))
        raise OptionError(f"--head {head.kind} takes {taken} per image, not {task}. Use --head linear")
    balanced = config.loss.class_weight == "balanced" and config.loss.class_weight_multiplier is not None
    asked = {
        "min_accuracy": config.checkpoints.min_accuracy,
        "confusion_every": config.logs.confusion_every,
        "threshold": config.threshold,
        "class_weight_multiplier with balanced": balanced,
    }
    given = [name for name in task.pointless if asked[name]]
    if given:
        raise OptionError(f"No meaning with {task} per image: {', '.join(given)}. Leave them out")


def specs_of_run(known: Mapping[str, Any]) -> tuple[HeadSpec, TrainConfig]:
    """What was trained and how, by a `run.json`."""
    return HeadSpec.from_dict(known["head"]), TrainConfig.from_dict(known["training"])

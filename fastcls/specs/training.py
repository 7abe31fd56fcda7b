"""What head is trained, and how."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastcls.errors import OptionError
from fastcls.specs.bases import CutSpec
from fastcls.specs.checks import no_effect
from fastcls.specs.converted import Converted
from fastcls.specs.heads import HeadSpec
from fastcls.specs.optimization import LossSpec, OptimizerSpec, ScheduleSpec
from fastcls.specs.option import option
from fastcls.specs.options import described, refuse_without_effect, settle
from fastcls.specs.outputs import CheckpointSpec, LogSpec, without_validation
from fastcls.tasks import Task

SAMPLINGS = ("uniform", "balanced")
THRESHOLDS = ("single", "per-class")


@described
@dataclass(frozen=True)
class TrainConfig:
    """How the head is trained.

    With one label per image, the validation loss is what chooses the epoch; with several, the mean over the
    classes of the area under the ROC curve. Below, a better validation is one with a lower loss or a higher
    area.
    """

    optimizer: Converted[OptimizerSpec, str] = Converted(str, OptimizerSpec, OptimizerSpec)
    epochs: int = option(50, "Maximum number of epochs.", low=1)
    batch_size: int = option(32, "Images per training step.", low=1)
    learning_rate: float = option(1e-3, "Learning rate of the optimizer.", above=0, metavar="RATE")
    schedule: Converted[ScheduleSpec, str] = Converted(str, ScheduleSpec, ScheduleSpec)
    loss: LossSpec = field(default_factory=LossSpec)
    sampling: str = option(
        "uniform",
        "How an epoch samples images: uniform, each once; balanced, the same number with replacement, each "
        "class equally often.",
        choices=SAMPLINGS,
    )
    threshold: str | float | None = option(
        None,
        "With several labels per image, a class is predicted when its probability reaches its threshold: "
        "single (one for all classes, with the most exact matches in validation), per-class (with the "
        "highest F1 of each), or a number.",
        choices=THRESHOLDS,
        above=0,
        high=1,
        metavar="single|per-class|NUMBER",
        shown="single; 0.5 without validation",
    )
    patience: int = option(
        10, "Stop after N epochs without improvement in validation; 0 disables.", low=0, metavar="N"
    )
    seed: int = option(0, "Random seed of initial weights, order of images and dropout.", low=0)
    val: float | None = option(
        None,
        "Fraction of the training images for validation; 0 trains without it and keeps the last epoch.",
        low=0,
        below=1,
        metavar="FRACTION",
        shown="the validation part of the data",
        silences=without_validation,
    )
    views: int | None = option(
        None,
        "Views of each image to train on; each epoch uses one of them. 1 uses the plain images only.",
        low=1,
        shown="all of the last extraction",
    )
    allow_partial: bool = option(False, "Train even if some images have no bottleneck yet.")
    allow_stale: bool = option(False, "Train even if some image files have changed since their extraction.")
    checkpoints: CheckpointSpec = field(default_factory=CheckpointSpec)
    logs: LogSpec = field(default_factory=LogSpec)

    def __post_init__(self) -> None:
        settle(self)
        self._check_threshold()
        self._check_schedule()

    def _check_threshold(self) -> None:
        if isinstance(self.threshold, str) and self.val == 0:
            raise OptionError(
                f"--threshold {self.threshold} needs validation images. Received: val=0. Give the threshold "
                "as a number"
            )

    def _check_schedule(self) -> None:
        spec = self.schedule
        if spec.warmup >= self.epochs:
            raise OptionError(
                f"warmup must be less than epochs. Received: warmup={spec.warmup}, epochs={self.epochs}"
            )
        if spec.rate_minimum >= self.learning_rate:
            raise OptionError(
                "rate_minimum must be below learning_rate. "
                f"Received: rate_minimum={spec.rate_minimum}, learning_rate={self.learning_rate}"
            )
        if spec.kind == "plateau" and self.val == 0:
            raise OptionError(
                "--schedule plateau needs validation images. Received: val=0. Choose another schedule"
            )
        if spec.kind == "plateau" and 0 < self.patience <= spec.rate_patience:
            raise OptionError(
                f"--patience {self.patience} stops the training before --rate-patience {spec.rate_patience} "
                "lowers the learning rate. Use a shorter --rate-patience or a longer --patience"
            )


def check_effect(head: HeadSpec, config: TrainConfig) -> None:
    """Raise OptionError where a training asks for what its head has no use for."""
    refuse_without_effect(head, config)


def further_head(head: HeadSpec) -> HeadSpec:
    """What a trained head is when gradients train it further; raises OptionError where they cannot."""
    if not head.is_fitted:
        return head
    if not head.traits.further:
        raise OptionError(
            f"A head of kind {head.kind} cannot be trained further. Start from a run of another head, or "
            "train without --from"
        )
    return HeadSpec(head.traits.further, bottleneck_norm=head.bottleneck_norm, prompts=head.prompts)


def check_cut(head: HeadSpec, cut: CutSpec) -> None:
    """Raise OptionError where a tail is to be trained and the cut leaves none."""
    if head.traits.needs_tail and cut.layer is None:
        raise OptionError(
            f"--head {head.kind} trains the layers after the cut, and none follow the default one. Choose an "
            f"earlier layer with --cut: `fastcls layers {cut.base.name}` lists them"
        )


def check_labels(head: HeadSpec, config: TrainConfig, task: Task) -> None:
    """Raise OptionError where a training does not fit the task of the data."""
    config.loss.named(task)
    if head.traits.tasks and task not in head.traits.tasks:
        taken = " or ".join(map(str, head.traits.tasks))
        raise OptionError(f"--head {head.kind} supports {taken} per image, not {task}. Use --head auto")
    balanced = config.loss.class_weight == "balanced" and config.loss.class_weight_multiplier is not None
    asked = {
        "min_accuracy": config.checkpoints.min_accuracy,
        "confusion_every": config.logs.confusion_every,
        "threshold": config.threshold,
        "class_weight_multiplier (with balanced)": balanced,
    }
    given = [f"--{name.replace('_', '-')}" for name in task.pointless if asked[name]]
    if given:
        raise OptionError(no_effect(given, f"{task} per image"))

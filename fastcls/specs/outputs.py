"""What a training writes while it runs: checkpoints and logs."""

from __future__ import annotations

from dataclasses import dataclass

from fastcls.specs.option import option
from fastcls.specs.options import described, settle

_OF_VALIDATION = (
    *("CheckpointSpec.min_accuracy", "CheckpointSpec.checkpoint_best_only", "LogSpec.confusion_every"),
    *("TrainConfig.patience", "HeadSpec.refit"),
)


def without_validation(val: float | None) -> list[str]:
    """What has no effect where no image is left to validate on."""
    return [*_OF_VALIDATION] if val == 0 else []


@described
@dataclass(frozen=True)
class CheckpointSpec:
    """Which epochs of a training are kept, besides the one that becomes the result."""

    checkpoint_every: int | None = option(
        None,
        "Keep a checkpoint every N epochs; 0 writes none at all, so that an interrupted training cannot be "
        "resumed.",
        low=0,
        metavar="N",
        shown="none are kept; Ctrl-C loses nothing, any other end at most half a minute",
        silences=lambda every: [] if every else ["checkpoint_keep", "checkpoint_best_only"],
    )
    checkpoint_keep: int = option(1, "Number of checkpoints to keep, the latest ones.", low=1, metavar="N")
    checkpoint_best_only: bool = option(
        False, "Keep a checkpoint only if its validation result is better than that of all kept before."
    )
    min_accuracy: float | None = option(
        None,
        "Keep an epoch, as a checkpoint or as the result, only if its validation accuracy reaches this; if "
        "none does, the result is the best epoch.",
        above=0,
        high=1,
        metavar="FRACTION",
    )

    def __post_init__(self) -> None:
        settle(self)


@described
@dataclass(frozen=True)
class LogSpec:
    """What is logged of a training besides a row per epoch."""

    log_steps: int = option(
        0,
        "Log loss and learning rate every N steps, in steps.csv; 0 disables.",
        low=0,
        metavar="N",
    )
    confusion_every: int = option(
        0, "Draw the confusion matrix of validation every N epochs; 0 disables.", low=0, metavar="N"
    )

    def __post_init__(self) -> None:
        settle(self)

"""What a training leaves behind while it runs."""

from __future__ import annotations

from dataclasses import dataclass

from fastcls.errors import OptionError
from fastcls.specs.checks import check_at_least


@dataclass(frozen=True)
class CheckpointSpec:
    """Which epochs of a training are kept, besides the one that becomes the result.

    Attributes:
        checkpoint_every: Keep a checkpoint every so many epochs, in the finished run too. None keeps none
            there, but a killed training loses half a minute of work at most; 0 writes nothing at all, and
            a training that is killed begins again.
        checkpoint_keep: How many of them are kept: the last ones.
        checkpoint_best_only: Keep an epoch only if its validation is better than that of all kept before.
        min_accuracy: Keep an epoch, as a checkpoint or as the result, only if its validation accuracy
            reaches this; the result is the best epoch nevertheless when none does.
    """

    checkpoint_every: int | None = None
    checkpoint_keep: int = 1
    checkpoint_best_only: bool = False
    min_accuracy: float | None = None

    def __post_init__(self) -> None:
        check_at_least("checkpoint_every", self.checkpoint_every, 0)
        check_at_least("checkpoint_keep", self.checkpoint_keep, 1)
        unused = [
            name
            for name in ("checkpoint_keep", "checkpoint_best_only")
            if getattr(self, name) != getattr(type(self), name)
        ]
        if unused and not self.checkpoint_every:
            raise OptionError(
                f"No effect without checkpoints that are kept: {', '.join(unused)}. Leave them out, or give "
                "--checkpoint-every 1 or more"
            )
        if self.min_accuracy is not None and not 0 < self.min_accuracy <= 1:
            raise OptionError(
                f"The least accuracy must be above 0 and at most 1. Received: {self.min_accuracy}"
            )

    @property
    def needs_validation(self) -> str:
        """The options that only validation rows give a meaning, as text; "" if none is set."""
        given = {
            "checkpoint_best_only": self.checkpoint_best_only,
            "min_accuracy": self.min_accuracy is not None,
        }
        return ", ".join(name for name, is_given in given.items() if is_given)


@dataclass(frozen=True)
class LogSpec:
    """What is written down of a training besides a row per epoch.

    Attributes:
        log_steps: Write loss and learning rate of every so-manyth step; 0 for none.
        confusion_every: Draw the confusion of the validation rows every so many epochs; 0 for never.
    """

    log_steps: int = 0
    confusion_every: int = 0

    def __post_init__(self) -> None:
        check_at_least("log_steps", self.log_steps, 0)
        check_at_least("confusion_every", self.confusion_every, 0)

"""The figure of validation that chooses the epoch, ends a training early and lowers the rate on plateaus."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Monitor:
    """One figure in the rows of a history.

    Attributes:
        name: Its name there; rows without validation lack it.
        higher_is_better: Whether a rise is an improvement.
    """

    name: str
    higher_is_better: bool = False

    def cost(self, row: Mapping[str, float]) -> float:
        """What is lower for a better row; infinite for one without the figure."""
        value = row.get(self.name, math.nan)
        if math.isnan(value):
            return math.inf
        return -value if self.higher_is_better else value


LOSS = Monitor("val_loss")
AUROC = Monitor("val_auroc", higher_is_better=True)


def monitor_of(*, multi_label: bool) -> Monitor:
    """The figure that chooses, by whether an image may have any number of classes."""
    return AUROC if multi_label else LOSS

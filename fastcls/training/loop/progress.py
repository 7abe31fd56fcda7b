"""What is seen of a training while it runs: a bar on a terminal, and a line now and then in the log."""

from __future__ import annotations

import logging
import math
import time

from tqdm import tqdm

from fastcls.training.loop.snapshots import Row
from fastcls.wording import figures_of

logger = logging.getLogger(__name__)
_LINES = 10  # of a training, at least,
_SECONDS = 30.0  # and one after this time
# Beside the bar: the loss, and the first of the others that there is.
_SHOWN = ("loss", "val_accuracy", "val_auroc", "val_loss")
_BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} epochs [{elapsed}<{remaining}{postfix}]"


class Progress:
    """Shows the epochs of a training with their loss and a validation figure.

    Args:
        epochs: How many there may be.
        done: How many were run before an interruption.
        shown: Whether there is a bar on stderr.
    """

    def __init__(self, epochs: int, done: int, *, shown: bool) -> None:
        self._epochs = epochs
        self._every = math.ceil(epochs / _LINES)
        self._bar = tqdm(total=epochs, initial=done, desc="train", bar_format=_BAR, disable=not shown)
        self._told, self._waiting = time.monotonic(), Row()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()
        if self._waiting:
            self._tell(self._waiting)

    def add(self, row: Row) -> None:
        """Show an epoch."""
        shown = [name for name in _SHOWN if name in row][:2]
        self._bar.set_postfix_str(figures_of({name: row[name] for name in shown}, 3), refresh=False)
        self._bar.update()
        is_due = row["epoch"] % self._every == 0 or time.monotonic() - self._told > _SECONDS
        self._waiting = Row() if is_due or row["epoch"] == 1 else row
        if not self._waiting:
            self._tell(row)

    def _tell(self, row: Row) -> None:
        logger.info("Epoch %d of at most %d: %s", row["epoch"], self._epochs, figures_of(row))
        self._told = time.monotonic()

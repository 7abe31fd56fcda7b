"""What is seen of a training while it runs: a bar on a terminal, and a line now and then in the log."""

from __future__ import annotations

import logging
import math
import time

from tqdm import tqdm

from fastcls.specs import EPOCH, Step
from fastcls.training.loop.snapshots import Row
from fastcls.wording import figures_of

logger = logging.getLogger(__name__)
_LINES = 10  # of a training, at least,
_SECONDS = 30.0  # and one after this time
# Beside the bar: the loss, and the first of the others that there is.
_SHOWN = ("loss", "val_accuracy", "val_auroc", "val_loss")
_BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} STEPS [{elapsed}<{remaining}{postfix}]"


def announce(what: str) -> None:
    """Say of what the lines that follow are."""
    logger.info("%s:", what)


class Progress:
    """Shows the epochs of a training, or the values that are tried, with loss and a validation figure.

    Args:
        total: How many there may be.
        done: How many were run before an interruption.
        step: What they are.
        shown: Whether there is a bar on stderr.
    """

    def __init__(self, total: int, done: int = 0, *, step: Step = EPOCH, shown: bool) -> None:
        self._total, self._count, self._step = total, done, step
        self._every = math.ceil(total / _LINES)
        bar = _BAR.replace("STEPS", step.many)
        self._bar = tqdm(total=total, initial=done, desc="train", bar_format=bar, disable=not shown)
        self._told, self._waiting = time.monotonic(), Row()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()
        if self._waiting:
            self._tell(self._waiting)

    def add(self, row: Row) -> None:
        """Show what comes next, as its row of the history has it."""
        self._count += 1
        shown = [name for name in _SHOWN if name in row][:2]
        self._bar.set_postfix_str(figures_of({name: row[name] for name in shown}, 3), refresh=False)
        self._bar.update()
        is_due = self._count % self._every == 0 or time.monotonic() - self._told > _SECONDS
        self._waiting = Row() if is_due or self._count == 1 else row
        if not self._waiting:
            self._tell(row)

    def _tell(self, row: Row) -> None:
        value = row[self._step.name]
        bound = f" of at most {self._total:,}" if value == self._count else ""
        named = self._step.one[0].upper() + self._step.one[1:]
        logger.info("%s %g%s: %s", named, value, bound, figures_of(row))
        self._told = time.monotonic()

"""Fit a compiled Keras model epoch by epoch: early stopping, the best weights, and where it goes on from."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from fastcls import interrupts
from fastcls.errors import OptionError
from fastcls.specs import TrainConfig
from fastcls.tasks import LOSS, Monitor
from fastcls.training.loop.checkpoints import Checkpoints, merit, passes
from fastcls.training.loop.objectives import OBJECTIVES
from fastcls.training.loop.passes import CompiledPasses, EpochRunner, Passes, StepListener
from fastcls.training.loop.progress import Progress
from fastcls.training.loop.snapshots import Begun, Row, Standing, Trainee
from fastcls.training.rows.cached import Feed

logger = logging.getLogger(__name__)


def fit(
    trainee: Trainee,
    run_epoch: EpochRunner,
    config: TrainConfig,
    *,
    monitor: Monitor = LOSS,
    checkpoints: Checkpoints | None = None,
    begin: Callable[[list[Row]], None] = lambda history: None,
    watch: Callable[[Row], None] = lambda row: None,
    progress: bool = False,
) -> Standing:
    """Train, and leave the model with the weights of the best epoch.

    Args:
        trainee: What is trained.
        run_epoch: Trains it for an epoch. Without the figure of the monitor in its rows all epochs are run
            and the last weights stay.
        config: Epochs, patience, and how accurate an epoch must be to be kept.
        monitor: The figure that says which epoch is best.
        checkpoints: Where an interrupted training goes on from, and leaves its checkpoints.
        begin: Gets the rows of the epochs that were run before an interruption.
        watch: Gets the row of each epoch.
        progress: Show a bar on stderr.

    Returns:
        A row per epoch: epoch (from 1), loss (the one that is minimized), accuracy, val_loss (the plain
        cross-entropy), val_accuracy, learning_rate (of its first step), seconds; and the one that is kept.
        With several labels per image, val_auroc replaces the accuracies.

    A loss that is NaN or infinite ends the training; a warning says where.

    Raises:
        OptionError: The loss became NaN or infinite, and no epoch before was validated.
    """
    checkpoints = checkpoints or Checkpoints(None, config.checkpoints, {}, {})
    standing = checkpoints.resume(trainee)
    if standing.best and standing.weights is None:
        standing.weights = trainee.model.get_weights()
    begin(standing.history)
    done = len(standing.history)
    with Progress(config.epochs, done, shown=progress) as shown, interrupts.held():
        while not _is_over(standing.history, config, monitor):
            with _saved_where_it_stops(standing, trainee, checkpoints):
                row = run_epoch(len(standing.history) + 1, standing.begun)
                row = {"epoch": len(standing.history) + 1, **row}
                if not _is_finite(row):
                    if standing.best is None:
                        checkpoints.forget()
                    _give_up(row, standing.begun.finite, standing.best)
                    break
                _add(standing, row, trainee.model, config, monitor)
                watch(row)
                checkpoints.save(standing, trainee)
                shown.add(row)
                interrupts.let_through()
    if standing.weights:
        trainee.model.set_weights(standing.weights)
    _warn_of_low_accuracy(standing, config)
    return standing


@contextlib.contextmanager
def _saved_where_it_stops(standing: Standing, trainee: Trainee, checkpoints: Checkpoints) -> Iterator[None]:
    """Inside, a training that is stopped between two steps is saved first."""
    try:
        yield
    except interrupts.Stopped as stopped:
        stopped.saved = checkpoints.stop(standing, trainee)
        raise


def _is_over(history: Sequence[Row], config: TrainConfig, monitor: Monitor) -> bool:
    if len(history) >= config.epochs:
        return True
    if not history or monitor.name not in history[-1] or not config.patience:
        return False
    return len(history) - max(history, key=lambda row: merit(row, monitor))["epoch"] >= config.patience


def _add(standing: Standing, row: Row, model: Any, config: TrainConfig, monitor: Monitor) -> None:
    standing.history.append(row)
    standing.begun = Begun()

    def rank(row: Row) -> tuple[float, bool, float]:
        sparsity, value = merit(row, monitor)
        return sparsity, passes(row, config.checkpoints), value

    if monitor.name in row and (standing.best is None or rank(row) > rank(standing.best)):
        standing.best, standing.weights = row, model.get_weights()


def _warn_of_low_accuracy(standing: Standing, config: TrainConfig) -> None:
    if standing.best and not passes(standing.best, config.checkpoints):
        highest = max(row["val_accuracy"] for row in standing.history)
        logger.warning(
            "No epoch reached the accuracy %g: the highest validation accuracy was %.4f. Keeping epoch %d, "
            "which has the lowest validation loss",
            config.checkpoints.min_accuracy,
            highest,
            standing.best["epoch"],
        )


def epoch_runner(
    model: Any,
    train: Feed,
    val: Feed | None,
    *,
    passes: Passes | None = None,
    listen: StepListener | None = None,
    val_metrics: Sequence[Any] = (),
) -> EpochRunner:
    """What trains a compiled model for an epoch, in the order that is the epoch's own, and validates it.

    Args:
        model: The model.
        train: What to train on.
        val: What to validate on, if anything.
        passes: How a pass is made; by compiled loops unless it is said.
        listen: Gets loss and learning rate of each step of an epoch.
        val_metrics: Keras metrics that see the validation rows; they hold what they saw until the next epoch.
    """
    passes = passes or CompiledPasses()
    train_pass = passes.train(model, train, listen)
    # The same layers, whatever the loss that trains them.
    validate = OBJECTIVES[val.task].validator(model, val, val_metrics, passes.test) if val else dict

    def run_epoch(epoch: int, begun: Begun) -> Row:
        started = time.monotonic() - begun.seconds
        if begun.rate is None:
            begun.rate = _learning_rate(model)
        try:
            if begun.figures is None:
                begun.figures = train_pass(epoch, begun)
            figures = {**begun.figures, **validate()}
        finally:
            begun.seconds = round(time.monotonic() - started, 3)
        return {**figures, "learning_rate": begun.rate, "seconds": begun.seconds}

    return run_epoch


def _learning_rate(model: Any) -> float:
    rate = np.float32(float(model.optimizer.learning_rate))
    return float(str(rate))  # 0.001, where float32 to float64 gives 0.0010000000474974513


def _is_finite(row: Row) -> bool:
    return math.isfinite(row["loss"]) and math.isfinite(row.get("val_loss", 0.0))


def _give_up(row: Row, steps: int, best: Row | None) -> None:
    """Say at which step the loss was no number, or that only validation found out; keep the best."""
    place = "validation" if math.isfinite(row["loss"]) else f"step {steps + 1}"
    fact = f"The loss became NaN or infinite in epoch {row['epoch']:.0f} ({place})"
    remedy = "Lower the learning rate, or clip gradients with --clip-norm 1"
    if best is None:
        raise OptionError(f"{fact}. {remedy}")
    logger.warning("%s. Training stopped; keeping epoch %.0f. %s", fact, best["epoch"], remedy)

"""Fit a compiled Keras model to rows: early stopping, best weights, and no Python between the steps."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from fastcls import interrupts
from fastcls.errors import OptionError
from fastcls.specs import TrainConfig
from fastcls.tasks import LOSS, Monitor
from fastcls.training.loop.checkpoints import Checkpoints, passes
from fastcls.training.loop.objectives import OBJECTIVES
from fastcls.training.loop.snapshots import Row, Standing, Trainee
from fastcls.training.rows.cached import Feed

# Trains for an epoch (counted from 1): its figures, and in how many steps the loss was finite.
EpochRunner = Callable[[int], tuple[Row, int]]
# Gets an epoch and, of some of its steps in order, loss and learning rate: (S, 2) float32.
StepListener = Callable[[int, np.ndarray], None]
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

    A loss that is not a number ends the training; a warning says where.

    Raises:
        OptionError: The loss is not a number, and no epoch before was validated.
    """
    checkpoints = checkpoints or Checkpoints(None, config.checkpoints, {}, {})
    standing = checkpoints.resume(trainee)
    if standing.best and standing.weights is None:
        standing.weights = trainee.model.get_weights()
    begin(standing.history)
    done = len(standing.history)
    bar = tqdm(total=config.epochs, initial=done, unit="epoch", desc="train", disable=not progress)
    with bar, interrupts.held():
        while not _is_over(standing.history, config, monitor):
            row, steps = run_epoch(len(standing.history) + 1)
            row = {"epoch": len(standing.history) + 1, **row}
            if not _is_finite(row):
                if standing.best is None:
                    checkpoints.forget()
                _give_up(row, steps, standing.best)
                break
            _add(standing, row, trainee.model, config, monitor)
            watch(row)
            checkpoints.save(standing, trainee)
            bar.update()
            interrupts.let_through()
    if standing.weights:
        trainee.model.set_weights(standing.weights)
    _warn_of_low_accuracy(standing, config)
    return standing


def _is_over(history: Sequence[Row], config: TrainConfig, monitor: Monitor) -> bool:
    if len(history) >= config.epochs:
        return True
    if not history or monitor.name not in history[-1] or not config.patience:
        return False
    return len(history) - min(history, key=monitor.cost)["epoch"] >= config.patience


def _add(standing: Standing, row: Row, model: Any, config: TrainConfig, monitor: Monitor) -> None:
    standing.history.append(row)

    def rank(row: Row) -> tuple[bool, float]:
        return passes(row, config.checkpoints), -monitor.cost(row)

    if monitor.name in row and (standing.best is None or rank(row) > rank(standing.best)):
        standing.best, standing.weights = row, model.get_weights()


def _warn_of_low_accuracy(standing: Standing, config: TrainConfig) -> None:
    if standing.best and not passes(standing.best, config.checkpoints):
        highest = max(row["val_accuracy"] for row in standing.history)
        logger.warning(
            "No epoch has reached the accuracy %g: the highest on the validation rows was %.4f. Epoch %d, of "
            "the lowest validation loss, is kept nevertheless",
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
    judges: Sequence[Any] = (),
) -> EpochRunner:
    """What trains a compiled model for an epoch, in the order that is the epoch's own, and validates it.

    Args:
        model: The model.
        train: What to train on.
        val: What to validate on, if anything.
        passes: How a pass is made; by compiled loops unless it is said.
        listen: Gets loss and learning rate of each step, a block of steps at a time.
        judges: Keras metrics that see the validation rows; they hold what they saw until the next epoch.
    """
    passes = passes or CompiledPasses()
    train_pass = passes.train(model, train, listen)
    # The same layers, whatever the loss that trains them.
    validate = OBJECTIVES[val.task].validator(model, val, judges, passes.test) if val else dict

    def run_epoch(epoch: int) -> tuple[Row, int]:
        started = time.monotonic()
        rate = _learning_rate(model)
        metrics, steps = train_pass(epoch)
        metrics |= validate()
        seconds = round(time.monotonic() - started, 3)
        return {**metrics, "learning_rate": rate, "seconds": seconds}, steps

    return run_epoch


class Passes(Protocol):
    """Makes what runs a compiled Keras model over a feed."""

    def train(self, model: Any, feed: Any, listen: StepListener | None) -> EpochRunner:
        """What trains the model for an epoch."""

    def test(self, model: Any, feed: Any) -> Callable[[], Row]:
        """What finds the model's metrics."""


class CompiledPasses:
    """Loops over the batches inside TensorFlow: for small models on one device."""

    def train(self, model: Any, feed: Feed, listen: StepListener | None = None) -> EpochRunner:
        """See `Passes`."""
        return _pass(model, model.train_step, feed, listen)

    def test(self, model: Any, feed: Feed) -> Callable[[], Row]:
        """See `Passes`."""
        run = _pass(model, model.test_step, feed)
        return lambda: run(1)[0]


def _learning_rate(model: Any) -> float:
    rate = np.float32(float(model.optimizer.learning_rate))
    return float(str(rate))  # 0.001, where float32 to float64 gives 0.0010000000474974513


def _pass(
    model: Any, step: Callable[[Any], Any], feeder: Feed, listen: StepListener | None = None
) -> EpochRunner:
    """One pass over all rows: its metrics as means over the rows, and how many steps had a finite loss.

    The loop over the batches of a block is compiled: to start a step of a small head from Python, as
    Keras's `fit` does, costs many times the step.
    """
    import tensorflow as tf

    rows_spec = tf.TensorSpec((None, *feeder.shape), feeder.dtype)
    labels_spec = tf.TensorSpec((None, *feeder.label_shape), feeder.label_dtype)
    places_spec = tf.TensorSpec((None,), tf.int64)
    dtype = model.inputs[0].dtype

    @tf.function(input_signature=(rows_spec, labels_spec, places_spec))
    def run_steps(rows: Any, labels: Any, order: Any) -> Any:
        finite = 0
        seen = tf.TensorArray(tf.float32, size=0, dynamic_size=True, element_shape=(2,))
        for start in tf.range(0, tf.size(order), feeder.batch_size):
            places = order[start : start + feeder.batch_size]
            rate = model.optimizer.learning_rate if listen else None  # of this step: it changes in it
            metrics = step((tf.cast(tf.gather(rows, places), dtype), tf.gather(labels, places)))
            # A mean that is not a number stays so: the steps before are the finite ones.
            finite += tf.cast(tf.math.is_finite(metrics["loss"]), tf.int32)
            if listen:
                seen = seen.write(start // feeder.batch_size, tf.stack([losses.pop(), rate]))
        return finite, seen.stack()

    # Traced here: TensorFlow warns of a function that is traced again for each of several trainings.
    with _overheard(model) as losses:
        traced = run_steps.get_concrete_function()

    def run(epoch: int) -> tuple[Row, int]:
        model.reset_metrics()
        finite = 0
        for rows, labels, order in feeder.blocks(epoch):
            steps, seen = traced(rows, labels, tf.constant(order))
            interrupts.let_through()
            finite += int(steps)
            if listen:
                listen(epoch, seen.numpy())
        figures = model.get_metrics_result().items()
        return {name: float(value) for name, value in figures if not len(value.shape)}, finite

    return run


@contextlib.contextmanager
def _overheard(model: Any) -> Iterator[list[Any]]:
    """The loss of each step that is traced inside: Keras's own steps return means over the epoch."""
    losses = []
    plain = model.compute_loss

    def compute_loss(*values: Any, **options: Any) -> Any:
        losses.append(plain(*values, **options))
        return losses[-1]

    model.compute_loss = compute_loss
    try:
        yield losses
    finally:
        del model.compute_loss  # that of its class again


def _is_finite(row: Row) -> bool:
    return math.isfinite(row["loss"]) and math.isfinite(row.get("val_loss", 0.0))


def _give_up(row: Row, steps: int, best: Row | None) -> None:
    """Say at which step the loss was no number, or that only validation found out; keep the best."""
    place = "validation" if math.isfinite(row["loss"]) else f"step {steps + 1}"
    fact = f"The loss is not a number any more in epoch {row['epoch']:.0f}, at {place}"
    remedy = "Lower the learning rate, or clip gradients with --clip-norm 1"
    if best is None:
        raise OptionError(f"{fact}. {remedy}")
    logger.warning("%s: the training ends, epoch %.0f is kept. %s", fact, best["epoch"], remedy)

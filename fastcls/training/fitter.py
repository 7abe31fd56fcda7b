"""Fit a compiled Keras model to rows: early stopping, best weights, and no Python between the steps."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from tqdm import tqdm

from fastcls.errors import OptionError
from fastcls.specs import TrainConfig
from fastcls.training.feeder import Feeder
from fastcls.training.monitor import LOSS, Monitor
from fastcls.training.validator import multi_label_validator

Row = dict[str, float]
# Trains for an epoch (counted from 1): its figures, and in how many steps the loss was finite.
EpochRunner = Callable[[int], tuple[Row, int]]
logger = logging.getLogger(__name__)


def fit(
    model: Any,
    run_epoch: EpochRunner,
    config: TrainConfig,
    *,
    watch: Callable[[Row], None],
    monitor: Monitor = LOSS,
    progress: bool = False,
) -> list[Row]:
    """Train, and leave the model with the weights of the best epoch.

    Args:
        model: A Keras model.
        run_epoch: Trains it for an epoch. Without the figure of the monitor in its rows all epochs are run
            and the last weights stay.
        config: Epochs and patience.
        watch: Gets the row of each epoch.
        monitor: The figure that says which epoch is best.
        progress: Show a bar on stderr.

    Returns:
        A row per epoch: epoch (from 1), loss (the one that is minimized), val_loss (the plain cross-entropy),
        accuracy and val_accuracy or, with several labels per image, val_auroc, learning_rate (of its first
        step), seconds.

    A loss that is not a number ends the training; a warning says where.

    Raises:
        OptionError: The loss is not a number, and no epoch before was validated.
    """
    history: list[Row] = []
    best: Row = {"epoch": 0}
    for epoch in tqdm(range(1, config.epochs + 1), unit="epoch", desc="train", disable=not progress):
        row, steps = run_epoch(epoch)
        row = {"epoch": epoch, **row}
        if not _is_finite(row):
            _give_up(row, steps, best)
            break
        watch(row)
        history.append(row)
        if monitor.cost(row) < monitor.cost(best):
            best, weights = row, model.get_weights()
        elif best["epoch"] and config.patience and epoch - best["epoch"] >= config.patience:
            break
    if best["epoch"]:
        model.set_weights(weights)
    return history


def epoch_runner(model: Any, train: Feeder, val: Feeder | None) -> EpochRunner:
    """What trains a compiled model for an epoch on rows of a cache, in the order that is the epoch's own.

    Args:
        model: The model.
        train: Rows to train on.
        val: Rows to validate on, if any.
    """
    train_pass = _pass(model, model.train_step, train)
    validate = _validator(model, val) if val else dict

    def run_epoch(epoch: int) -> tuple[Row, int]:
        started = time.monotonic()
        rate = _learning_rate(model)
        metrics, steps = train_pass(epoch)
        metrics |= validate()
        seconds = round(time.monotonic() - started, 3)
        return {**metrics, "learning_rate": rate, "seconds": seconds}, steps

    return run_epoch


def _validator(model: Any, val: Feeder) -> Callable[[], Row]:
    """The same layers, judged by the plain cross-entropy, whatever the loss that trains them."""
    import keras

    if val.label_shape:
        return multi_label_validator(model, val)
    examiner = keras.Model(model.inputs[0], model.outputs[0])
    examiner.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    run = _pass(examiner, examiner.test_step, val)
    return lambda: {f"val_{name}": value for name, value in run(1)[0].items()}


def _learning_rate(model: Any) -> float:
    rate = np.float32(float(model.optimizer.learning_rate))
    return float(str(rate))  # 0.001, where float32 to float64 gives 0.0010000000474974513


def _pass(model: Any, step: Callable[[Any], Any], feeder: Feeder) -> EpochRunner:
    """One pass over all rows: its metrics as means over the rows, and how many steps had a finite loss.

    The loop over the batches of a block is compiled: to start a step of a small head from Python, as
    Keras's `fit` does, costs many times the step.
    """
    import tensorflow as tf

    rows_spec = tf.TensorSpec((None, *feeder.shape), feeder.dtype)
    labels_spec = tf.TensorSpec((None, *feeder.label_shape), feeder.label_dtype)
    places_spec = tf.TensorSpec((None,), tf.int64)

    @tf.function(input_signature=(rows_spec, labels_spec, places_spec))
    def run_steps(rows: Any, labels: Any, order: Any) -> Any:
        finite = 0
        for start in tf.range(0, tf.size(order), feeder.batch_size):
            places = order[start : start + feeder.batch_size]
            metrics = step((tf.cast(tf.gather(rows, places), tf.float32), tf.gather(labels, places)))
            # A mean that is not a number stays so: the steps before are the finite ones.
            finite += tf.cast(tf.math.is_finite(metrics["loss"]), tf.int32)
        return finite

    # Traced here: TensorFlow warns of a function that is traced again for each of several trainings.
    traced = run_steps.get_concrete_function()

    def run(epoch: int) -> tuple[Row, int]:
        model.reset_metrics()
        blocks = feeder.blocks(epoch)
        finite = sum(int(traced(rows, labels, tf.constant(order))) for rows, labels, order in blocks)
        return {name: float(value) for name, value in model.get_metrics_result().items()}, finite

    return run


def _is_finite(row: Row) -> bool:
    return math.isfinite(row["loss"]) and math.isfinite(row.get("val_loss", 0.0))


def _give_up(row: Row, steps: int, best: Row) -> None:
    """Say at which step the loss was no number, or that only validation found out; keep the best."""
    place = "validation" if math.isfinite(row["loss"]) else f"step {steps + 1}"
    fact = f"The loss is not a number any more in epoch {row['epoch']:.0f}, at {place}"
    remedy = "Lower the learning rate, or clip gradients with --clip-norm 1"
    if not best["epoch"]:
        raise OptionError(f"{fact}. {remedy}")
    logger.warning("%s: the training ends, epoch %.0f is kept. %s", fact, best["epoch"], remedy)

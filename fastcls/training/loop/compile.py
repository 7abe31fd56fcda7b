"""Compile a model with its loss, optimizer and learning rate, and fit it with all that is logged and kept."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcls import graph
from fastcls.errors import OptionError
from fastcls.graph import HEAD_PREFIX
from fastcls.specs import TrainConfig
from fastcls.tasks import Task
from fastcls.training.heads.network import is_batch_norm
from fastcls.training.loop.checkpoints import Checkpoints
from fastcls.training.loop.fit import epoch_runner, fit
from fastcls.training.loop.logs import TrainingLog
from fastcls.training.loop.objectives import build_loss
from fastcls.training.loop.optimization import Rate, build_optimizer
from fastcls.training.loop.passes import Passes
from fastcls.training.loop.snapshots import Row, Trainee
from fastcls.training.rows.cached import Feed

# Figures of the validation rows do not depend on how many are taken at once.
VAL_BATCH = 256
# The moving averages of batch normalization keep exp(-4) of what they were an epoch before, but as much as
# PyTorch's keep by default in each step, if that is more.
_FORGETTING = 4
_LEAST_MOMENTUM = 0.9


@dataclass(frozen=True)
class TrainingData:
    """What a model is trained and validated on.

    Attributes:
        train: What to train on.
        val: What to validate on; None for nothing.
        labels: Of all that is trained on, as `LabeledRows` has them.
        images: Images per epoch.
        class_names: The C classes.
        val_labels: Of all that is validated on, where that is needed.
    """

    train: Feed
    val: Feed | None
    labels: np.ndarray
    images: int
    class_names: tuple[str, ...]
    val_labels: np.ndarray | None = None

    @property
    def val_images(self) -> int:
        """Images validated on."""
        return 0 if self.val_labels is None else len(self.val_labels)

    @property
    def task(self) -> Task:
        """What is asked of an image."""
        return self.train.task


def compile_and_fit(
    model: Any,
    data: TrainingData,
    config: TrainConfig,
    checkpoints: Checkpoints,
    *,
    passes: Passes | None = None,
    progress: bool = False,
) -> tuple[list[Row], Row]:
    """Train a model, and leave it with the weights of the best epoch.

    Args:
        model: Keras model, inputs -> probabilities (B, C). It is compiled here.
        data: What to train it on.
        config: How.
        checkpoints: Where an interrupted training goes on from.
        passes: How a pass over the data is made; see `epoch_runner`.
        progress: Show a bar on stderr.

    Returns:
        The rows of the epochs, as `fit` makes them, and the one that was kept.

    Raises:
        OptionError: The loss becomes NaN before there is an epoch to keep, or the schedule needs
            validation.
    """
    if config.schedule.kind == "plateau" and data.val is None:
        raise OptionError("--schedule plateau needs validation images, and there are none")
    monitor = data.task.monitor
    steps = math.ceil(data.images / config.batch_size)
    _quicken_batch_norm(model, steps)
    rate = Rate(config, steps, monitor)
    optimizer: Any = build_optimizer(config.optimizer, lambda: rate.at(optimizer.iterations))
    loss = build_loss(config.loss, model, data.labels, data.task)
    model.compile(optimizer, loss, metrics=list(data.task.metrics))
    with TrainingLog(checkpoints.folder, config.logs, steps, data.class_names) as log:

        def watch(row: Row) -> None:
            log.write(row)
            rate.watch(row)

        standing = fit(
            Trainee(model, rate),
            epoch_runner(
                model, data.train, data.val, passes=passes, listen=log.listen, val_metrics=log.val_metrics
            ),
            config,
            monitor=monitor,
            checkpoints=checkpoints,
            begin=lambda history: log.begin(model, history),
            watch=watch,
            progress=progress,
        )
    return standing.history, standing.best or standing.history[-1]


def _quicken_batch_norm(model: Any, steps: int) -> None:
    """Let the moving averages of a base's batch normalization that is trained forget within an epoch.

    They are what validation and inference compute with. MobileNetV2 keeps 0.999 of them in each step: from
    scratch on two thousand images, they are those of untrained layers for more than a hundred epochs.

    Args:
        model: What is trained.
        steps: Steps per epoch.
    """
    for layer in filter(is_batch_norm, graph.operations(model)):
        if layer.trainable and not layer.name.startswith(HEAD_PREFIX):
            layer.momentum = min(layer.momentum, max(_LEAST_MOMENTUM, 1 - _FORGETTING / steps))

"""Train a head from a cache: no image, no trunk."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastcls.backend import import_keras
from fastcls.cache.store import Cache
from fastcls.errors import DataError, OptionError
from fastcls.specs import HeadSpec, TrainConfig
from fastcls.training.feeder import Feeder
from fastcls.training.fitter import Row, epoch_runner, fit
from fastcls.training.heads import build_head
from fastcls.training.logs import TensorBoardLog
from fastcls.training.losses import build_loss
from fastcls.training.monitor import AUROC, LOSS
from fastcls.training.optimizers import build_optimizer
from fastcls.training.schedules import Rate
from fastcls.training.selector import Selection, select
from fastcls.training.sweeper import sweep
from fastcls.training.thresholds import DEFAULT, choose_thresholds
from fastcls.training.validator import predictor

# Figures of the validation rows do not depend on how many are taken at once.
_VAL_BATCH = 256


@dataclass(frozen=True)
class TrainedHead:
    """A head and how it came about.

    Attributes:
        model: Keras model, bottleneck (B, ...) float32 -> probabilities (B, C), with the weights of the
            best epoch.
        spec: What it is made of.
        config: How it was trained last.
        class_names: Its C classes.
        history: One dict per epoch: epoch (from 1), loss, accuracy, val_loss, val_accuracy, learning_rate
            (of its first step), seconds; the val ones are absent without validation. With several labels
            per image, val_auroc replaces the accuracies. With lbfgs one dict per regularization, with c and
            iterations in place of epoch and learning_rate.
        best: The one of the head that was kept.
        train_count: Rows trained on.
        val_count: Rows validated on.
        thresholds: With several labels per image, the probability of each class from which on it is
            predicted; None with one label.
    """

    model: Any
    spec: HeadSpec
    config: TrainConfig
    class_names: tuple[str, ...]
    history: tuple[dict[str, float], ...]
    best: dict[str, float]
    train_count: int
    val_count: int
    thresholds: tuple[float, ...] | None = None

    @property
    def multi_label(self) -> bool:
        """Whether the head gives an image any number of classes."""
        return self.thresholds is not None


def train_head(
    cache: Cache,
    head: HeadSpec | None = None,
    config: TrainConfig | None = None,
    *,
    start: TrainedHead | None = None,
    log_folder: Path | None = None,
    progress: bool = False,
) -> TrainedHead:
    """Train a head, and keep the epoch or the regularization of the best validation.

    On a CPU the same seed gives the same head. Sets the global random seeds of Python, NumPy and
    TensorFlow.

    Args:
        cache: The bottlenecks.
        head: What to train; a softmax layer by default.
        config: How to train it.
        start: A trained head to go on from, with a fresh optimizer; `head` must be None then.
        log_folder: Where TensorBoard logs of the epochs go.
        progress: Show a bar on stderr.

    Raises:
        CacheError: The cache is partial, stale, damaged, or has no validation part.
        OptionError: The head does not fit, the loss is not a number before there is an epoch to keep, or
            the optimizer cannot do what is asked for.
    """
    config = config or TrainConfig()
    keras = import_keras()
    chosen = select(cache, config)
    _require_fitting(config, chosen)
    keras.utils.set_random_seed(config.seed)
    model = _start_model(cache, chosen, head, start)
    if config.optimizer.name == "lbfgs":
        _require_linear(head, start)
        history, best = _sweep(model, chosen, progress)
    else:
        history, best = _fit(model, chosen, config, log_folder, progress)
    return TrainedHead(
        model,
        start.spec if start else head or HeadSpec(),
        config,
        chosen.class_names,
        tuple(history),
        best,
        len(chosen.train),
        len(chosen.val) if chosen.val else 0,
        _thresholds(model, chosen, config),
    )


def _require_fitting(config: TrainConfig, chosen: Selection) -> None:
    """Refuse what has no effect on the labels, or no meaning."""
    if not chosen.multi_label:
        if config.threshold is not None:
            raise OptionError("No effect with one label per image: threshold. Leave it out")
        return
    if config.optimizer.name == "lbfgs":
        raise OptionError(
            "The optimizer lbfgs takes one label per image, the cache has several. Use --optimizer adam"
        )
    if chosen.val and not (chosen.val.labels.any(axis=0) & ~chosen.val.labels.all(axis=0)).any():
        raise DataError(
            "No class has validation images with and without it: there is nothing to choose an epoch by. "
            "Split the data again, or train without validation with --val 0"
        )


def _thresholds(model: Any, chosen: Selection, config: TrainConfig) -> tuple[float, ...] | None:
    if not chosen.multi_label:
        return None
    if chosen.val is None:
        value = DEFAULT if config.threshold is None else float(config.threshold)
        return (value,) * len(chosen.class_names)
    targets, probabilities = predictor(model, Feeder(chosen.val, _VAL_BATCH, None))()
    return choose_thresholds(config.threshold or "single", targets, probabilities, chosen.class_names)


def _start_model(cache: Cache, chosen: Selection, head: HeadSpec | None, start: TrainedHead | None) -> Any:
    shape = tuple(cache.manifest.shape)
    if start is None:
        return build_head(head or HeadSpec(), shape, len(chosen.class_names), multi_label=chosen.multi_label)
    if head is not None:
        raise OptionError("A head that is trained further keeps its layers: give no other layers or function")
    takes = tuple(start.model.inputs[0].shape[1:])
    if takes != shape:
        raise OptionError(f"The head to go on from takes bottlenecks of {takes}, the cache holds {shape}")
    if start.multi_label != chosen.multi_label:
        kinds = ("one label", "several labels")
        raise OptionError(
            f"The head to go on from gives {kinds[start.multi_label]} per image, the cache has "
            f"{kinds[chosen.multi_label]}. Train a new head, without --from"
        )
    if start.class_names != chosen.class_names:
        raise OptionError(
            f"The head to go on from knows the classes {', '.join(start.class_names)}; the cache has "
            f"{', '.join(chosen.class_names)}"
        )
    return start.model


def _fit(
    model: Any, chosen: Selection, config: TrainConfig, log_folder: Path | None, progress: bool
) -> tuple[list[Row], Row]:
    import keras

    if config.schedule.kind == "plateau" and chosen.val is None:
        raise OptionError("The schedule plateau watches validation rows: there are none")
    # Compiled apart: a head is kept and saved without its optimizer.
    trainee = keras.Model(model.inputs[0], model.outputs[0])
    monitor = AUROC if chosen.multi_label else LOSS
    rate = Rate(config, math.ceil(len(chosen.train) / config.batch_size), monitor)
    optimizer: Any = build_optimizer(config.optimizer, lambda: rate.at(optimizer.iterations))
    loss = build_loss(config.loss, trainee, chosen.train.labels)
    trainee.compile(optimizer, loss, metrics=[] if chosen.multi_label else ["accuracy"])
    train = Feeder(chosen.train, config.batch_size, config.seed, balanced=config.sampling == "balanced")
    val = Feeder(chosen.val, max(config.batch_size, _VAL_BATCH), None) if chosen.val else None
    with TensorBoardLog(log_folder) as log:

        def watch(row: Row) -> None:
            log.write(row)
            rate.watch(row)

        run_epoch = epoch_runner(trainee, train, val)
        history = fit(trainee, run_epoch, config, watch=watch, monitor=monitor, progress=progress)
    return history, min(history, key=monitor.cost) if val else history[-1]


def _require_linear(head: HeadSpec | None, start: TrainedHead | None) -> None:
    if start or (head or HeadSpec()) != HeadSpec():
        raise OptionError(
            "The optimizer lbfgs fits one softmax layer from nothing: it takes no other layers or function, "
            "and goes on from no other head. Use --optimizer adam for these"
        )


def _sweep(model: Any, chosen: Selection, progress: bool) -> tuple[list[Row], Row]:
    if chosen.val is None:
        raise OptionError("The optimizer lbfgs chooses its regularization on validation rows: there are none")
    found = sweep(chosen.train, chosen.val, progress=progress)
    model.set_weights([found.kernel, found.bias])
    return found.history, found.best

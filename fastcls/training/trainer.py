"""Train a head from a cache: no image, no trunk."""

from __future__ import annotations

import math
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastcls.backend import import_keras
from fastcls.cache.store import Cache
from fastcls.errors import OptionError
from fastcls.specs import HeadSpec, TrainConfig
from fastcls.training.checkpoints import Checkpoints
from fastcls.training.feeder import Feeder
from fastcls.training.fitter import epoch_runner, fit
from fastcls.training.heads import build_head
from fastcls.training.logs import TrainingLog
from fastcls.training.losses import build_loss
from fastcls.training.optimizers import build_optimizer
from fastcls.training.requests import describe_request
from fastcls.training.schedules import Rate
from fastcls.training.selector import Selection, select
from fastcls.training.snapshots import Row, Trainee
from fastcls.training.sweeper import sweep

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
            (of its first step), seconds; the val ones are absent without validation. With lbfgs one dict
            per regularization, with c and iterations in place of epoch and learning_rate.
        best: The one of the head that was kept.
        train_count: Rows trained on.
        val_count: Rows validated on.
    """

    model: Any
    spec: HeadSpec
    config: TrainConfig
    class_names: tuple[str, ...]
    history: tuple[dict[str, float], ...]
    best: dict[str, float]
    train_count: int
    val_count: int


def train_head(
    cache: Cache,
    head: HeadSpec | None = None,
    config: TrainConfig | None = None,
    *,
    start: TrainedHead | None = None,
    folder: Path | None = None,
    progress: bool = False,
) -> TrainedHead:
    """Train a head, and keep the epoch or the regularization of the lowest validation loss.

    On a CPU the same seed gives the same head. Sets the global random seeds of Python, NumPy and
    TensorFlow.

    Args:
        cache: The bottlenecks.
        head: What to train; a softmax layer by default.
        config: How to train it.
        start: A trained head to go on from, with a fresh optimizer; `head` must be None then.
        folder: Where logs and checkpoints go while it runs; a training that was interrupted there goes on.
        progress: Show a bar on stderr.

    Raises:
        CacheError: The cache is partial, stale, damaged, or has no validation part.
        OptionError: The head does not fit, the loss is not a number before there is an epoch to keep, the
            optimizer cannot do what is asked for, or another training was interrupted in `folder`.
    """
    config = config or TrainConfig()
    keras = import_keras()
    chosen = select(cache, config)
    keras.utils.set_random_seed(config.seed)
    model = start_model(cache, chosen, head, start)
    spec = start.spec if start else head or HeadSpec()
    counts = {"train_count": len(chosen.train), "val_count": len(chosen.val) if chosen.val else 0}
    if config.optimizer.name == "lbfgs":
        _require_linear(head, start)
        history, best = _sweep(model, chosen, progress)
    else:
        request = describe_request(cache, chosen, model, spec, config)
        about = {"head": asdict(spec), "class_names": chosen.class_names, **counts}
        checkpoints = Checkpoints(folder, config.checkpoints, request, about)
        history, best = _fit(model, chosen, config, checkpoints, progress)
    return TrainedHead(model, spec, config, chosen.class_names, tuple(history), best, **counts)


def start_model(cache: Cache, chosen: Selection, head: HeadSpec | None, start: TrainedHead | None) -> Any:
    """The head before the first step: a new one, or the one to go on from.

    Raises:
        OptionError: It does not fit the cache.
    """
    shape = tuple(cache.manifest.shape)
    if start is None:
        return build_head(head or HeadSpec(), shape, len(chosen.class_names))
    if head is not None:
        raise OptionError("A head that is trained further keeps its layers: give no other layers or function")
    takes = tuple(start.model.inputs[0].shape[1:])
    if takes != shape:
        raise OptionError(f"The head to go on from takes bottlenecks of {takes}, the cache holds {shape}")
    if start.class_names != chosen.class_names:
        raise OptionError(
            f"The head to go on from knows the classes {', '.join(start.class_names)}; the cache has "
            f"{', '.join(chosen.class_names)}"
        )
    return start.model


def _fit(
    model: Any, chosen: Selection, config: TrainConfig, checkpoints: Checkpoints, progress: bool
) -> tuple[list[Row], Row]:
    import keras

    if config.schedule.kind == "plateau" and chosen.val is None:
        raise OptionError("The schedule plateau watches validation rows: there are none")
    # Compiled apart: a head is kept and saved without its optimizer.
    trainee = keras.Model(model.inputs[0], model.outputs[0])
    steps = math.ceil(len(chosen.train) / config.batch_size)
    rate = Rate(config, steps)
    optimizer: Any = build_optimizer(config.optimizer, lambda: rate.at(optimizer.iterations))
    loss = build_loss(config.loss, trainee, chosen.train.labels)
    trainee.compile(optimizer, loss, metrics=["accuracy"])
    train = Feeder(chosen.train, config.batch_size, config.seed, *_memory(checkpoints))
    checkpoints.about["in_memory"] = train.in_memory
    val = Feeder(chosen.val, max(config.batch_size, _VAL_BATCH), None) if chosen.val else None
    with TrainingLog(checkpoints.folder, config.logs, steps, chosen.class_names) as log:

        def watch(row: Row) -> None:
            log.write(row)
            rate.watch(row)

        standing = fit(
            Trainee(trainee, rate),
            epoch_runner(trainee, train, val, listen=log.listen, judges=log.judges),
            config,
            checkpoints=checkpoints,
            begin=lambda history: log.begin(trainee, history),
            watch=watch,
            progress=progress,
        )
    return standing.history, standing.best or standing.history[-1]


def _memory(checkpoints: Checkpoints) -> tuple[int, ...]:
    """What makes a training that goes on keep its rows where they were: their order depends on that."""
    if not checkpoints.found:
        return ()
    return (sys.maxsize if checkpoints.found.state["in_memory"] else 0,)


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

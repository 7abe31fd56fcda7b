"""Train a head from a cache: no image, no trunk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastcls.backend import import_keras
from fastcls.cache.store import Cache
from fastcls.errors import OptionError
from fastcls.specs import HeadSpec, TrainConfig
from fastcls.training.feeder import Feeder
from fastcls.training.fitter import fit
from fastcls.training.heads import build_head
from fastcls.training.logs import TensorBoardLog
from fastcls.training.selector import Selection, select

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
        history: One dict per epoch: epoch (from 1), loss, accuracy, val_loss, val_accuracy, seconds; the
            val ones are absent without validation.
        best_epoch: The epoch that was kept.
        train_count: Rows trained on.
        val_count: Rows validated on.
    """

    model: Any
    spec: HeadSpec
    config: TrainConfig
    class_names: tuple[str, ...]
    history: tuple[dict[str, float], ...]
    best_epoch: int
    train_count: int
    val_count: int


def train_head(
    cache: Cache,
    head: HeadSpec | None = None,
    config: TrainConfig | None = None,
    *,
    start: TrainedHead | None = None,
    log_folder: Path | None = None,
    progress: bool = False,
) -> TrainedHead:
    """Train a head with Adam and keep the epoch of the lowest validation loss.

    On a CPU the same seed gives the same head. Sets the global random seeds of Python, NumPy and
    TensorFlow.

    Args:
        cache: The bottlenecks.
        head: What to train; a softmax layer by default.
        config: How to train it.
        start: A trained head to go on from, with a fresh optimizer; `head` must be None then.
        log_folder: Where TensorBoard logs go.
        progress: Show a bar on stderr.

    Raises:
        CacheError: The cache is partial, stale, damaged, or has no validation part.
        OptionError: The head does not fit, or the loss is not a number.
    """
    config = config or TrainConfig()
    keras = import_keras()
    chosen = select(cache, config)
    keras.utils.set_random_seed(config.seed)
    model = _start_model(cache, chosen, head, start)
    history = _fit(model, chosen, config, log_folder, progress)
    best = min(history, key=lambda row: row["val_loss"]) if chosen.val else history[-1]
    return TrainedHead(
        model,
        start.spec if start else head or HeadSpec(),
        config,
        chosen.class_names,
        tuple(history),
        int(best["epoch"]),
        len(chosen.train),
        len(chosen.val) if chosen.val else 0,
    )


def _start_model(cache: Cache, chosen: Selection, head: HeadSpec | None, start: TrainedHead | None) -> Any:
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
    model: Any, chosen: Selection, config: TrainConfig, log_folder: Path | None, progress: bool
) -> list[dict[str, float]]:
    import keras

    model.compile(
        keras.optimizers.Adam(config.learning_rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    train = Feeder(chosen.train, config.batch_size, config.seed)
    val = Feeder(chosen.val, max(config.batch_size, _VAL_BATCH), None) if chosen.val else None
    with TensorBoardLog(log_folder) as log:
        return fit(model, train, val, config, watch=log.write, progress=progress)

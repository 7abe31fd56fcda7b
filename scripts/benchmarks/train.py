"""Training: a classifier by Keras `fit` with a frozen base, and by fastcls in total."""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import Any

from benchmarks.figures import Cell, Spread, Table, ratio
from benchmarks.fresh import Run
from benchmarks.setup import Setup, finished, in_turn, reported, skips
from fastcls.data.dataset import Dataset
from fastcls.data.decoder import read_image
from fastcls.data.splitter import split
from fastcls.specs import BaseSpec, CutSpec, HeadSpec, SplitSpec, TrainConfig

_BATCH = 32
_HEAD_EPOCHS = 50
_COLUMNS = (
    "contender",
    "epochs",
    "total seconds",
    "times faster",
    "validation accuracy",
    "seconds to the accuracy that both reach",
    "times faster ",
    "MiB, largest process",
)
_NOTES = (
    "`fit`: the same base, softmax head, split and pixels, decoded in parallel by tf.data; Adam. fastcls: "
    "extraction into a fresh cache, the head, the stitched model.",
    "Validation accuracy: of the epoch with the lowest validation loss. The accuracy that both reach: the "
    "lower of their best; fastcls counts everything, `fit` to the end of the first epoch that has it.",
)


def measure(setup: Setup) -> list[Table]:
    """Both in turn."""
    actions = {
        "fit": functools.partial(setup.fresh, keras_fit, epochs=setup.epochs, **setup.options),
        "fastcls": functools.partial(setup.fresh, fastcls_train, epochs=_HEAD_EPOCHS, **setup.options),
    }
    runs = in_turn(actions, setup.repeats)
    done = finished(runs)
    fit, ours = done.get("fit", []), done.get("fastcls", [])
    slow, fast = (Spread.of(run.seconds for run in tried) for tried in (fit, ours))
    reached = Spread.of(_seconds_to_reach(*pair) for pair in zip(fit, ours, strict=False))
    rows = [
        _row("Keras fit, frozen base, no cache", setup.epochs, fit, reached, slow, reached),
        _row("fastcls, from the images on", _HEAD_EPOCHS, ours, fast, slow, reached),
    ]
    return [Table("Training", _COLUMNS, rows, (*_NOTES, *skips(runs)))]


def keras_fit(photos: str, base: str, weights: str | None, out: str, *, epochs: int) -> dict[str, Any]:
    """Train the head with the base before it, as a careful user does without a cache."""
    started = time.perf_counter()
    from fastcls.bases.loader import load_base
    from fastcls.cutter import bottleneck_model, cut

    dataset = _dataset(photos)
    made = cut(load_base(BaseSpec(base, weights)))
    import keras

    keras.utils.set_random_seed(0)
    trunk = bottleneck_model(made)
    trunk.trainable = False
    head = keras.layers.Dense(len(dataset.class_names), activation="softmax")
    model = keras.Model(trunk.inputs, head(trunk.outputs[0]))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    train, val = (_pixels(dataset.subset(name), made.base.size) for name in ("train", "val"))
    ends: list[float] = []
    clock = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: ends.append(time.perf_counter() - started))
    done = model.fit(train, validation_data=val, epochs=epochs, verbose=0, callbacks=[clock])
    model.save(Path(out) / "classifier.keras")
    losses, accuracies = done.history["val_loss"], list(map(float, done.history["val_accuracy"]))
    return {**_best(losses, accuracies), "ends": ends, "accuracies": accuracies}


def fastcls_train(photos: str, base: str, weights: str | None, out: str, *, epochs: int) -> dict[str, Any]:
    """Extract into a fresh cache, train the head, stitch and save the classifier."""
    from fastcls import pipeline
    from fastcls.extraction.extractor import extract
    from fastcls.plans.training import plan_training

    cache, figures = extract(_dataset(photos), CutSpec(BaseSpec(base, weights)), Path(out) / "cache")
    config = TrainConfig(epochs=epochs, patience=0)
    _, trained = pipeline.train_planned(plan_training(cache, HeadSpec("linear"), config, Path(out) / "run"))
    losses, accuracies = (
        [float(row[name]) for row in trained.history] for name in ("val_loss", "val_accuracy")
    )
    return {**_best(losses, accuracies), "extraction": figures.seconds, "engine": figures.engine}


def _dataset(photos: str) -> Dataset:
    return split(Dataset.from_folder(Path(photos)), SplitSpec())


def _pixels(dataset: Dataset, size: tuple[int, int]) -> Any:
    import tensorflow as tf

    paths = [str(dataset.locate(sample)) for sample in dataset.samples]
    labels = [sample.label for sample in dataset.samples]

    def decode(path: Any, label: Any) -> Any:
        image = tf.numpy_function(lambda name: read_image(Path(name.decode()), size), [path], tf.uint8)
        return tf.ensure_shape(image, (*size, 3)), label

    files = tf.data.Dataset.from_tensor_slices((paths, labels)).shuffle(len(paths), seed=0)
    return files.map(decode, tf.data.AUTOTUNE).batch(_BATCH).prefetch(tf.data.AUTOTUNE)


def _best(losses: list[float], accuracies: list[float]) -> dict[str, Any]:
    return {"accuracy": accuracies[losses.index(min(losses))], "highest": max(accuracies)}


def _seconds_to_reach(fit: Run, ours: Run) -> float:
    target = min(fit.report["highest"], ours.report["highest"])
    pairs = zip(fit.report["ends"], fit.report["accuracies"], strict=True)
    return next(end for end, accuracy in pairs if accuracy >= target)


def _row(
    name: str,
    epochs: int,
    runs: list[Run],
    reached: Spread | None,
    slow_whole: Spread | None,
    slow_reached: Spread | None,
) -> tuple[Cell, ...]:
    whole = Spread.of(run.seconds for run in runs)
    return (
        name,
        epochs,
        whole,
        ratio(slow_whole, whole),
        reported(runs, "accuracy"),
        reached,
        ratio(slow_reached, reached),
        Spread.of(run.largest_mib for run in runs),
    )

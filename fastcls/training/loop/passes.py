"""One pass of a compiled Keras model over a feed, to train or to validate it, in two ways.

Compiled loops start no step from Python: they are for small models on one device. Keras's own serve several
GPUs, and scale the loss for float16.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from fastcls import interrupts
from fastcls.training.loop.pruning import Pruner
from fastcls.training.loop.snapshots import Begun, Row
from fastcls.training.rows.cached import Feed
from fastcls.training.rows.images import ImageFeed

# Trains for an epoch (counted from 1), from where it was begun; notes there how far it comes. Its figures.
EpochRunner = Callable[[int, Begun], Row]
# Gets an epoch and, of its steps in order, loss and learning rate: (S, 2) float32.
StepListener = Callable[[int, np.ndarray], None]


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
        return lambda: run(1, Begun())


class KerasPasses:
    """Keras's own training and evaluation: they serve several GPUs, and scale the loss for float16.

    Args:
        progress: Show a bar of the steps of each epoch on stderr.
        pruner: Prunes the model before its steps.
    """

    def __init__(self, *, progress: bool = False, pruner: Pruner | None = None) -> None:
        self._progress, self._pruner = progress, pruner

    def train(self, model: Any, feed: ImageFeed, listen: StepListener | None) -> EpochRunner:
        """See `Passes`."""
        watcher, pruner = _watcher(feed, is_noting=listen is not None), self._pruner
        steps = math.ceil(feed.images / feed.batch_size)
        _make_variables(model, feed)

        def run(epoch: int, begun: Begun) -> Row:
            batches = feed.batches(epoch, devices(), first=begun.steps)
            watcher.begun = begun
            before = [_pruning(pruner, (epoch - 1) * steps + begun.steps)] if pruner else []
            with self._bar(epoch, begun.steps, len(batches)) as watcher.bar:
                found = model.fit(batches, shuffle=False, verbose=0, callbacks=[watcher, *before]).history
            if listen:
                listen(epoch, np.array(begun.seen, np.float32))
            reached = {"sparsity": pruner.sparsity} if pruner else {}
            return {**{name: float(values[0]) for name, values in found.items()}, **reached}

        return run

    def _bar(self, epoch: int, done: int, left: int) -> Any:
        named = {"desc": f"epoch {epoch}", "unit": "step", "leave": False}
        return tqdm(initial=done, total=done + left, **named, disable=not self._progress)

    def test(self, model: Any, feed: ImageFeed) -> Callable[[], Row]:
        """See `Passes`."""
        _make_variables(model, feed)

        def run() -> Row:
            batches = feed.batches(1, devices())
            found = model.evaluate(batches, verbose=0, callbacks=[_gate()], return_dict=True)
            return {name: float(value) for name, value in found.items() if not np.ndim(value)}

        return run


def _pass(
    model: Any, step: Callable[[Any], Any], feeder: Feed, listen: StepListener | None = None
) -> EpochRunner:
    """One pass over all rows: its metrics as means over the rows."""
    import tensorflow as tf

    _make_variables(model, feeder)
    run_steps = _compile_steps(model, step, feeder, is_noting=listen is not None)

    def run(epoch: int, begun: Begun) -> Row:
        model.reset_metrics()
        _go_on(model, begun)
        passed = begun.steps * feeder.batch_size
        for rows, labels, order in feeder.blocks(epoch):
            passed, order = passed - len(order), order[max(passed, 0) :]
            if not len(order):
                continue
            interrupts.let_through()
            finite, seen = run_steps(rows, labels, tf.constant(order))
            begun.steps += math.ceil(len(order) / feeder.batch_size)
            begun.finite += int(finite)
            begun.seen += seen.numpy().tolist()
        if listen:
            listen(epoch, np.array(begun.seen, np.float32))
        figures = model.get_metrics_result().items()
        return {name: float(value) for name, value in figures if not np.ndim(value)}

    return run


def _compile_steps(model: Any, step: Callable[[Any], Any], feeder: Feed, *, is_noting: bool) -> Any:
    """What makes the steps of a block: how many had a finite loss; loss and rate of each, if that is wanted.

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
            rate = model.optimizer.learning_rate if is_noting else None  # of this step: it changes in it
            metrics = step((tf.cast(tf.gather(rows, places), dtype), tf.gather(labels, places)))
            # A mean that is not a number stays so: the steps before are the finite ones.
            finite += tf.cast(tf.math.is_finite(metrics["loss"]), tf.int32)
            if is_noting:
                seen = seen.write(start // feeder.batch_size, tf.stack([losses.pop(), rate]))
        return finite, seen.stack()

    # Traced here: TensorFlow warns of a function that is traced again for each of several trainings.
    with _overheard(model) as losses:
        return run_steps.get_concrete_function()


def _go_on(model: Any, begun: Begun) -> None:
    """Put the metrics where they were when an epoch was stopped."""
    if begun.metrics:
        for variable, value in zip(model.metrics_variables, begun.metrics, strict=True):
            variable.assign(value)
        begun.metrics = []


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


def devices() -> int:
    """How many divide a batch; one without an image has no mean for its batch normalization."""
    import tensorflow as tf

    return int(tf.distribute.get_strategy().num_replicas_in_sync)


def _pruning(pruner: Pruner, first: int) -> Any:
    """A callback that prunes before each step of an epoch.

    Args:
        pruner: Prunes.
        first: The number of the first step, counted from 0 over all epochs.
    """
    import keras

    return keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: pruner.before(first + batch)
    )


def _gate() -> Any:
    """A callback that lets a held Ctrl-C through between two batches of a validation."""
    import keras

    return keras.callbacks.LambdaCallback(on_test_batch_end=lambda batch, logs: interrupts.let_through())


def _watcher(feed: ImageFeed, *, is_noting: bool) -> Any:
    """A callback that ends an epoch where the loss is no number, and notes how far it has come."""
    import keras

    class Watcher(keras.callbacks.Callback):
        """Has the epoch."""

        bar: tqdm[Any]
        begun: Begun

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self._images = self.begun.steps * feed.batch_size
            _go_on(self.model, self.begun)
            self._sum = float(self.model.get_metrics_result()["loss"]) * self._images if self._images else 0.0

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            interrupts.let_through()
            self._rate = float(self.model.optimizer.learning_rate) if is_noting else 0.0

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.begun.steps += 1
            mean = float(logs["loss"])  # over the epoch so far
            if not math.isfinite(mean):
                self.model.stop_training = True
                return
            self.begun.finite += 1
            self.bar.set_postfix_str(f"loss {mean:.3f}", refresh=False)
            self.bar.update()
            if is_noting:
                self._note(mean)

        def _note(self, mean: float) -> None:
            images = min(feed.batch_size, feed.images - self._images)
            before, self._sum = self._sum, mean * (self._images + images)
            self._images += images
            self.begun.seen.append(((self._sum - before) / images, self._rate))

    return Watcher()


def _make_variables(model: Any, feed: Feed | ImageFeed) -> None:
    """Make those of the optimizer and the metrics before a step is traced, which takes half of the time then.

    TensorFlow traces a function again in which variables were made. On several devices, Keras does this.
    """
    if devices() > 1:
        return
    if model.optimizer and not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    labels = np.zeros((1, *feed.label_shape), feed.label_dtype)
    model.compute_metrics(None, labels, np.zeros((1, *model.output_shape[1:]), np.float32))
    model.reset_metrics()

"""Train a network on images: the base itself, or its head alone for comparison with a cache."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import fastcls
from fastcls import files, graph, interrupts
from fastcls.backend import computing_in, import_keras
from fastcls.bases.loader import load_base
from fastcls.cache.samples import SampleRow
from fastcls.data.dataset import Dataset
from fastcls.data.decoder import Decoder, affordable_pixels, pixel_rule
from fastcls.engines.tensorflow import gpus
from fastcls.errors import DataError, OptionError
from fastcls.files import PathLike
from fastcls.inference.classifier import Classifier
from fastcls.machine import cores
from fastcls.specs import BaseSpec, FinetuneSpec, HeadSpec, PixelRule, Recipe, TrainConfig, check_labels
from fastcls.training.heads.network import HEAD_PREFIX
from fastcls.training.loop.checkpoints import Checkpoints
from fastcls.training.loop.fit import EpochRunner, StepListener
from fastcls.training.loop.minimize import TrainingData, minimize
from fastcls.training.loop.monitor import monitor_of
from fastcls.training.loop.snapshots import Row
from fastcls.training.networks import build_network, trainee_of
from fastcls.training.rows.images import ImageFeed, Images
from fastcls.training.rows.selection import divide, label_array, require_areas, require_every_class
from fastcls.training.thresholds import DEFAULT, find_thresholds

_VAL_BATCH = 32
# From which compute capability on GPUs are fast in float16.
_TENSOR_CORES = (7, 0)


@dataclass(frozen=True)
class FinetunedNetwork:
    """A network and how it came about.

    Attributes:
        model: Keras model, RGB uint8 image (B, H, W, 3) -> probabilities (B, C), with the weights of the
            best epoch.
        config: How it was trained.
        pixels: How images become its input.
        class_names: Its C classes.
        history: One dict per epoch, as `TrainedHead` has them.
        best: The one of the epoch that was kept.
        train_count: Images trained on.
        val_count: Images validated on.
        thresholds: See `TrainedHead`.
        unreadable: Images that could not be used, and why.
    """

    model: Any
    config: TrainConfig
    pixels: PixelRule
    class_names: tuple[str, ...]
    history: tuple[Row, ...]
    best: Row
    train_count: int
    val_count: int
    thresholds: tuple[float, ...] | None
    unreadable: dict[str, str]

    @property
    def classifier(self) -> Classifier:
        """The network as a classifier, to predict with, to test and to save."""
        provenance = {
            "fastcls": fastcls.__version__,
            "training": asdict(self.config),
            "figures": self.best,
            "train_count": self.train_count,
            "val_count": self.val_count,
        }
        return Classifier(self.model, self.class_names, self.pixels, provenance, thresholds=self.thresholds)

    @property
    def multi_label(self) -> bool:
        """Whether it gives an image any number of classes."""
        return self.thresholds is not None


def finetune(
    dataset: Dataset,
    start: BaseSpec | Classifier | PathLike,
    spec: FinetuneSpec | None = None,
    config: TrainConfig | None = None,
    *,
    head: HeadSpec | None = None,
    folder: PathLike | None = None,
    max_pixels: int | None = None,
    progress: bool = False,
) -> FinetunedNetwork:
    """Train a network on the images of a data set, but those of its test part.

    On a CPU the same seed gives the same network. Sets the global random seeds of Python, NumPy and
    TensorFlow. Several GPUs divide each batch among them (`tf.distribute.MirroredStrategy`).

    Args:
        dataset: The images.
        start: A base, or its name, or a classifier to train further.
        spec: What of it is trained, and how images come.
        config: How it is trained.
        head: What to put on a base; a softmax layer by default.
        folder: Where logs and checkpoints go; a training that was interrupted there goes on.
        max_pixels: Images of more pixels, when they are decoded, are left out; None for as many as the memory
            allows each decoding thread.
        progress: Show a bar on stderr.

    Raises:
        OptionError: Base, head or part to train do not fit, the classifier has other classes, or another
            training was interrupted in `folder`.
        DataError: A class has no readable image to train on, or there is no validation part.
    """
    begun = start if isinstance(start, (BaseSpec, Classifier)) else BaseSpec(os.fspath(start))
    asked = prepare_finetuning(dataset, begun, spec, config, head=head, max_pixels=max_pixels)
    return finetune_prepared(asked, None if folder is None else Path(folder), progress=progress)


@dataclass(frozen=True)
class Finetuning:
    """A training of a network before its first step: what decides the result is known.

    Attributes:
        model: The network.
        trainee: The same layers as a model to train.
        images: The images as pixels.
        used: Those to train and to validate on, by their use: "train" and "val".
        data: What to train on.
        spec: What of it is trained.
        config: How it is trained.
        request: What decides the result, JSON-able.
        strategy: How several GPUs divide the work.
    """

    model: Any
    trainee: Any
    images: Images
    used: Mapping[str, Sequence[SampleRow]]
    data: TrainingData
    spec: FinetuneSpec
    config: TrainConfig
    request: dict[str, Any]
    strategy: Any

    @property
    def unreadable(self) -> dict[str, str]:
        """Images that could not be used, and why."""
        return {str(self.images.paths[place]): reason for place, reason in self.images.unreadable.items()}


def prepare_finetuning(
    dataset: Dataset,
    start: BaseSpec | Classifier,
    spec: FinetuneSpec | None = None,
    config: TrainConfig | None = None,
    *,
    head: HeadSpec | None = None,
    max_pixels: int | None = None,
) -> Finetuning:
    """Do all of `finetune` that comes before the first step."""
    spec, config = spec or FinetuneSpec(), config or TrainConfig()
    import_keras()
    strategy = _strategy()
    with strategy.scope():
        _require_equal_shares(config)
        model, trainee = networks_of(dataset, start, spec, config, head)
        rule = _rule(start, tuple(model.inputs[0].shape[1:3]), spec)
        decoder = Decoder(rule, max_pixels or affordable_pixels(cores()))
        images, used, data = _read(dataset, decoder, spec, config)
        request = _describe(trainee, images, data, spec, config)
    return Finetuning(model, trainee, images, used, data, spec, config, request, strategy)


def finetune_prepared(
    asked: Finetuning, folder: Path | None = None, *, progress: bool = False
) -> FinetunedNetwork:
    """Do all of `finetune` from the first step on."""
    model, trainee, data, config = asked.model, asked.trainee, asked.data, asked.config
    with asked.strategy.scope():
        checkpoints = Checkpoints(
            folder,
            config.checkpoints,
            asked.request,
            _about(asked.images.rule, data, asked.spec, config),
            monitor_of(multi_label=data.multi_label),
        )
        # The policy of the model itself makes Keras scale the loss for float16.
        precision = _precision(asked.spec.precision)
        with computing_in(precision, [trainee, *_base_layers(trainee)] if precision != "float32" else []):
            history, best = minimize(
                trainee, data, config, checkpoints, passes=KerasPasses(), progress=progress
            )
    return FinetunedNetwork(
        model,
        config,
        asked.images.rule,
        data.class_names,
        tuple(history),
        best,
        data.images,
        data.val_images,
        find_thresholds(model, data.val, config.threshold, data.class_names) if data.multi_label else None,
        asked.unreadable,
    )


def _require_equal_shares(config: TrainConfig) -> None:
    if config.batch_size % _devices():  # Keras cannot begin with shares that differ
        raise OptionError(
            f"The batch size must be a multiple of the {_devices()} GPUs that divide each batch. "
            f"Received: {config.batch_size}"
        )


def _strategy() -> Any:
    import tensorflow as tf

    several = len(tf.config.list_logical_devices("GPU")) > 1
    return tf.distribute.MirroredStrategy() if several else tf.distribute.get_strategy()


def networks_of(
    dataset: Dataset,
    start: BaseSpec | Classifier,
    spec: FinetuneSpec,
    config: TrainConfig,
    head: HeadSpec | None = None,
) -> tuple[Any, Any]:
    """The network before its first step, and the same layers as a model to train.

    Raises:
        OptionError: As in `finetune`.
    """
    _require_trainable(start, head, spec)
    check_labels(head or HeadSpec(), config, multi_label=dataset.multi_label)
    model = _network(dataset, start, head or HeadSpec(), spec, config.seed)
    return model, trainee_of(model, spec, batch_norm=trains_batch_norm(start, spec))


def _require_trainable(start: BaseSpec | Classifier, head: HeadSpec | None, spec: FinetuneSpec) -> None:
    if isinstance(start, Classifier):
        given = {"head": head is not None, "downscale": spec.downscale > 1}
        unused = ", ".join(name for name, is_given in given.items() if is_given)
        if unused:
            raise OptionError(f"A classifier that is trained further stays what it is. Leave out: {unused}")
    elif head and (head.is_fitted or head.kind == "tail"):
        raise OptionError(f"The head {head.kind} is made from a cache. Train it there, and go on with --from")


def _network(
    dataset: Dataset, start: BaseSpec | Classifier, head: HeadSpec, spec: FinetuneSpec, seed: int
) -> Any:
    import keras

    classes = dataset.found_classes
    if isinstance(start, BaseSpec):
        base = load_base(start)
        keras.utils.set_random_seed(seed)  # the head begins as one that is trained from a cache
        return build_network(base, head, len(classes), spec.downscale, multi_label=dataset.multi_label)
    if start.class_names != classes or start.multi_label != dataset.multi_label:
        raise OptionError(
            f"The classifier to go on from knows the classes {', '.join(start.class_names)}"
            f"{' (several per image)' if start.multi_label else ''}; {dataset.root} has {', '.join(classes)}"
            f"{' (several per image)' if dataset.multi_label else ''}"
        )
    keras.utils.set_random_seed(seed)
    return start.model


def trains_batch_norm(start: BaseSpec | Path | Classifier, spec: FinetuneSpec) -> bool:
    """Whether batch normalization of the base is trained, where that is left open too."""
    if spec.batch_norm is not None:
        return spec.batch_norm
    return isinstance(start, BaseSpec) and start.weights == "random"


def _rule(start: BaseSpec | Classifier, size: tuple[int, int], spec: FinetuneSpec) -> PixelRule:
    """How images become pixels: as before where a classifier is trained further, unless it is asked for."""
    if isinstance(start, Classifier) and not spec.full_decode:
        return start.pixels
    return pixel_rule(size, full_decode=spec.full_decode)


def _read(
    dataset: Dataset, decoder: Decoder, spec: FinetuneSpec, config: TrainConfig
) -> tuple[Images, dict[str, list[SampleRow]], TrainingData]:
    """The images as pixels, and which of them are trained and validated on."""
    samples = [sample for sample in dataset.samples if sample.split != "test"]
    images = Images([dataset.locate(sample) for sample in samples], decoder)
    readable = [place for place in range(len(samples)) if place not in images.unreadable]
    if not readable:
        raise DataError(f"Not one of {len(samples)} images of {dataset.root} could be read")
    rows = [
        SampleRow(sample.path, dataset.names_of(sample), sample.split, sample.group, images.digests[place])
        for place, sample in enumerate(samples)
        if place not in images.unreadable
    ]
    own, val = divide(rows, config, str(dataset.root))
    labels = label_array(rows, dataset.found_classes, multi_label=dataset.multi_label)
    require_every_class(labels[own], dataset.found_classes)
    recipe = None if spec.augment == "none" else Recipe.parse(spec.augment)
    places, balanced = np.array(readable), config.sampling == "balanced"
    own_feed = ImageFeed(
        images, places[own], labels[own], config.batch_size, config.seed, recipe, balanced=balanced
    )
    require_areas(labels[val])
    val_feed = ImageFeed(images, places[val], labels[val], _VAL_BATCH) if val else None
    used = {"train": [rows[place] for place in own], "val": [rows[place] for place in val]}
    classes = dataset.found_classes
    return images, used, TrainingData(own_feed, val_feed, labels[own], len(own), classes, labels[val])


def _about(rule: PixelRule, data: TrainingData, spec: FinetuneSpec, config: TrainConfig) -> dict[str, Any]:
    """What makes a checkpoint a classifier; thresholds are chosen for the finished one alone."""
    thresholds = [DEFAULT] * len(data.class_names) if data.multi_label else None
    known = {"class_names": data.class_names, "thresholds": thresholds, "pixels": asdict(rule)}
    return {"classifier": {**known, "finetuning": asdict(spec), "training": asdict(config)}}


def _describe(
    trainee: Any, images: Images, data: TrainingData, spec: FinetuneSpec, config: TrainConfig
) -> dict[str, Any]:
    """What decides the result: two of equal description end with the same network."""
    val_labels = [] if data.val_labels is None else data.val_labels.tolist()
    return {
        "training": asdict(config),
        "finetuning": asdict(spec),
        "pixels": asdict(images.rule),
        "network": graph.architecture_digest(trainee, trained=True),
        "weights": graph.weights_digest(trainee),
        "classes": files.json_digest(data.class_names),
        "images": files.json_digest([images.digests, data.labels.tolist(), val_labels]),
    }


def _base_layers(model: Any) -> list[Any]:
    """All layers but those of the head, which computes in float32."""
    return [layer for layer in model.layers if not layer.name.startswith(HEAD_PREFIX)]


def _precision(asked: str) -> str:
    if asked != "auto":
        return asked
    capabilities = gpus()
    return "mixed_float16" if capabilities and min(capabilities) >= _TENSOR_CORES else "float32"


class KerasPasses:
    """Keras's own training and evaluation: they serve several GPUs, and scale the loss for float16."""

    def train(self, model: Any, feed: ImageFeed, listen: StepListener | None) -> EpochRunner:
        """See `Passes`."""
        watcher = _watcher(feed, is_noting=listen is not None)

        def run(epoch: int) -> tuple[Row, int]:
            batches = feed.batches(epoch, _devices())
            found = model.fit(batches, shuffle=False, verbose=0, callbacks=[watcher]).history
            if listen:
                listen(epoch, np.array(watcher.seen, np.float32))
            return {name: float(values[0]) for name, values in found.items()}, watcher.finite

        return run

    def test(self, model: Any, feed: ImageFeed) -> Callable[[], Row]:
        """See `Passes`."""

        def run() -> Row:
            batches = feed.batches(1, _devices())
            found = model.evaluate(batches, verbose=0, callbacks=[_gate()], return_dict=True)
            return {name: float(value) for name, value in found.items() if not np.ndim(value)}

        return run


def _devices() -> int:
    """How many divide a batch; one without an image has no mean for its batch normalization."""
    import tensorflow as tf

    return int(tf.distribute.get_strategy().num_replicas_in_sync)


def _gate() -> Any:
    """A callback that lets a held Ctrl-C through between two batches of a validation."""
    import keras

    return keras.callbacks.LambdaCallback(on_test_batch_end=lambda batch, logs: interrupts.let_through())


def _watcher(feed: ImageFeed, *, is_noting: bool) -> Any:
    """A callback that ends an epoch where the loss is no number, and notes each step if that is wanted."""
    import keras

    class Watcher(keras.callbacks.Callback):
        """Has the number of finite steps, and loss and learning rate of each."""

        def on_train_begin(self, logs: Any = None) -> None:
            self.finite = 0
            self.seen: list[tuple[float, float]] = []
            self._images, self._sum = 0, 0.0

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            self._rate = float(self.model.optimizer.learning_rate) if is_noting else 0.0

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            interrupts.let_through()
            mean = float(logs["loss"])  # over the epoch so far
            if not math.isfinite(mean):
                self.model.stop_training = True
                return
            self.finite += 1
            images = min(feed.batch_size, feed.images - self._images)
            before, self._sum = self._sum, mean * (self._images + images)
            self._images += images
            self.seen.append(((self._sum - before) / images, self._rate))

    return Watcher()

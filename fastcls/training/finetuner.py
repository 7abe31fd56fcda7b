"""Train a network on images: the base itself, or its head alone for comparison with a cache."""

from __future__ import annotations

import contextlib
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import fastcls
from fastcls.backend import computing_in
from fastcls.cache.samples import SampleRow
from fastcls.data.dataset import Dataset
from fastcls.data.decoder import Decoder, affordable_pixels, pixel_rule
from fastcls.engines.devices import TENSOR_CORES, gpus
from fastcls.files import PathLike, as_path
from fastcls.graph import HEAD_PREFIX
from fastcls.inference.classifier import Classifier
from fastcls.machine import cores
from fastcls.specs import (
    BaseSpec,
    FinetuneSpec,
    HeadSpec,
    PixelRule,
    Recipe,
    TrainConfig,
    check_at_least,
)
from fastcls.specs.options import as_spec
from fastcls.tasks import ONE_LABEL, Task
from fastcls.training.identity import network_identity
from fastcls.training.loop.checkpoints import Checkpoints
from fastcls.training.loop.compile import TrainingData, compile_and_fit
from fastcls.training.loop.objectives import OBJECTIVES
from fastcls.training.loop.passes import KerasPasses
from fastcls.training.loop.pruning import Pruner, count_zeros
from fastcls.training.loop.snapshots import Row
from fastcls.training.networks import Networks, networks_of, prunable
from fastcls.training.rows.images import ImageFeed, Images, read_images
from fastcls.training.rows.selection import assign_uses
from fastcls.used_images import TRAIN, UNKNOWN, VAL, UsedImages
from fastcls.wording import count_of

_VAL_BATCH = 32


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
        used: The images that had a part in it.
        task: What is asked of an image.
        pruned: How many "weights" each kernel has that was pruned, and how many of these are "zeros", by the
            names of their layers.
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
    task: Task = ONE_LABEL
    used: UsedImages = field(default=UNKNOWN, compare=False)
    pruned: dict[str, dict[str, int]] = field(default_factory=dict)

    def __repr__(self) -> str:
        best = ", ".join(f"{name} {value:.6g}" for name, value in self.best.items())
        return f"<FinetunedNetwork: {count_of(len(self.class_names), 'class')}, {best}>"

    @property
    def classifier(self) -> Classifier:
        """The network as a classifier, to predict with, to test and to save."""
        provenance = {
            "fastcls": fastcls.__version__,
            "training": asdict(self.config),
            "figures": self.best,
            "train_count": self.train_count,
            "val_count": self.val_count,
            **({"pruned": self.pruned} if self.pruned else {}),
        }
        known = self.pixels, provenance, self.thresholds, self.task
        return Classifier(self.model, self.class_names, *known, used=self.used)


def finetune(
    dataset: Dataset | PathLike,
    start: BaseSpec | Classifier | PathLike,
    spec: FinetuneSpec | None = None,
    config: TrainConfig | None = None,
    *,
    head: HeadSpec | str | None = None,
    folder: PathLike | None = None,
    max_pixels: int | None = None,
    progress: bool = False,
) -> FinetunedNetwork:
    """Train a network on the images of a data set, but those of its test part.

    On a CPU the same seed gives the same network. Sets the global random seeds of Python, NumPy and
    TensorFlow. Several GPUs share each batch (`tf.distribute.MirroredStrategy`).

    Args:
        dataset: The images, or their path as `Dataset.open` takes it.
        start: A base, or its name, or a classifier to train further.
        spec: What of it is trained, and how images come.
        config: How it is trained.
        head: What to put on a base, or the name of its kind; a softmax layer by default.
        folder: Where logs and checkpoints go; a training that was interrupted there goes on.
        max_pixels: Images of more pixels, when they are decoded, are left out; None for as many as the memory
            allows each decoding thread.
        progress: Show a bar on stderr.

    Raises:
        OptionError: Base, head or part to train do not fit, the classifier has other classes, or another
            training was interrupted in `folder`.
        DataError: A class has no readable image to train on, or there is no validation part.
    """
    dataset, place = Dataset.of(dataset), None if folder is None else as_path(folder, "folder")
    begun = start if isinstance(start, Classifier) else as_spec(BaseSpec, start, "start", named=True)
    spec, config = as_spec(FinetuneSpec, spec, "spec"), as_spec(TrainConfig, config, "config")
    if max_pixels is not None:
        check_at_least("max_pixels", max_pixels, 1)
    own = None if head is None else as_spec(HeadSpec, head, "head", named=True)
    dataset.warn_of_conflicts()
    asked = prepare_finetuning(dataset, begun, spec, config, head=own, max_pixels=max_pixels)
    return finetune_prepared(asked, place, progress=progress)


@dataclass(frozen=True)
class Finetuning:
    """A training of a network before its first step: what decides the result is known.

    Attributes:
        networks: The network.
        images: The images as pixels.
        used: The images that have a part in it, with those of the classifier to go on from.
        data: What to train on.
        spec: What of it is trained.
        config: How it is trained.
        identity: What decides the result, JSON-able.
    """

    networks: Networks
    images: Images
    used: UsedImages
    data: TrainingData
    spec: FinetuneSpec
    config: TrainConfig
    identity: dict[str, Any]

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
    networks: Networks | None = None,
    is_warned: bool = False,
) -> Finetuning:
    """Do all of `finetune` that comes before the first step.

    Args:
        dataset: The images.
        start: See `finetune`, as for all that follow.
        spec: What of it is trained.
        config: How it is trained.
        head: What to put on a base.
        max_pixels: Of the largest image.
        networks: What `networks_of` has made of these; None to make it here.
        is_warned: Whether it was said that the classifier has seen images to validate on.
    """
    spec, config = spec or FinetuneSpec(), config or TrainConfig()
    networks = networks or networks_of(dataset, start, spec, config, head)
    with networks.strategy.scope():
        rule = _rule(start, networks, spec)
        decoder = Decoder(rule, max_pixels or affordable_pixels(cores()))
        images, rows, data = _read(dataset, decoder, spec, config)
        identity = network_identity(networks.trainee, images, data, spec, config)
    earlier = start.known_images() if isinstance(start, Classifier) else UsedImages()
    if not is_warned:
        earlier.warn_of([row.digest for row in rows[VAL]])
    used = earlier.go_on(rows)
    return Finetuning(networks, images, used, data, spec, config, identity)


def finetune_prepared(
    asked: Finetuning, folder: Path | None = None, *, progress: bool = False
) -> FinetunedNetwork:
    """Do all of `finetune` from the first step on."""
    model, trainee = asked.networks.model, asked.networks.trainee
    data, config = asked.data, asked.config
    with asked.networks.strategy.scope():
        checkpoints = Checkpoints(
            folder,
            config.checkpoints,
            asked.identity,
            _about(asked.images.rule, data, asked.spec, config),
            data.task.monitor,
        )
        kernels = prunable(trainee) if asked.spec.sparsity else {}
        steps = math.ceil(data.images / config.batch_size) * config.epochs
        pruner = Pruner(kernels, asked.spec.sparsity, steps) if asked.spec.sparsity else None
        # The policy of the model itself makes Keras scale the loss for float16.
        precision = _precision(asked.spec.mixed_precision)
        mixed = [trainee, *_base_layers(trainee)] if precision != "float32" else []
        with computing_in(precision, mixed), pruner.applied() if pruner else contextlib.nullcontext():
            passes = KerasPasses(progress=progress, pruner=pruner)
            history, best = compile_and_fit(
                trainee, data, config, checkpoints, passes=passes, progress=progress
            )
    find_thresholds = OBJECTIVES[data.task].find_thresholds
    return FinetunedNetwork(
        model,
        config,
        asked.images.rule,
        data.class_names,
        tuple(history),
        best,
        data.images,
        data.val_images,
        find_thresholds(model, lambda: data.val, config.threshold, data.class_names),
        asked.unreadable,
        data.task,
        asked.used,
        count_zeros(kernels),
    )


def _rule(start: BaseSpec | Classifier, networks: Networks, spec: FinetuneSpec) -> PixelRule:
    """How images become pixels: as before where a classifier is trained further, unless it is asked for."""
    size = tuple(networks.model.inputs[0].shape[1:3])
    asked = pixel_rule(
        size, full_decode=spec.full_decode, resize=spec.resize or "stretch", crop=networks.crop
    )
    if not isinstance(start, Classifier):
        return asked
    decode = asked.decode if spec.full_decode else start.pixels.decode
    keeps = spec.resize in (None, Decoder(start.pixels).resizing.kind)
    return PixelRule(size, decode, start.pixels.resize if keeps else asked.resize)


def _read(
    dataset: Dataset, decoder: Decoder, spec: FinetuneSpec, config: TrainConfig
) -> tuple[Images, dict[str, list[SampleRow]], TrainingData]:
    """The images as pixels, and which of them are trained and validated on."""
    images, places, rows = read_images(dataset, decoder)
    task, classes = dataset.task, dataset.found_classes
    own, val, labels = assign_uses(rows, classes, config, str(dataset.root), task)
    recipe = None if spec.augment == "none" else Recipe.parse(spec.augment)
    balanced = config.sampling == "balanced"
    own_feed = ImageFeed(
        images, places[own], labels[own], config.batch_size, config.seed, recipe, task=task, balanced=balanced
    )
    val_feed = ImageFeed(images, places[val], labels[val], _VAL_BATCH, task=task) if val else None
    used = {TRAIN: [rows[place] for place in own], VAL: [rows[place] for place in val]}
    return images, used, TrainingData(own_feed, val_feed, labels[own], len(own), classes, labels[val])


def _about(rule: PixelRule, data: TrainingData, spec: FinetuneSpec, config: TrainConfig) -> dict[str, Any]:
    """What makes a checkpoint a classifier; thresholds are chosen for the finished one alone."""
    known = {
        "class_names": data.class_names,
        "task": data.task.name,
        "thresholds": data.task.default_thresholds(len(data.class_names)),
        "pixels": asdict(rule),
    }
    return {"classifier": {**known, "finetuning": asdict(spec), "training": asdict(config)}}


def _base_layers(model: Any) -> list[Any]:
    """All layers but those of the head, which computes in float32."""
    return [layer for layer in model.layers if not layer.name.startswith(HEAD_PREFIX)]


def _precision(asked: str) -> str:
    if asked != "auto":
        return asked
    capabilities = gpus()
    return "mixed_float16" if capabilities and min(capabilities) >= TENSOR_CORES else "float32"

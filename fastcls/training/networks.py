"""Whole networks to train on images: base and head in one graph, and which layers of it are trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from fastcls import graph
from fastcls.backend import import_keras
from fastcls.bases.loader import Base, load_base
from fastcls.cutter import bottleneck_model, cut
from fastcls.data.dataset import Dataset
from fastcls.errors import OptionError, closest
from fastcls.graph import HEAD_PREFIX
from fastcls.inference.classifier import Classifier
from fastcls.inference.stitcher import stitch
from fastcls.specs import (
    AUTO,
    BaseSpec,
    FinetuneSpec,
    HeadSpec,
    TrainConfig,
    check_labels,
    further_head,
    no_effect,
)
from fastcls.tasks import ONE_LABEL, Task
from fastcls.training.heads.network import build_head, is_batch_norm
from fastcls.training.loop.passes import devices
from fastcls.wording import count_of, told_apart

_Load = Callable[[BaseSpec], tuple[Base, bool]]
_FRONT = "downscale"
_NOISE = (
    *("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "AlphaDropout"),
    *("GaussianDropout", "GaussianNoise"),
)


@dataclass(frozen=True)
class Networks:
    """A network before its first step.

    Attributes:
        model: RGB uint8 image (B, H, W, 3) -> probabilities (B, C).
        trainee: The same layers as a model to train.
        strategy: How several GPUs divide the work.
        is_whole: Whether it has the weights that were asked for, not random ones in place of a download.
        crop: See `Base`.
    """

    model: Any
    trainee: Any
    strategy: Any
    is_whole: bool = True
    crop: Fraction = Fraction(1)


def _load(spec: BaseSpec) -> tuple[Base, bool]:
    return load_base(spec), True


def networks_of(
    dataset: Dataset,
    start: BaseSpec | Classifier,
    spec: FinetuneSpec,
    config: TrainConfig,
    head: HeadSpec | None = None,
    *,
    load: _Load = _load,
) -> Networks:
    """The network before its first step.

    Args:
        dataset: The images.
        start: See `finetune`, as for all that follow.
        spec: What of it is trained.
        config: How it is trained.
        head: What to put on a base.
        load: Loads the base; `load_without_download` to look at the network alone.

    Raises:
        OptionError: As in `finetune`.
    """
    import_keras()
    _require_trainable(start, head, spec)
    head = softmax_head(head)
    check_labels(head, config, dataset.task)
    strategy = _strategy()
    with strategy.scope():
        _require_equal_shares(config)
        model, is_whole, crop = _network(dataset, start, head, spec, config.seed, load)
        trainee = trainee_of(model, spec, batch_norm=trains_batch_norm(start, spec))
        if spec.sparsity and not prunable(trainee):
            raise OptionError(
                "--sparsity prunes trained layers of the base, but not its first kernel and depthwise ones: "
                f"there are no others. Received: --train '{spec.train}'"
            )
    return Networks(model, trainee, strategy, is_whole, crop)


def softmax_head(head: HeadSpec | None) -> HeadSpec:
    """What is put on a base: images are trained on in epochs, and so `auto` stands for a softmax layer."""
    head = head or HeadSpec()
    return replace(head, kind="linear") if head.kind == AUTO else head


def _require_trainable(start: BaseSpec | Classifier, head: HeadSpec | None, spec: FinetuneSpec) -> None:
    if isinstance(start, Classifier):
        given = {"head": head is not None, "downscale": spec.downscale > 1}
        unused = [name for name, is_given in given.items() if is_given]
        if unused:
            raise OptionError(no_effect(unused, "a classifier that is trained further"))
        if made_of := start.provenance.get("head"):  # one that was finetuned before has none
            further_head(HeadSpec(made_of["kind"]))
    elif head and (head.is_fitted or head.traits.needs_tail):
        raise OptionError(
            f"--head {head.kind} is trained on a cache: use `fastcls train-head`, then start from that run"
        )
    elif head and head.prompts is not None:
        raise OptionError(
            "--prompts starts a head on a cache: use `fastcls train-head`, then start from that run"
        )


def _network(
    dataset: Dataset, start: BaseSpec | Classifier, head: HeadSpec, spec: FinetuneSpec, seed: int, load: _Load
) -> tuple[Any, bool, Fraction]:
    """The model, whether it has the weights that were asked for, and `Base.crop`."""
    import keras

    classes = dataset.found_classes
    if isinstance(start, BaseSpec):
        base, is_whole = load(start)
        keras.utils.set_random_seed(seed)  # the head begins as one that is trained from a cache
        model = build_network(base, head, len(classes), spec.downscale, task=dataset.task)
        return model, is_whole, base.crop
    if start.task is not dataset.task:
        raise OptionError(
            f"The classifier to start from predicts {start.task} per image, {dataset.given} has "
            f"{dataset.task}"
        )
    if start.class_names != classes:
        raise OptionError(
            "The classifier to start from has the classes "
            f"{told_apart(start.class_names, classes, str(dataset.given))}"
        )
    keras.utils.set_random_seed(seed)
    return start.model, True, Fraction(1)


def trains_batch_norm(start: BaseSpec | Classifier, spec: FinetuneSpec) -> bool:
    """Whether batch normalization of the base is trained, where that is left open too."""
    if spec.train_batch_norm is not None:
        return spec.train_batch_norm
    return isinstance(start, BaseSpec) and start.weights == "random"


def _require_equal_shares(config: TrainConfig) -> None:
    if config.batch_size % devices():  # Keras cannot begin with shares that differ
        raise OptionError(
            f"The batch size must be a multiple of the {devices()} GPUs that share each batch. "
            f"Received: {config.batch_size}"
        )


def _strategy() -> Any:
    import tensorflow as tf

    several = len(tf.config.list_logical_devices("GPU")) > 1
    return tf.distribute.MirroredStrategy() if several else tf.distribute.get_strategy()


def build_network(
    base: Base, head: HeadSpec, classes: int, downscale: int = 1, *, task: Task = ONE_LABEL
) -> Any:
    """Join a base, up to its pooled output before the classifier, and a head.

    Args:
        base: The base.
        head: What to put on it.
        classes: Number of classes.
        downscale: See `FinetuneSpec`.
        task: What is asked of an image.

    Returns:
        Keras model, RGB uint8 image (B, H, W, 3) -> probabilities (B, C).
    """
    trunk = bottleneck_model(cut(_with_front(base, downscale) if downscale > 1 else base))
    shape = tuple(trunk.outputs[0].shape[1:])
    return stitch(trunk, build_head(head, shape, classes, task=task))


def trainee_of(model: Any, spec: FinetuneSpec, *, batch_norm: bool) -> Any:
    """The same layers as a model to train: what is not trained runs as in inference.

    Args:
        model: A classifier, RGB uint8 image (B, H, W, 3) -> probabilities (B, C). Its layers are marked as
            trained or not.
        spec: What to train.
        batch_norm: Whether batch normalization of the base is trained; that of the head always is.

    Raises:
        OptionError: There is no such layer, or there are fewer.
    """
    import keras

    operations = graph.operations(model)
    base = [operation for operation in operations if not _is_outside(operation)]
    trained = {id(operation) for operation in base[_first(base, spec.train) :]}
    trained |= {id(operation) for operation in operations if operation.name.startswith(HEAD_PREFIX)}
    trained |= {id(operation) for operation in operations if operation.name == _FRONT}
    for operation in operations:
        if isinstance(operation, keras.layers.Layer):
            is_head = operation.name.startswith(HEAD_PREFIX)
            kept = is_batch_norm(operation) and not batch_norm and not is_head
            operation.trainable = id(operation) in trained and not kept
    # Of no effect in inference. Keras runs it in training wherever it lies, but for batch normalization
    # that is not trained.
    noise = [op for op in operations if id(op) not in trained and type(op).__name__ in _NOISE]
    image = model.inputs[0]
    return keras.Model(image, graph.replay(model, image, leave_out=noise))


def prunable(trainee: Any) -> dict[str, Any]:
    """The kernels that pruning makes sparse, by the names of their layers.

    They are those of the trained layers of the base. As in Zhu and Gupta (2017), the first kernel and
    depthwise ones are left as they are: they have a few weights only, and each of these matters. So are the
    head, which begins with random weights, biases and normalization.
    """
    kernels = [
        (operation.name, variable)
        for operation in graph.operations(trainee)
        if not _is_outside(operation)
        for variable in getattr(operation, "weights", ())
        if variable.name in ("kernel", "pointwise_kernel")
    ]
    trained = {id(variable) for variable in trainee.trainable_variables}
    depthwise = {op.name for op in graph.operations(trainee) if "DepthwiseConv" in type(op).__name__}
    names = Counter(name for name, _ in kernels)
    return {
        name if names[name] == 1 else f"{name}/{variable.path.split('/')[-2]}": variable
        for name, variable in kernels[1:]
        if id(variable) in trained and name not in depthwise
    }


def _with_front(base: Base, times: int) -> Base:
    """A base after a strided convolution, which starts as the mean of times x times pixels."""
    import keras

    height, width = (side * times for side in base.size)
    front = keras.layers.Conv2D(3, times, strides=times, name=_FRONT)
    image = keras.Input((height, width, 3))
    model = keras.Model(image, graph.replay(base.model, front(image)))
    kernel = np.broadcast_to(np.eye(3) / times**2, (times, times, 3, 3))
    front.set_weights([kernel, np.zeros(3)])
    return replace(base, model=model, size=(height, width))


def _first(base: Sequence[Any], train: str) -> int:
    """Place of the first trained operation."""
    if train in ("all", "none"):
        return 0 if train == "all" else len(base)
    if train.isdecimal():
        weighted = [
            place
            for place, operation in enumerate(base)
            if getattr(operation, "weights", ()) and not is_batch_norm(operation)
        ]
        if int(train) > len(weighted):
            raise OptionError(
                f"The base has only {count_of(len(weighted), 'layer')} with weights. "
                f"Received: --train {train}"
            )
        return weighted[-int(train)]
    names = [operation.name for operation in base]
    layer = train.split()[1]
    if layer not in names:
        raise OptionError(f"There is no layer {layer!r} in the base. The closest are {closest(layer, names)}")
    return names.index(layer)


def _is_outside(operation: Any) -> bool:
    return operation.name.startswith((HEAD_PREFIX, "normalize_")) or operation.name == _FRONT

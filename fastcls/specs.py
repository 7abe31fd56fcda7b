"""What the user asked for: frozen dataclasses, each default written once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastcls.errors import OptionError

POOLS = ("avg", "max", "flatten", "none")
NAMED_WEIGHTS = ("imagenet", "random")
NORMALIZATIONS = ("tf", "torch", "caffe", "none")
DTYPES = ("float32", "float16")
# Those of keras.optimizers, and scikit-learn's lbfgs; what each takes besides a learning rate.
OPTIMIZERS = {
    "SGD": ("momentum", "clip_norm"),
    "Adam": ("clip_norm",),
    "AdamW": ("weight_decay", "clip_norm"),
    "RMSprop": ("momentum", "clip_norm"),
    "Adagrad": ("clip_norm",),
    "Adadelta": ("clip_norm",),
    "Adamax": ("clip_norm",),
    "Nadam": ("clip_norm",),
    "lbfgs": (),
}
# What each schedule takes besides warm-up epochs.
SCHEDULES = {
    "constant": (),
    "step": ("factor", "interval"),
    "exponential": ("factor", "interval"),
    "cosine": ("minimum",),
    "plateau": ("factor", "patience", "minimum"),
}
CLASS_WEIGHTS = ("none", "balanced", "log")
GRADIENT_ONLY = ("epochs", "batch_size", "learning_rate", "patience", "schedule", "loss")
ENGINES = ("auto", "tensorflow", "openvino")
PRECISIONS = ("auto", "float32", "bfloat16", "float16", "int8")


@dataclass(frozen=True)
class BaseSpec:
    """A base model and what it needs to see.

    Attributes:
        name: One that `fastcls bases` lists ("mobilenetv2"), a saved `.keras`, `.h5` or SavedModel,
            "module:function", a function that returns a Keras model, or "keras_hub:PRESET".
        weights: "imagenet", "random" (seeded; also called "none") or a weights file; None means
            "imagenet" for `keras.applications` and the model's own weights for files and functions.
        size: (height, width) in pixels; None for the base's own.
        normalize: How pixels 0-255 become the base's input: "tf" ([-1, 1]), "torch" (ImageNet mean and
            standard deviation), "caffe" (BGR, ImageNet mean subtracted), "none" (as they are), or a mean and
            a standard deviation as `parse_mean_std` reads them. None for the base's own, which must then
            be known.
        include_top: Keep the classifier of a base that `fastcls bases` lists, so that layers inside it
            (VGG's `fc2`) can be cut points.
    """

    name: str
    weights: str | None = None
    size: tuple[int, int] | None = None
    normalize: str | None = None
    include_top: bool = False

    def __post_init__(self) -> None:
        if self.weights == "none":  # what Keras calls None
            object.__setattr__(self, "weights", "random")
        check_normalize(self.normalize)
        if self.size is not None and min(self.size) < 1:
            raise OptionError(f"The size must be positive. Received: size={self.size}")


@dataclass(frozen=True)
class CutSpec:
    """Where a base is cut and how the bottleneck is kept.

    Attributes:
        base: The base, or its name.
        layer: Name of the cut layer; None for the pooled output before the classifier.
        pool: What becomes of a spatial cut: "avg" or "max" over the map, "flatten", or "none".
        dtype: Storage type of a bottleneck.
        precision: Type in which the trunk computes; "auto" for the fastest that this machine computes
            natively and that comes near enough to float32, never "int8".
    """

    base: BaseSpec
    layer: str | None = None
    pool: str = "avg"
    dtype: str = "float32"
    precision: str = "auto"

    def __post_init__(self) -> None:
        if isinstance(self.base, str):
            object.__setattr__(self, "base", BaseSpec(self.base))
        check_choice("pool", self.pool, POOLS)
        check_choice("dtype", self.dtype, DTYPES)
        check_choice("precision", self.precision, PRECISIONS)


@dataclass(frozen=True)
class SplitSpec:
    """How to divide the images of each class.

    Attributes:
        val: Fraction for validation; 0 for none.
        test: Fraction for the test; 0 for none. Train gets the rest.
        seed: Another seed, another division.
    """

    val: float = 0.2
    test: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.val >= 0 and self.test >= 0 and self.val + self.test < 1):
            raise OptionError(
                "The fractions for val and test must be 0 or more and leave something for train. "
                f"Received: val={self.val}, test={self.test}. Choose a sum below 1, such as 0.2 and 0.1."
            )

    @property
    def fractions(self) -> dict[str, float]:
        """The fractions of val and test, where they are wanted."""
        return {split: part for split, part in (("val", self.val), ("test", self.test)) if part}

    @property
    def wanted(self) -> tuple[str, ...]:
        """The splits that are to have images."""
        return ("train", *self.fractions)


@dataclass(frozen=True)
class ExtractConfig:
    """How the extraction runs; nothing here changes a bottleneck beyond float noise.

    Attributes:
        engine: What runs the trunk: "tensorflow", "openvino" (CPUs; an extra), or "auto" for the fastest
            of those that this machine has.
        workers: Worker processes; None for one per GPU, or on CPUs one per core as far as the memory
            allows; 0 runs in this process, without protection against crashes.
        batch_size: Images per forward pass; None for 8 on CPUs and 64 on GPUs.
        shard_size: Images per shard task: what a crash or a kill can cost at most.
        max_failures: Stop when more images than this cannot be read; None for no limit.
    """

    engine: str = "auto"
    workers: int | None = None
    batch_size: int | None = None
    shard_size: int = 512
    max_failures: int | None = None

    def __post_init__(self) -> None:
        check_choice("engine", self.engine, ENGINES)
        _check_at_least("workers", self.workers, 0)
        _check_at_least("batch_size", self.batch_size, 1)
        _check_at_least("shard_size", self.shard_size, 1)
        _check_at_least("max_failures", self.max_failures, 0)


@dataclass(frozen=True)
class HeadSpec:
    """The trainable part on top of the bottleneck.

    Attributes:
        layers: Hidden layers before the softmax: an int is a ReLU dense layer of that many units, a
            float below 1 a dropout of that rate.
        function: "file.py:function", which takes the bottleneck tensor and the number of classes and
            returns the tensor of class probabilities; it replaces `layers`.
    """

    layers: tuple[int | float, ...] = ()
    function: str | None = None

    def __post_init__(self) -> None:
        for value in self.layers:
            dropout = isinstance(value, float) and 0 < value < 1
            dense = isinstance(value, int) and value >= 1
            if not dropout and not dense:
                raise OptionError(
                    "A head layer is a number of units (1 or more) or a dropout rate between 0 and 1. "
                    f"Received: {value}. Example: 256,0.4"
                )
        if self.layers and self.function:
            raise OptionError("Give the head either as layers or as a function, not both.")


@dataclass(frozen=True)
class OptimizerSpec:
    """What minimizes the loss.

    Attributes:
        name: One of `keras.optimizers` by its name there ("AdamW"), in letters of any case, or "lbfgs":
            logistic regression with the regularization that the validation rows choose, for a head of
            one softmax layer.
        momentum: Share of the last step in the next one; None for Keras's default. Of SGD and RMSprop.
        weight_decay: Share of each weight, times the learning rate, that a step takes away; None for
            Keras's default. Of AdamW.
        clip_norm: Gradients whose norm over all weights is larger are scaled down to it; None for never.
    """

    name: str = "Adam"
    momentum: float | None = None
    weight_decay: float | None = None
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        named = {name.lower(): name for name in OPTIMIZERS}.get(self.name.lower(), self.name)
        object.__setattr__(self, "name", named)
        check_choice("optimizer", self.name, tuple(OPTIMIZERS))
        self._refuse_without_effect()
        if self.momentum is not None and not 0 <= self.momentum < 1:
            raise OptionError(f"The momentum must be 0 or more and below 1. Received: {self.momentum}")
        if self.weight_decay is not None and not 0 <= self.weight_decay < math.inf:
            raise OptionError(f"The weight decay must be 0 or more. Received: {self.weight_decay}")
        if self.clip_norm is not None and not 0 < self.clip_norm < math.inf:
            raise OptionError(f"The norm to clip gradients to must be positive. Received: {self.clip_norm}")

    def _refuse_without_effect(self) -> None:
        for option in ("momentum", "weight_decay", "clip_norm"):
            if getattr(self, option) is not None and option not in OPTIMIZERS[self.name]:
                takers = ", ".join(name for name, options in OPTIMIZERS.items() if option in options)
                raise OptionError(
                    f"No effect with the optimizer {self.name}: {option}. Leave it out, or choose one of: "
                    f"{takers}"
                )


@dataclass(frozen=True)
class ScheduleSpec:
    """How the learning rate changes while a head is trained.

    Attributes:
        kind: "constant"; "step" or "exponential", times `factor` per `interval`, at its end or bit by
            bit; "cosine", half a wave down to `minimum` at the end of the last epoch; "plateau", times
            `factor` after `patience` epochs without a better validation loss.
        warmup: Epochs in which the rate first rises, by the same amount with each step.
        factor: Above 0 and below 1.
        interval: Epochs.
        patience: Epochs.
        minimum: No rate is lower, but for those of the warm-up.
    """

    kind: str = "constant"
    warmup: int = 0
    factor: float = 0.1
    interval: int = 10
    patience: int = 5
    minimum: float = 0.0

    def __post_init__(self) -> None:
        check_choice("schedule", self.kind, tuple(SCHEDULES))
        self._refuse_without_effect()
        _check_at_least("warmup", self.warmup, 0)
        _check_at_least("interval", self.interval, 1)
        _check_at_least("the patience of a schedule", self.patience, 1)
        if not 0 < self.factor < 1:
            raise OptionError(f"The rate's factor must be above 0 and below 1. Received: {self.factor}")

    def _refuse_without_effect(self) -> None:
        options = ("factor", "interval", "patience", "minimum")
        given = [name for name in options if getattr(self, name) != getattr(type(self), name)]
        unused = [name for name in given if name not in SCHEDULES[self.kind]]
        if unused:
            raise OptionError(f"No effect with the schedule {self.kind}: {', '.join(unused)}. Leave them out")


@dataclass(frozen=True)
class LossSpec:
    """What makes the loss that is minimized another than the mean categorical cross-entropy.

    The figures of validation are always of the plain cross-entropy.

    Attributes:
        label_smoothing: Share of each target that is spread evenly over all classes.
        l2: Times the sum of the squares of the head's kernels (biases are free) it is added to the loss.
        class_weight: What an image counts by its class, of n_c of N images of C classes: "none" for 1,
            "balanced" for N / (C n_c), "log" for max(1, ln(0.15 N / n_c)).
    """

    label_smoothing: float = 0.0
    l2: float = 0.0
    class_weight: str = "none"

    def __post_init__(self) -> None:
        check_choice("class_weight", self.class_weight, CLASS_WEIGHTS)
        if not 0 <= self.label_smoothing < 1:
            raise OptionError(
                f"The label smoothing must be 0 or more and below 1. Received: {self.label_smoothing}"
            )
        if not 0 <= self.l2 < math.inf:
            raise OptionError(f"The factor of l2 must be 0 or more. Received: {self.l2}")


@dataclass(frozen=True)
class TrainConfig:
    """How the head is trained on categorical cross-entropy.

    Attributes:
        optimizer: The optimizer, or its name. Epochs, batch size, learning rate and patience have no
            effect on lbfgs and must keep their defaults with it.
        epochs: At most this many passes over the training rows.
        batch_size: Rows per step.
        learning_rate: Step size of the optimizer.
        schedule: How the learning rate changes, or the kind of change.
        loss: What is added to the cross-entropy.
        patience: Stop after this many epochs without a better validation loss; 0 never stops early.
        seed: Decides initial weights, order of rows and dropout.
        val: Share of the training rows to validate on instead of the cache's own validation part; 0
            trains without validation and keeps the last epoch.
        allow_partial: Train although some images have no bottleneck yet.
        allow_stale: Train although some image files have changed since their extraction.
    """

    optimizer: OptimizerSpec = field(default_factory=OptimizerSpec)
    epochs: int = 50
    batch_size: int = 32
    learning_rate: float = 1e-3
    schedule: ScheduleSpec = field(default_factory=ScheduleSpec)
    loss: LossSpec = field(default_factory=LossSpec)
    patience: int = 10
    seed: int = 0
    val: float | None = None
    allow_partial: bool = False
    allow_stale: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.optimizer, str):
            object.__setattr__(self, "optimizer", OptimizerSpec(self.optimizer))
        if isinstance(self.schedule, str):
            object.__setattr__(self, "schedule", ScheduleSpec(self.schedule))
        _check_at_least("epochs", self.epochs, 1)
        _check_at_least("batch_size", self.batch_size, 1)
        _check_at_least("patience", self.patience, 0)
        _check_at_least("seed", self.seed, 0)
        if not 0 < self.learning_rate < math.inf:
            raise OptionError(f"The learning rate must be positive. Received: {self.learning_rate}")
        if self.val is not None and not 0 <= self.val < 1:
            raise OptionError(
                f"val is a share of the training rows, 0 or more and below 1. Received: {self.val}"
            )
        if self.optimizer.name == "lbfgs":
            self._check_lbfgs()
        self._check_schedule()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """From what `dataclasses.asdict` made of one."""
        known = dict(values)
        if "solver" in known:  # as earlier runs call it
            known["optimizer"] = {"name": known.pop("solver")}
        known["optimizer"] = OptimizerSpec(**known["optimizer"])
        known["schedule"] = ScheduleSpec(**known.get("schedule", {}))
        known["loss"] = LossSpec(**known.get("loss", {}))
        return cls(**known)

    def _check_schedule(self) -> None:
        spec = self.schedule
        if spec.warmup >= self.epochs:
            raise OptionError(f"{spec.warmup} epochs of warm-up leave none of {self.epochs} to train")
        if not 0 <= spec.minimum < self.learning_rate:
            raise OptionError(
                "The lowest learning rate must be 0 or more and below the first. "
                f"Received: {spec.minimum} and {self.learning_rate}"
            )
        if spec.kind == "plateau" and self.val == 0:
            raise OptionError(
                "The schedule plateau watches validation rows. Received: val=0. Choose another --schedule"
            )
        if spec.kind == "plateau" and 0 < self.patience <= spec.patience:
            raise OptionError(
                f"The training ends after {self.patience} epochs without a better validation loss, before "
                f"the rate is lowered after {spec.patience}. Give a shorter --rate-patience or a longer "
                "--patience"
            )

    def _check_lbfgs(self) -> None:
        plain = TrainConfig()
        given = [name for name in GRADIENT_ONLY if getattr(self, name) != getattr(plain, name)]
        if given:
            raise OptionError(f"No effect with the optimizer lbfgs: {', '.join(given)}. Leave them out")
        if self.val == 0:
            raise OptionError(
                "The optimizer lbfgs chooses its regularization on validation rows. Received: val=0. Give a "
                "share of the rows, such as --val 0.2, or use --optimizer adam"
            )


def check_choice(option: str, value: str | None, choices: tuple[str | None, ...]) -> None:
    """Raise OptionError for a value that is none of the choices."""
    if value not in choices:
        named = ", ".join(choice for choice in choices if choice)
        raise OptionError(f"Unknown {option}: {value!r}. Choose one of: {named}")


def check_normalize(kind: str | None) -> None:
    """Raise OptionError for a normalization that is neither a name nor a mean and a standard deviation."""
    if kind is not None and kind not in NORMALIZATIONS:
        parse_mean_std(kind)


def parse_mean_std(text: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Read "MEAN,STD", for all channels, or "R,G,B,R,G,B", three means and three standard deviations.

    They are of pixels 0..1, or of pixels 0..255 if any of them is above 1.

    Returns:
        Mean and standard deviation of pixels 0..255, each of one or of three numbers.

    Raises:
        OptionError: The text is something else, or a standard deviation is not positive.

    >>> parse_mean_std("127.5,128")
    ((127.5,), (128.0,))
    >>> parse_mean_std("0.5,0.4,0.3,0.2,0.2,0.2")
    ((127.5, 102.0, 76.5), (51.0, 51.0, 51.0))
    """
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    half = len(numbers) // 2
    if len(numbers) not in (2, 6) or not all(map(math.isfinite, numbers)) or min(numbers[half:]) <= 0:
        raise OptionError(
            f"Unknown normalize: {text!r}. Choose one of: {', '.join(NORMALIZATIONS)}; or give a mean and a "
            "positive standard deviation, such as 0.5,0.5 or 0.485,0.456,0.406,0.229,0.224,0.225"
        )
    scale = 1 if max(map(abs, numbers)) > 1 else 255
    scaled = tuple(number * scale for number in numbers)
    return scaled[:half], scaled[half:]


def _check_at_least(option: str, value: int | None, least: int) -> None:
    if value is not None and value < least:
        raise OptionError(f"{option} must be {least} or more. Received: {value}")

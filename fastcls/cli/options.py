"""Option groups that several commands share, and how their values are read."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click
from click.core import ParameterSource

from fastcls.specs import (
    CLASS_WEIGHTS,
    DTYPES,
    ENGINES,
    GRADIENT_ONLY,
    NORMALIZATIONS,
    OPTIMIZERS,
    POOLS,
    PRECISIONS,
    SCHEDULES,
    BaseSpec,
    CutSpec,
    ExtractConfig,
    HeadSpec,
    LossSpec,
    OptimizerSpec,
    ScheduleSpec,
    SplitSpec,
    TrainConfig,
)

Command = Callable[..., Any]
_OPTIMIZER = ("momentum", "weight_decay", "clip_norm")
_LOSS = ("label_smoothing", "l2", "class_weight")
_RATE = ("factor", "interval", "patience", "minimum")


class ImageSize(click.ParamType):
    """`224` or `240x320` (height x width) -> (height, width)."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse the text."""
        if isinstance(value, tuple):
            return value
        sides = str(value).lower().split("x")
        if len(sides) > 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
            self.fail(f"{value!r} is not a size: expected pixels such as 224, or HEIGHTxWIDTH", param, ctx)
        return int(sides[0]), int(sides[-1])


class HeadLayers(click.ParamType):
    """`256,0.4` -> (256, 0.4): dense units are whole numbers, dropout rates have a point."""

    name = "layers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse the text."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(part) if "." in part else int(part) for part in str(value).split(",") if part)
        except ValueError:
            self.fail(f"{value!r} is not a list of units and dropout rates such as 256,0.4", param, ctx)


def base_options(command: Command) -> Command:
    """Which base, with which weights, seen how."""
    return _apply(
        command,
        click.option(
            "--base",
            required=True,
            help="A name that `fastcls bases` lists, a .keras, .h5 or SavedModel file, or module:function.",
        ),
        base_details,
    )


def base_details(command: Command) -> Command:
    """The options of a base that is named elsewhere."""
    return _apply(
        command,
        click.option(
            "--weights",
            metavar="imagenet|random|PATH",
            help="Weights of the base. [default: imagenet for keras.applications, else its own]",
        ),
        click.option(
            "--size",
            type=ImageSize(),
            metavar="N|HxW",
            help="Image size in pixels. [default: the base's own]",
        ),
        click.option(
            "--normalize",
            metavar="|".join((*NORMALIZATIONS, "MEAN,STD")),
            help="What the base expects of pixels. Mean and standard deviation are of pixels 0..1 (0.5,0.5) "
            "or 0..255 (127.5,128), one each or three each. [default: the base's own]",
        ),
        click.option(
            "--include-top", is_flag=True, help="Keep the classifier of a listed base, to cut inside it."
        ),
    )


def cut_options(command: Command) -> Command:
    """Where the base is cut and how a bottleneck is kept."""
    return _apply(
        command,
        click.option(
            "--cut",
            "layer",
            metavar="LAYER",
            help="Layer to cut at (`fastcls layers BASE` lists them). [default: before the classifier]",
        ),
        click.option(
            "--pool",
            type=click.Choice(POOLS),
            default=CutSpec.pool,
            show_default=True,
            help="What becomes of a spatial bottleneck.",
        ),
        click.option(
            "--dtype",
            type=click.Choice(DTYPES),
            default=CutSpec.dtype,
            show_default=True,
            help="Storage type of a bottleneck.",
        ),
        click.option(
            "--precision",
            type=click.Choice(PRECISIONS),
            default=CutSpec.precision,
            show_default=True,
            help="Type in which the trunk computes; auto: the fastest that this machine computes natively "
            "and that comes near enough to float32. int8 needs the extra of that name.",
        ),
    )


def split_options(command: Command) -> Command:
    """How the images of each class are divided."""
    return _apply(
        command,
        click.option(
            "--val",
            type=float,
            default=SplitSpec.val,
            show_default=True,
            help="Fraction of each class for validation.",
        ),
        click.option(
            "--test",
            type=float,
            default=SplitSpec.test,
            show_default=True,
            help="Fraction of each class for the test.",
        ),
    )


def extract_options(command: Command) -> Command:
    """How the extraction runs."""
    return _apply(
        command,
        click.option(
            "--cache",
            "cache_root",
            type=click.Path(file_okay=False),
            default="bottlenecks",
            show_default=True,
            help="Folder of bottleneck caches.",
        ),
        click.option(
            "--engine",
            type=click.Choice(ENGINES),
            default=ExtractConfig.engine,
            show_default=True,
            help="What runs the trunk; auto: the fastest there is. openvino, for CPUs, needs the extra of "
            "that name.",
        ),
        click.option(
            "--workers",
            type=click.IntRange(1),
            help="Worker processes. [default: one per GPU, or per core as far as the memory allows]",
        ),
        click.option(
            "--batch-size",
            type=click.IntRange(1),
            help="Images per forward pass. [default: 8 on CPUs, 64 on GPUs]",
        ),
        click.option(
            "--shard-size",
            type=click.IntRange(1),
            default=ExtractConfig.shard_size,
            show_default=True,
            help="Images per shard: what a crash can cost at most.",
        ),
        click.option(
            "--max-failures",
            type=click.IntRange(0),
            help="Stop when more images than this cannot be read. [default: no limit]",
        ),
    )


def train_options(command: Command) -> Command:
    """What head is trained, and how."""
    return _apply(
        command,
        optimizer_options,
        click.option(
            "--layers",
            type=HeadLayers(),
            default=(),
            metavar="UNITS,RATE,...",
            help="Hidden layers of the head: dense units and dropout rates, such as 256,0.4. [default: none]",
        ),
        click.option(
            "--head", metavar="FILE.py:FUNCTION", help="A function (bottleneck, classes) -> probabilities."
        ),
        click.option(
            "--epochs",
            type=int,
            default=TrainConfig.epochs,
            show_default=True,
            help="At most so many epochs.",
        ),
        click.option(
            "--learning-rate",
            type=float,
            default=TrainConfig.learning_rate,
            show_default=True,
            help="Step size of the optimizer.",
        ),
        schedule_options,
        loss_options,
        click.option(
            "--patience",
            type=int,
            default=TrainConfig.patience,
            show_default=True,
            help="Stop after so many epochs without a lower validation loss; 0 never.",
        ),
        click.option(
            "--seed",
            type=int,
            default=TrainConfig.seed,
            show_default=True,
            help="Decides all that is random.",
        ),
    )


def optimizer_options(command: Command) -> Command:
    """What minimizes the loss."""
    return _apply(
        command,
        click.option(
            "--optimizer",
            "--solver",
            "optimizer",
            type=click.Choice(tuple(OPTIMIZERS), case_sensitive=False),
            metavar="|".join(OPTIMIZERS),
            default=OptimizerSpec.name,
            show_default=True,
            help="lbfgs: logistic regression, its regularization chosen on the validation images. It takes "
            "none of the options of the others and of other heads.",
        ),
        click.option(
            "--momentum", type=float, help="Share of the last step in the next one; of SGD and RMSprop."
        ),
        click.option("--weight-decay", type=float, help="Decay of the weights; of AdamW. [default: 0.004]"),
        click.option(
            "--clip-norm",
            type=float,
            help="Scale gradients down to this norm over all weights. [default: never]",
        ),
    )


def schedule_options(command: Command) -> Command:
    """How the learning rate changes."""
    return _apply(
        command,
        click.option(
            "--schedule",
            type=click.Choice(tuple(SCHEDULES)),
            default=ScheduleSpec.kind,
            show_default=True,
            help="How the learning rate changes. plateau: when the validation loss does not fall.",
        ),
        click.option(
            "--warmup",
            type=int,
            default=ScheduleSpec.warmup,
            show_default=True,
            help="Epochs in which the rate rises first.",
        ),
        click.option(
            "--rate-factor",
            type=float,
            default=ScheduleSpec.factor,
            show_default=True,
            help="What step, exponential and plateau multiply the rate by.",
        ),
        click.option(
            "--rate-interval",
            type=int,
            default=ScheduleSpec.interval,
            show_default=True,
            help="Epochs in which step (at once) and exponential (bit by bit) do so.",
        ),
        click.option(
            "--rate-patience",
            type=int,
            default=ScheduleSpec.patience,
            show_default=True,
            help="Epochs without a lower validation loss after which plateau does so.",
        ),
        click.option(
            "--rate-minimum",
            type=float,
            default=ScheduleSpec.minimum,
            show_default=True,
            help="Lowest rate of cosine and plateau.",
        ),
    )


def loss_options(command: Command) -> Command:
    """What is minimized."""
    return _apply(
        command,
        click.option(
            "--label-smoothing",
            type=float,
            default=LossSpec.label_smoothing,
            show_default=True,
            help="Share of each target that is spread over all classes.",
        ),
        click.option(
            "--l2",
            type=float,
            default=LossSpec.l2,
            show_default=True,
            help="Factor of the sum of the squares of the head's kernels in the loss.",
        ),
        click.option(
            "--class-weight",
            type=click.Choice(CLASS_WEIGHTS),
            default=LossSpec.class_weight,
            show_default=True,
            help="What an image counts by its class; balanced: each class the same; log: rare ones more.",
        ),
    )


def train_batch_size(name: str) -> Callable[[Command], Command]:
    """Rows per training step, under a name that is free in the command."""
    return click.option(
        name,
        "train_batch_size",
        type=int,
        default=TrainConfig.batch_size,
        show_default=True,
        help="Rows per training step.",
    )


def read_base(values: dict[str, Any]) -> BaseSpec:
    """Take the base options out of a command's values."""
    names = ("weights", "size", "normalize", "include_top")
    return BaseSpec(values.pop("base"), **{name: values.pop(name) for name in names})


def read_cut(values: dict[str, Any]) -> CutSpec:
    """Take the base and cut options out of a command's values."""
    base = read_base(values)
    return CutSpec(base, **{name: values.pop(name) for name in ("layer", "pool", "dtype", "precision")})


def read_extract(values: dict[str, Any]) -> ExtractConfig:
    """Take the extraction options (but the cache folder) out of a command's values."""
    names = ("engine", "workers", "batch_size", "shard_size", "max_failures")
    return ExtractConfig(**{name: values.pop(name) for name in names})


def read_head(values: dict[str, Any]) -> HeadSpec:
    """Take the head options out of a command's values."""
    return HeadSpec(values.pop("layers"), values.pop("head"))


def read_training(values: dict[str, Any]) -> TrainConfig:
    """Take the training options out of a command's values."""
    _refuse_without_effect(values["optimizer"])
    optimizer = OptimizerSpec(values.pop("optimizer"), **{name: values.pop(name) for name in _OPTIMIZER})
    schedule = _read_schedule(values)
    loss = LossSpec(**{name: values.pop(name) for name in _LOSS})
    names = ("epochs", "learning_rate", "patience", "seed", "val", "allow_partial", "allow_stale")
    given = {name: values.pop(name) for name in names if name in values}
    given["batch_size"] = values.pop("train_batch_size")
    return TrainConfig(optimizer, schedule=schedule, loss=loss, **given)


def _read_schedule(values: dict[str, Any]) -> ScheduleSpec:
    kind, warmup = values.pop("schedule"), values.pop("warmup")
    _refuse_typed(f"--schedule {kind}", {f"rate_{name}" for name in _RATE if name not in SCHEDULES[kind]})
    return ScheduleSpec(kind, warmup, **{name: values.pop(f"rate_{name}") for name in _RATE})


def _refuse_without_effect(optimizer: str) -> None:
    if optimizer == "lbfgs":
        gradient = {"layers", "head", "start", "train_batch_size", "warmup", *_OPTIMIZER, *GRADIENT_ONLY}
        gradient |= {f"rate_{name}" for name in _RATE} | {*_LOSS}
        _refuse_typed("--optimizer lbfgs", gradient - {"batch_size"})


def _refuse_typed(choice: str, names: set[str]) -> None:
    given = [
        parameter.opts[0]
        for parameter in click.get_current_context().command.params
        if parameter.name in names and is_typed(parameter.name)
    ]
    if given:
        raise click.UsageError(f"No effect with {choice}: {', '.join(given)}. Leave them out.")


def is_typed(name: str) -> bool:
    """Whether a parameter of the running command was given by the user, be it at its default."""
    return click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE


def show_progress() -> bool:
    """Whether someone is watching stderr."""
    return sys.stderr.isatty()


def _apply(command: Command, *options: Callable[[Command], Command]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command

"""Options of the head and its training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from fastcls.cli.options.common import Command, apply, drop_loaded, refuse_typed
from fastcls.cli.options.data import full_decode_option
from fastcls.cli.options.records import read_records, record_options
from fastcls.specs import (
    CLASS_WEIGHTS,
    FUNCTION,
    HEADS,
    LOSSES,
    MIXED_PRECISIONS,
    NORMS,
    OPTIMIZERS,
    RECIPES,
    SAMPLINGS,
    SCHEDULES,
    THRESHOLDS,
    FinetuneSpec,
    HeadSpec,
    LossSpec,
    OptimizerSpec,
    ScheduleSpec,
    TrainConfig,
    without_effect,
)

_OPTIMIZER = ("momentum", "weight_decay", "clip_norm")
_LOSS = ("label_smoothing", "l2", "class_weight", "class_weight_multiplier")
# Kinds of heads by what is typed for them.
_KINDS = {**HEADS, "FILE.py:FUNCTION": FUNCTION}
_RATE = ("rate_factor", "rate_interval", "rate_patience", "rate_minimum")


class HeadLayers(click.ParamType):
    """`256,0.4` -> (256, 0.4): dense units are whole numbers, dropout rates have a point."""

    name = "layers"
    takes_lists = True

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse the text."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(part) if "." in part else int(part) for part in str(value).split(",") if part)
        except ValueError:
            self.fail(f"{value!r} is not a list of units and dropout rates such as 256,0.4", param, ctx)


class Threshold(click.ParamType):
    """`0.4` -> 0.4; "single" and "per-class" stay as they are."""

    name = "threshold"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse the text."""
        if value in THRESHOLDS:
            return value
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor one of {', '.join(THRESHOLDS)}", param, ctx)


def train_options(command: Command) -> Command:
    """What head is trained, and how."""
    return apply(
        command,
        head_options,
        optimizer_options,
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
            help="Stop after so many epochs without a better validation; 0 never.",
        ),
        click.option(
            "--threshold",
            type=Threshold(),
            metavar="single|per-class|NUMBER",
            help="From which probability on a class is predicted, of several labels per image: the one with "
            "the most exact matches in validation, those of the highest F1 of each class, or a number. "
            "[default: single; 0.5 without validation]",
        ),
        click.option(
            "--seed",
            type=int,
            default=TrainConfig.seed,
            show_default=True,
            help="Decides all that is random.",
        ),
        record_options,
    )


def head_options(command: Command) -> Command:
    """What is trained."""
    return apply(
        command,
        click.option(
            "--head",
            "kind",
            metavar="|".join(_KINDS),
            default=HeadSpec.kind,
            show_default=True,
            help="; ".join(f"{name}: {kind.help}" for name, kind in _KINDS.items()) + ".",
        ),
        click.option(
            "--layers",
            type=HeadLayers(),
            default=(),
            metavar="UNITS,RATE,...",
            help="Hidden layers of a linear head or a tail: dense units and dropout rates, such as 256,0.4. "
            "[default: none]",
        ),
        click.option(
            "--bottleneck-norm",
            type=click.Choice(NORMS),
            default=HeadSpec.bottleneck_norm,
            show_default=True,
            help="What a linear head does first, or a tail with its features: batch normalization, or length "
            "1 (l2; also with logreg).",
        ),
        click.option(
            "--train-batch-norm",
            is_flag=True,
            help="Train batch normalization too, where the base is trained, with the statistics of each "
            "batch.",
        ),
    )


def finetune_options(command: Command) -> Command:
    """Which part of a network is trained on images, and what becomes of them before."""
    return apply(
        command,
        click.option(
            "--train",
            default=FinetuneSpec.train,
            show_default=True,
            metavar="all|none|N|'from LAYER'",
            help="Layers of the base that are trained: all, none, the last N with weights (batch "
            "normalization not counted), or a layer and all behind it. The head is always trained.",
        ),
        click.option(
            "--augment",
            default=FinetuneSpec.augment,
            show_default=True,
            metavar="|".join((*RECIPES, "OPERATION=RANGE,...", "none")),
            help="What happens to each image anew in each epoch; see `fastcls extract --augment`.",
        ),
        click.option(
            "--downscale",
            type=click.IntRange(1),
            default=FinetuneSpec.downscale,
            show_default=True,
            help="Take images so many times as large, and let a strided convolution in front of the base, "
            "which is trained too, bring them down.",
        ),
        click.option(
            "--mixed-precision",
            type=click.Choice(MIXED_PRECISIONS),
            default=FinetuneSpec.mixed_precision,
            show_default=True,
            help="In which the network is computed while it is trained; auto: mixed_float16 on GPUs that "
            "are fast in it, else float32.",
        ),
        full_decode_option,
    )


def read_finetune(values: dict[str, Any]) -> FinetuneSpec:
    """Take the options of fine-tuning out of a command's values, before those of the head."""
    batch_norm = values.pop("train_batch_norm") or None
    names = ("train", "augment", "downscale", "full_decode")
    given = {name: values.pop(name) for name in names}
    return FinetuneSpec(**given, mixed_precision=values.pop("mixed_precision"), train_batch_norm=batch_norm)


def optimizer_options(command: Command) -> Command:
    """What minimizes the loss."""
    return apply(
        command,
        click.option(
            "--optimizer",
            type=click.Choice(tuple(OPTIMIZERS), case_sensitive=False),
            metavar="|".join(OPTIMIZERS),
            default=OptimizerSpec.name,
            show_default=True,
            help="What minimizes the loss.",
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
    return apply(
        command,
        click.option(
            "--schedule",
            type=click.Choice(tuple(SCHEDULES)),
            default=ScheduleSpec.kind,
            show_default=True,
            help="How the learning rate changes. plateau: when validation gets no better.",
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
            default=ScheduleSpec.rate_factor,
            show_default=True,
            help="What step, exponential and plateau multiply the rate by.",
        ),
        click.option(
            "--rate-interval",
            type=int,
            default=ScheduleSpec.rate_interval,
            show_default=True,
            help="Epochs in which step (at once) and exponential (bit by bit) do so.",
        ),
        click.option(
            "--rate-patience",
            type=int,
            default=ScheduleSpec.rate_patience,
            show_default=True,
            help="Epochs without a better validation after which plateau does so.",
        ),
        click.option(
            "--rate-minimum",
            type=float,
            default=ScheduleSpec.rate_minimum,
            show_default=True,
            help="Lowest rate of cosine and plateau.",
        ),
    )


def loss_options(command: Command) -> Command:
    """What is minimized."""
    return apply(
        command,
        click.option(
            "--loss",
            type=click.Choice(("auto", *LOSSES)),
            default=LossSpec.name,
            show_default=True,
            help="auto: categorical cross-entropy for one label per image, binary for several.",
        ),
        click.option(
            "--label-smoothing",
            type=float,
            default=LossSpec.label_smoothing,
            show_default=True,
            help="Share of each target that is spread over all classes, or over yes and no of each.",
        ),
        click.option(
            "--l2",
            type=float,
            default=LossSpec.l2,
            show_default=True,
            help="Factor of the sum of the squares of all kernels that are trained in the loss.",
        ),
        click.option(
            "--class-weight",
            type=click.Choice(CLASS_WEIGHTS),
            default=LossSpec.class_weight,
            show_default=True,
            help="What an image counts by its class, or each of several; balanced: each class the same; log: "
            "rare ones more.",
        ),
        click.option(
            "--class-weight-multiplier",
            type=float,
            help="Larger counts rare classes more. [default: 0.15 for log, 1 for balanced]",
        ),
        click.option(
            "--sampling",
            type=click.Choice(SAMPLINGS),
            default=TrainConfig.sampling,
            show_default=True,
            help="balanced: an epoch draws as many images with replacement, each class equally often.",
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


def read_head(values: dict[str, Any]) -> HeadSpec:
    """Take the head options out of a command's values, and refuse what has no effect on that head."""
    own = {"train_batch_norm"} & values.keys()  # fine-tuning has taken its own
    drop_loaded(values, "start", {"kind", "layers", "bottleneck_norm"} | own)
    kind = values.pop("kind")
    unused = _without_effect(kind)
    if "train_batch_norm" not in values:
        unused.discard("train_batch_norm")  # it is the base's
    refuse_typed(f"--head {kind}", unused)
    drop_loaded(values, "kind", unused)
    train_batch_norm = values.pop("train_batch_norm", False)
    return HeadSpec(kind, values.pop("layers"), values.pop("bottleneck_norm"), train_batch_norm)


def _without_effect(kind: str) -> set[str]:
    """Parameters that have no effect on a kind of head."""
    flags = [*without_effect(kind, HeadSpec()), *without_effect(kind, TrainConfig())]
    names = {flag.removeprefix("--").replace("-", "_") for flag in flags}
    # What takes no batches is not trained, nor further.
    return (names - {"batch_size"}) | ({"start", "train_batch_size"} if "batch_size" in names else set())


def read_training(values: dict[str, Any]) -> TrainConfig:
    """Take the training options out of a command's values."""
    unused = {name for name in _OPTIMIZER if name not in OPTIMIZERS[values["optimizer"]]}
    drop_loaded(values, "optimizer", unused)
    optimizer = OptimizerSpec(values.pop("optimizer"), **{name: values.pop(name) for name in _OPTIMIZER})
    schedule = _read_schedule(values)
    if values["class_weight"] == "none":
        drop_loaded(values, "class_weight", {"class_weight_multiplier"})
    loss = LossSpec(name=values.pop("loss"), **{name: values.pop(name) for name in _LOSS})
    if values.get("val") == 0:
        drop_loaded(values, "val", {"min_accuracy", "checkpoint_best_only", "confusion_every"})
    checkpoints, logs = read_records(values)
    names = ("epochs", "learning_rate", "sampling", "threshold", "patience", "seed", "val", "views")
    given = {name: values.pop(name) for name in (*names, "allow_partial", "allow_stale") if name in values}
    given["batch_size"] = values.pop("train_batch_size")
    return TrainConfig(optimizer, schedule=schedule, loss=loss, checkpoints=checkpoints, logs=logs, **given)


def _read_schedule(values: dict[str, Any]) -> ScheduleSpec:
    unused = {name for name in _RATE if name not in SCHEDULES[values["schedule"]]}
    refuse_typed(f"--schedule {values['schedule']}", unused)
    drop_loaded(values, "schedule", unused)
    kind, warmup = values.pop("schedule"), values.pop("warmup")
    return ScheduleSpec(kind, warmup, **{name: values.pop(name) for name in _RATE})

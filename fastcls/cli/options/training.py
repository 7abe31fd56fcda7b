"""Options of the head and its training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from fastcls.cli.options.common import Command, apply, drop_loaded, refuse_typed
from fastcls.cli.options.records import RECORDS, read_records, record_options
from fastcls.specs import (
    CLASS_WEIGHTS,
    GRADIENT_ONLY,
    OPTIMIZERS,
    SCHEDULES,
    HeadSpec,
    LossSpec,
    OptimizerSpec,
    ScheduleSpec,
    TrainConfig,
)

_OPTIMIZER = ("momentum", "weight_decay", "clip_norm")
_LOSS = ("label_smoothing", "l2", "class_weight")
_RATE = ("factor", "interval", "patience", "minimum")


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


def train_options(command: Command) -> Command:
    """What head is trained, and how."""
    return apply(
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
        record_options,
    )


def optimizer_options(command: Command) -> Command:
    """What minimizes the loss."""
    return apply(
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
    return apply(
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
    return apply(
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


def read_head(values: dict[str, Any]) -> HeadSpec:
    """Take the head options out of a command's values."""
    drop_loaded(values, "layers", {"head"})
    drop_loaded(values, "head", {"layers"})
    drop_loaded(values, "start", {"layers", "head"})
    return HeadSpec(values.pop("layers"), values.pop("head"))


def read_training(values: dict[str, Any]) -> TrainConfig:
    """Take the training options out of a command's values."""
    _refuse_without_effect(values)
    optimizer = OptimizerSpec(values.pop("optimizer"), **{name: values.pop(name) for name in _OPTIMIZER})
    schedule = _read_schedule(values)
    loss = LossSpec(**{name: values.pop(name) for name in _LOSS})
    if values.get("val") == 0:
        drop_loaded(values, "val", {"min_accuracy", "checkpoint_best_only", "confusion_every"})
    checkpoints, logs = read_records(values)
    names = ("epochs", "learning_rate", "patience", "seed", "val", "allow_partial", "allow_stale")
    given = {name: values.pop(name) for name in names if name in values}
    given["batch_size"] = values.pop("train_batch_size")
    return TrainConfig(optimizer, schedule=schedule, loss=loss, checkpoints=checkpoints, logs=logs, **given)


def _read_schedule(values: dict[str, Any]) -> ScheduleSpec:
    unused = {f"rate_{name}" for name in _RATE if name not in SCHEDULES[values["schedule"]]}
    refuse_typed(f"--schedule {values['schedule']}", unused)
    drop_loaded(values, "schedule", unused)
    kind, warmup = values.pop("schedule"), values.pop("warmup")
    return ScheduleSpec(kind, warmup, **{name: values.pop(f"rate_{name}") for name in _RATE})


def _refuse_without_effect(values: dict[str, Any]) -> None:
    optimizer = values["optimizer"]
    drop_loaded(values, "optimizer", {name for name in _OPTIMIZER if name not in OPTIMIZERS[optimizer]})
    if optimizer == "lbfgs":
        gradient = {"layers", "head", "start", "train_batch_size", "warmup", *_OPTIMIZER, *GRADIENT_ONLY}
        gradient |= {f"rate_{name}" for name in _RATE} | {*_LOSS, *RECORDS}
        refuse_typed("--optimizer lbfgs", gradient - {"batch_size"})
        drop_loaded(values, "optimizer", gradient)

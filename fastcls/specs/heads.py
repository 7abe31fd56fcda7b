"""What is trained on top of the bottleneck."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastcls.errors import OptionError
from fastcls.specs.option import option
from fastcls.specs.options import described, settle
from fastcls.tasks import ONE_LABEL, Task

NORMS = ("none", "batch", "l2")
# What a head that is trained by gradients takes of `TrainConfig` and `StartSpec`.
_GRADIENT = (
    *("optimizer", "epochs", "batch_size", "learning_rate", "schedule", "loss", "sampling", "patience"),
    *("checkpoints", "logs", "start"),
)


@dataclass(frozen=True)
class Step:
    """What the rows of a history differ in.

    Attributes:
        name: Its column.
        one: What one of them is called.
        many: What several are called.
        is_log: Whether curves spread them evenly by their logarithm.
    """

    name: str
    one: str
    many: str
    is_log: bool = True


EPOCH = Step("epoch", "epoch", "epochs", is_log=False)


@dataclass(frozen=True)
class HeadKind:
    """A kind of head: all that the rest of fastcls needs to know of it.

    Attributes:
        help: What it is, in a few words.
        fit: "module:function" that fits it at once, a `FitHead` (see `fastcls.training.heads.fitting`);
            "" for one that is trained by gradients.
        takes: Fields of `HeadSpec`, `TrainConfig` and `StartSpec` that have an effect on it, and not on
            every head.
        norms: Values of `HeadSpec.bottleneck_norm` that it takes.
        step: What the rows of its history differ in.
        needs_val: Whether it cannot be made without validation rows.
        needs_tail: Whether it is made of what follows the cut in the base.
        tasks: The tasks that it is made for; None for all.
        further: If it is fitted at once, the kind as which gradients train it further; "" if they cannot.
    """

    help: str
    fit: str = ""
    takes: tuple[str, ...] = ()
    norms: tuple[str, ...] = ("none",)
    step: Step = EPOCH
    needs_val: bool = False
    needs_tail: bool = False
    tasks: tuple[Task, ...] | None = (ONE_LABEL,)
    further: str = ""


# A new head is one entry here and, if it is fitted at once, the module that fits it.
HEADS = {
    "linear": HeadKind(
        "a softmax layer",
        takes=("layers", "bottleneck_norm", *_GRADIENT),
        norms=NORMS,
        tasks=None,
    ),
    "tail": HeadKind(
        "the layers of the base after the cut and a softmax layer, all trained",
        takes=("layers", "bottleneck_norm", "train_batch_norm", *_GRADIENT),
        norms=NORMS,
        needs_tail=True,
        tasks=None,
    ),
    "logreg": HeadKind(
        "a softmax layer fitted by logistic regression",
        fit="fastcls.training.heads.logreg:fit_logreg",
        takes=("bottleneck_norm",),
        norms=("none", "l2"),
        step=Step("c", "C", "values of C"),
        needs_val=True,
        further="linear",
    ),
    "prototype": HeadKind(
        "the nearest class mean",
        fit="fastcls.training.heads.prototypes:fit_prototypes",
        step=Step("temperature", "temperature", "temperatures"),
    ),
    "knn": HeadKind(
        "the nearest training images",
        fit="fastcls.training.heads.knn:fit_knn",
        step=Step("k", "k", "values of k"),
    ),
}
# "file.py:function".
FUNCTION = HeadKind(
    "your own function, (bottleneck, number of classes) -> probabilities",
    takes=_GRADIENT,
    tasks=None,
)


def read_layers(value: Any) -> tuple[int | float, ...]:
    """Hidden layers of "256,0.4", (256, 0.4) or 256.

    Raises:
        OptionError: It is something else.

    >>> read_layers("256,0.4") == read_layers([256, 0.4])
    True
    """
    parts = value.split(",") if isinstance(value, str) else value
    try:
        given = [parts] if isinstance(parts, (int, float)) else list(parts)
        layers = tuple(_number(part) for part in given if part != "")
    except (TypeError, ValueError):
        raise OptionError(f"{value!r} is not a list of units and dropout rates such as 256,0.4") from None
    for layer in layers:
        if not (layer >= 1 if isinstance(layer, int) else 0 < layer < 1):
            raise OptionError(
                "A head layer is a number of units (1 or more) or a dropout rate between 0 and 1. "
                f"Received: {layer}. Example: 256,0.4"
            )
    return layers


def _kind(value: Any) -> str:
    if not isinstance(value, str) or (value not in HEADS and ":" not in value):
        raise OptionError(
            f"Unknown head: {value!r}. Choose one of: {', '.join(HEADS)}; or name a function as "
            "file.py:function"
        )
    return value


def _number(part: Any) -> int | float:
    if isinstance(part, str):
        return float(part) if "." in part else int(part)
    if isinstance(part, bool) or not isinstance(part, (int, float)):
        raise TypeError
    return part


def _silenced(kind: str) -> list[str]:
    """What has no effect on a kind of head, and has on another."""
    optional = {name for known in (*HEADS.values(), FUNCTION) for name in known.takes}
    unused = sorted(optional - set(HEADS.get(kind, FUNCTION).takes))
    return [f"{spec}.{name}" for name in unused for spec in ("HeadSpec", "TrainConfig", "StartSpec")]


_KINDS = {**HEADS, "FILE.py:FUNCTION": FUNCTION}


@described
@dataclass(frozen=True)
class HeadSpec:
    """The trainable part on top of the bottleneck."""

    kind: str = option(
        "linear",
        "; ".join(f"{name}: {kind.help}" for name, kind in _KINDS.items()) + ".",
        flag="--head",
        metavar="|".join(_KINDS),
        read=_kind,
        silences=_silenced,
    )
    layers: tuple[int | float, ...] = option(
        (),
        "Hidden layers before the softmax layer of a linear head or a tail: dense units (whole numbers) and "
        "dropout rates (below 1), such as 256,0.4.",
        metavar="UNITS,RATE,...",
        shown="none",
        read=read_layers,
    )
    bottleneck_norm: str = option(
        "none",
        "Normalization of the input of a linear head, or of the features of a tail: batch normalization, "
        "or unit length (l2; also with logreg).",
        choices=NORMS,
    )
    train_batch_norm: bool = option(
        False,
        "Also train the batch normalization of a tail, with the statistics of each batch.",
    )

    def __post_init__(self) -> None:
        settle(self)
        if self.bottleneck_norm not in self.traits.norms:
            raise OptionError(
                f"--head {self.kind} takes --bottleneck-norm {' or '.join(self.traits.norms)}. "
                f"Received: {self.bottleneck_norm}"
            )

    @property
    def traits(self) -> HeadKind:
        """What is known of its kind."""
        return HEADS.get(self.kind, FUNCTION)

    @property
    def is_fitted(self) -> bool:
        """Whether it is fitted at once, not trained by gradients."""
        return bool(self.traits.fit)

    @property
    def is_function(self) -> bool:
        """Whether it is a user's function."""
        return self.traits is FUNCTION


@described
@dataclass(frozen=True)
class StartSpec:
    """What a training starts from."""

    start: str | None = option(
        None, "Run or checkpoint to start from, to train it further.", flag="--from", metavar="PATH"
    )


def step_of(row: Mapping[str, float]) -> Step:
    """What a row of a history differs in from the others."""
    return next(kind.step for kind in HEADS.values() if kind.step.name in row)

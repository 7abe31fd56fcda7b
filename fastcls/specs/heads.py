"""What is trained on top of the bottleneck."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastcls.errors import OptionError, shown
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


# Chosen on validation parts of several data sets: docs/training.md tells how.
LINEAR_L2 = 0.003
_MOST_UNITS = 1_000_000
EPOCH = Step("epoch", "epoch", "epochs", is_log=False)


@dataclass(frozen=True)
class HeadKind:
    """A kind of head: all that the rest of fastcls needs to know of it.

    Attributes:
        help: What it is, in a few words.
        fit: "module:function" that fits it at once, a `FitHead` (see `fastcls.training.heads.fitting`);
            "" for one that is trained by gradients.
        hold_out: "module:function" that predicts rows it is not fitted on, a `HoldOut` (see
            `fastcls.training.heads.folds`); "" for one that is trained by gradients.
        takes: Fields of `HeadSpec`, `TrainConfig` and `StartSpec` that have an effect on it, and not on
            every head.
        norms: Values of `HeadSpec.bottleneck_norm` that it takes.
        step: What the rows of its history differ in.
        in_memory: Uses of the rows that are all kept in memory.
        needs_tail: Whether it is made of what follows the cut in the base.
        tasks: The tasks that it is made for; None for all.
        further: If it is fitted at once, the kind as which gradients train it further; "" if they cannot.
        l2: What `LossSpec.l2` is by default for a lone softmax layer on the bottlenecks as they are.
        votes: Whether it counts votes, so that its probabilities jump.
        is_fixed: Whether it is the same whatever the images: it is made of the names of the classes.
    """

    help: str
    fit: str = ""
    hold_out: str = ""
    takes: tuple[str, ...] = ()
    norms: tuple[str, ...] = ("none",)
    step: Step = EPOCH
    in_memory: tuple[str, ...] = ()
    needs_tail: bool = False
    tasks: tuple[Task, ...] | None = (ONE_LABEL,)
    further: str = ""
    l2: float = 0.0
    votes: bool = False
    is_fixed: bool = False


AUTO = "auto"
# A new head is one entry here and, if it is fitted at once, the module that fits it.
HEADS = {
    AUTO: HeadKind(
        "logreg, or linear where options or the size of the data call for it",
        takes=("layers", "bottleneck_norm", "prompts", "refit", *_GRADIENT),
        norms=NORMS,
        tasks=None,
    ),
    "linear": HeadKind(
        "a softmax layer trained in epochs",
        takes=("layers", "bottleneck_norm", "prompts", *_GRADIENT),
        norms=NORMS,
        tasks=None,
        l2=LINEAR_L2,
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
        hold_out="fastcls.training.heads.logreg:hold_out_logreg",
        takes=("bottleneck_norm", "refit"),
        norms=("none", "l2"),
        step=Step("c", "C", "values of C"),
        tasks=None,
        further="linear",
    ),
    "prototype": HeadKind(
        "the nearest class mean",
        fit="fastcls.training.heads.prototypes:fit_prototypes",
        hold_out="fastcls.training.heads.prototypes:hold_out_prototypes",
        step=Step("temperature", "temperature", "temperatures"),
    ),
    "knn": HeadKind(
        "the nearest training images",
        fit="fastcls.training.heads.knn:fit_knn",
        hold_out="fastcls.training.heads.knn:hold_out_knn",
        step=Step("k", "k", "values of k"),
        in_memory=("train",),
        votes=True,
    ),
    "text": HeadKind(
        "the names of the classes, by the text tower of CLIP or SigLIP",
        fit="fastcls.training.heads.text:judge_text",
        takes=("prompts",),
        step=Step("prompts", "prompt", "prompts"),
        tasks=None,
        further="linear",
        is_fixed=True,
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
        raise OptionError(
            f"{shown(value)} is not a list of units and dropout rates such as 256,0.4"
        ) from None
    for layer in layers:
        if not (1 <= layer <= _MOST_UNITS if isinstance(layer, int) else 0 < layer < 1):
            raise OptionError(
                f"A head layer is a number of units (1 to {_MOST_UNITS:,}) or a dropout rate between 0 and 1."
                f" Received: {shown(layer)}. Example: 256,0.4"
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


def silenced(kind: str) -> list[str]:
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
        AUTO,
        "; ".join(f"{name}: {kind.help}" for name, kind in _KINDS.items()) + ".",
        flag="--head",
        metavar="|".join(_KINDS),
        read=_kind,
        silences=silenced,
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
    refit: bool = option(
        True,
        "Do not fit logreg again on training and validation images once C is chosen.",
    )

    prompts: str | None = option(
        None,
        "What the classes are called for a text head, or for a linear one that starts as it: a template such "
        "as 'a photo of a {}.', or a file of templates and lines \"class: prompt\".",
        metavar="TEMPLATE|PATH",
        shown="the habit of the base for text, none for linear",
        silences=lambda given: ("layers", "bottleneck_norm") if given else (),
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
    def refits(self) -> bool:
        """Whether it is fitted once more, on validation rows too, when they have done their part."""
        return self.refit and "refit" in self.traits.takes

    @property
    def l2(self) -> float:
        """What `LossSpec.l2` is by default."""
        is_plain = not self.layers and self.bottleneck_norm == "none" and self.prompts is None
        return self.traits.l2 if is_plain else 0.0

    @property
    def starts_from_text(self) -> bool:
        """Whether it is made of prompts, be it to be trained then."""
        return self.traits.is_fixed or self.prompts is not None

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

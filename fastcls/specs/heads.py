"""What is trained on top of the bottleneck."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from fastcls.errors import OptionError
from fastcls.specs.checks import check_choice, no_effect
from fastcls.tasks import ONE_LABEL, Task

NORMS = ("none", "batch", "l2")
# What a head that is trained by gradients takes of `TrainConfig`.
_GRADIENT = (
    *("optimizer", "epochs", "batch_size", "learning_rate", "schedule", "loss", "sampling", "patience"),
    *("checkpoints", "logs"),
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
        takes: Fields of `HeadSpec` and `TrainConfig` that have an effect on it, and not on every head.
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
        "what follows the cut in the base, trained too, and a softmax layer",
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
    "a function of yours, (bottleneck, number of classes) -> probabilities",
    takes=_GRADIENT,
    tasks=None,
)


@dataclass(frozen=True)
class HeadSpec:
    """The trainable part on top of the bottleneck.

    Attributes:
        kind: One of `HEADS`, or "file.py:function", which takes the bottleneck tensor and the number of
            classes and returns the tensor of class probabilities.
        layers: Hidden layers before the softmax layer of a linear head or a tail: an int is a ReLU dense
            layer of that many units, a float below 1 a dropout of that rate.
        bottleneck_norm: What a linear head (or, but for "batch", a logreg one) does with the bottleneck
            first: "batch" for batch normalization, "l2" for length 1; a tail does it with its features.
        train_batch_norm: Train the batch normalization of a tail, with the statistics of each batch. Else it
            stays as it is in inference.
    """

    kind: str = "linear"
    layers: tuple[int | float, ...] = ()
    bottleneck_norm: str = "none"
    train_batch_norm: bool = False

    def __post_init__(self) -> None:
        if self.kind not in HEADS and ":" not in self.kind:
            raise OptionError(
                f"Unknown head: {self.kind!r}. Choose one of: {', '.join(HEADS)}; or name a function as "
                "file.py:function"
            )
        check_choice("bottleneck_norm", self.bottleneck_norm, NORMS)
        for value in self.layers:
            dropout = isinstance(value, float) and 0 < value < 1
            dense = isinstance(value, int) and value >= 1
            if not dropout and not dense:
                raise OptionError(
                    "A head layer is a number of units (1 or more) or a dropout rate between 0 and 1. "
                    f"Received: {value}. Example: 256,0.4"
                )
        check_head(self)

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

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> HeadSpec:
        """From what `dataclasses.asdict` made of one."""
        return cls(**{**values, "layers": tuple(values["layers"])})


def check_head(head: HeadSpec, *specs: Any) -> None:
    """Raise OptionError where a head, or how it is trained, has options without effect on its kind.

    Args:
        head: What is trained.
        specs: How it is trained.
    """
    choice, norms = f"--head {head.kind}", head.traits.norms
    given = [flag for spec in (head, *specs) for flag in without_effect(head.kind, spec, only_given=True)]
    if given:
        raise OptionError(no_effect(given, choice))
    if head.bottleneck_norm not in norms:
        raise OptionError(
            f"{choice} takes --bottleneck-norm {' or '.join(norms)}. Received: {head.bottleneck_norm}"
        )


def without_effect(head: str, spec: Any, *, only_given: bool = False) -> list[str]:
    """Flags of the options of a spec that have no effect on a kind of head.

    Args:
        head: The kind.
        spec: A `HeadSpec` or `TrainConfig`.
        only_given: Leave out options that are at their defaults.

    >>> without_effect("linear", HeadSpec())
    ['--train-batch-norm']
    """
    optional = {name for kind in (*HEADS.values(), FUNCTION) for name in kind.takes}
    unused = optional - set(HEADS.get(head, FUNCTION).takes)
    return [
        _flag(place)
        for place, value, default in _options(spec)
        if place[0] in unused and not (only_given and value == default)
    ]


def step_of(row: Mapping[str, float]) -> Step:
    """What a row of a history differs in from the others."""
    return next(kind.step for kind in HEADS.values() if kind.step.name in row)


def _options(spec: Any, *place: str) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Place, value and default of all options of a spec and of those inside of it."""
    for field in fields(spec):
        value, inner = getattr(spec, field.name), (*place, field.name)
        yield from _options(value, *inner) if is_dataclass(value) else [(inner, value, field.default)]


def _flag(place: tuple[str, ...]) -> str:
    """What the command line calls an option."""
    name = place[-2] if place[-1] in ("kind", "name") else place[-1]
    return "--" + name.replace("_", "-")

"""What is said of an image by a classifier."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from fastcls.errors import OptionError
from fastcls.specs.checks import no_effect
from fastcls.specs.option import option
from fastcls.specs.options import described, settle
from fastcls.tasks import Task

# The answer where no class is probable enough.
UNSURE = "unsure"


@described
@dataclass(frozen=True)
class AnswerSpec:
    """Which classes are said of an image."""

    top_k: int | None = option(
        None,
        "Most classes to print per image.",
        low=1,
        metavar="K",
        shown="1; all that reach their threshold with several labels; all with --scores",
    )
    scores: bool = option(
        False,
        "Print the probabilities of the classes, whichever are predicted.",
        silences=lambda scores: ("threshold", "min_confidence") if scores else (),
    )
    threshold: float | None = option(
        None,
        "With several labels per image: a class is predicted when its probability reaches P.",
        low=0,
        high=1,
        metavar="P",
        shown="the thresholds that validation chose",
    )
    min_confidence: float | None = option(
        None,
        f"With one label per image: where the most probable class is less probable, the answer is {UNSURE}.",
        low=0,
        high=1,
        metavar="P",
    )

    def __post_init__(self) -> None:
        settle(self)


def check_answer(answer: AnswerSpec, task: Task, class_names: Collection[str]) -> None:
    """Raise OptionError for what has no effect on the answers of a classifier, or would be ambiguous."""
    given = [f"--{name.replace('_', '-')}" for name in task.pointless_answers if _is_given(answer, name)]
    if given:
        used = [f"--{name.replace('_', '-')}" for name in _CHOOSING if name not in task.pointless_answers]
        raise OptionError(
            f"{no_effect(given, f'{task} per image')} What has an effect there is {', '.join(used)}"
        )
    if answer.min_confidence is not None and UNSURE in class_names:
        raise OptionError(
            f"A class of the classifier is called {UNSURE}, which is also what --min-confidence answers "
            "where no class is probable enough. Remove --min-confidence, and use --scores"
        )


_CHOOSING = ("threshold", "min_confidence")


def _is_given(answer: AnswerSpec, name: str) -> bool:
    return getattr(answer, name) is not None

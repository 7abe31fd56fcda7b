"""From what the probabilities of a test are computed, and what its result holds."""

from __future__ import annotations

from dataclasses import dataclass

from fastcls.specs.option import option
from fastcls.specs.options import described, settle


@described
@dataclass(frozen=True)
class FeaturesSpec:
    """What of the tested images is forwarded again."""

    through_model: bool = option(
        False,
        "Forward all images through the whole classifier, also those whose bottlenecks are in the cache of "
        "the run.",
        silences=lambda through_model: ["cache"] if through_model else [],
    )
    cache: str | None = option(
        None,
        "Cache that the run was trained on, or a folder of caches with it.",
        metavar="DIRECTORY",
        shown="where it was when the run was made",
    )

    def __post_init__(self) -> None:
        settle(self)


@described
@dataclass(frozen=True)
class ResultSpec:
    """What the result of a test holds."""

    allow_missing: bool = option(
        False,
        "Leave out images of classes that the classifier does not know, with a warning that counts them. "
        "Without it they are an error.",
    )
    images: str | None = option(
        None,
        "new: leave out the images that the classifier was trained or validated on; all: test on these, "
        "too, with a warning that counts them.",
        choices=("new", "all"),
        shown="new if DATA has images that the run held out, else all",
    )
    compact: bool = option(False, "Leave the probability of each class out of predictions.csv.")
    corrections: str | None = option(
        None,
        "The issues.csv of `fastcls audit` with your decisions in its column action: figures with what it "
        "says of the test images are told in a line of their own.",
        metavar="PATH",
    )

    def __post_init__(self) -> None:
        settle(self)


@described
@dataclass(frozen=True)
class EpochsSpec:
    """Whether kept checkpoints are tested, and what the best of them is chosen by."""

    epochs: bool = option(
        False,
        "Test each checkpoint that RUN has kept, on the images that it was validated on. DATA is needed for "
        "a run of finetune alone.",
    )
    metric: str = option(
        "accuracy",
        "With --epochs: what the best checkpoint is chosen by, then the log loss.",
        choices=("accuracy", "precision", "recall", "log_loss"),
    )
    coverage_at: float = option(
        0.9,
        "With --epochs: confidence from which an image counts as covered.",
        low=0,
        high=1,
        metavar="P",
    )

    def __post_init__(self) -> None:
        settle(self)

"""What to do next, in sentences: one rule for each kind of advice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from fastcls.wording import count_of, some_of

_FEW = 0.5  # of the median number of images: a class has few
_WEAK = 0.75  # of the recall of the others: a class is weak
_LEAST_SUPPORT = 5  # test images, below which a recall says nothing
_LEAST_CONFUSED = 2  # images, and
_CONFUSED_SHARE = 0.05  # of the images of a class: a confusion is worth a word
_MISCALIBRATED = 0.05  # mean difference of confidence and accuracy, of many images;
_BY_CHANCE = 1.5  # that of few images is as high as this over the square root of their number
_WIDE = 0.05  # half of an interval: the figure is not known well
_LISTED = 3


@dataclass(frozen=True)
class Advice:
    """One piece of advice.

    Attributes:
        text: One or two sentences.
        anchor: The section of the report that shows it; "" for none.
    """

    text: str
    anchor: str = ""


@dataclass(frozen=True, eq=False)
class Findings:
    """What the rules look at; what is not known has its default.

    Attributes:
        class_names: Of C classes.
        trained: (C,) int, images for training (and validation) of each class.
        tested: (C,) int, test images of each class.
        recall: (C,) float, NaN of a class without test images.
        confusion: (C, C) int, [true, predicted], of one label per image; None of several.
        label_errors: Suspected label errors.
        leaks: Pairs of near duplicates in different splits.
        seen: Test images that were trained or validated on.
        unreadable: Images that could not be read.
        calibration: Expected calibration error; None if it is unknown.
        overconfidence: Mean confidence less accuracy.
        interval: Of the headline figure; None if it is unknown.
        headline: What that is called.
        curve: What the learning curve says, in a sentence.
        thresholds: A threshold with its coverage and precision, of the best that is known; None without.
    """

    class_names: tuple[str, ...]
    trained: np.ndarray
    tested: np.ndarray
    recall: np.ndarray
    confusion: np.ndarray | None = None
    label_errors: int = 0
    leaks: int = 0
    seen: int = 0
    unreadable: int = 0
    calibration: float | None = None
    overconfidence: float = 0.0
    interval: tuple[float, float] | None = None
    headline: str = "accuracy"
    curve: str = ""
    thresholds: Mapping[str, float] = field(default_factory=dict)

    @property
    def known(self) -> np.ndarray:
        """Places of the classes of which the recall says something."""
        return np.flatnonzero((self.tested >= _LEAST_SUPPORT) & ~np.isnan(self.recall))


def advise(findings: Findings) -> list[Advice]:
    """What all rules have to say, the most urgent first."""
    return [advice for rule in RULES for advice in rule(findings)]


def seen_images(found: Findings) -> Iterator[Advice]:
    """Figures on images that were trained on say little."""
    if found.seen:
        are = "was" if found.seen == 1 else "were"
        yield Advice(
            f"{count_of(found.seen, 'test image')} {are} used in training or validation, so the figures "
            "are too good. Test on new images alone.",
            "summary",
        )


def leaked_images(found: Findings) -> Iterator[Advice]:
    """Near duplicates in training and test."""
    if found.leaks:
        are = "is" if found.leaks == 1 else "are"
        pairs = count_of(found.leaks, "pair")
        yield Advice(
            f"{pairs} of images in different splits {are} nearly the same, so the figures may be too good. "
            "Look at them, and keep such images in one split.",
            "duplicates",
        )


def wrong_labels(found: Findings) -> Iterator[Advice]:
    """Suspected label errors."""
    if found.label_errors:
        yield Advice(
            f"{count_of(found.label_errors, 'label')} may be wrong. Look at these images first: correcting "
            "labels is cheaper than adding images.",
            "labels",
        )


def weak_classes(found: Findings) -> Iterator[Advice]:
    """Classes of low recall: because they have few images, or for another reason."""
    for place in sorted(found.known, key=lambda each: found.recall[each])[:_LISTED]:
        others = found.known[found.known != place]
        if not len(others):
            return
        mean = float(found.recall[others].mean())
        recall, name = float(found.recall[place]), found.class_names[place]
        if recall > _WEAK * mean:
            return
        few = found.trained[place] < _FEW * np.median(found.trained[others])
        half = "half" if 0.4 * mean <= recall <= 0.6 * mean else "a lower"
        of = "the recall of the others" if half == "half" else "recall than the others"
        shares = f"{_percent(recall)} against {_percent(mean)}"
        images = count_of(int(found.trained[place]), "image")
        remedy = "add images of it" if few else "look at its mistakes, and at its labels"
        yield Advice(f"Class {name} has {images} and {half} {of} ({shares}): {remedy}.", "classes")


def small_classes(found: Findings) -> Iterator[Advice]:
    """Classes with few images whose recall is not known, or not yet low."""
    median = float(np.median(found.trained)) if len(found.trained) else 0.0
    weak = {*found.known[found.recall[found.known] <= _WEAK * _mean(found)].tolist()}
    few = [place for place in np.flatnonzero(found.trained < _FEW * median).tolist() if place not in weak]
    if few:
        few = sorted(few, key=lambda place: (found.trained[place], place))
        named = [f"{found.class_names[place]} ({found.trained[place]:,})" for place in few]
        have = "has" if len(few) == 1 else "have"
        yield Advice(
            f"{some_of(named, _LISTED)} {have} less than half as many images as the median class "
            f"({median:,.0f}): add images, or train with --class-weight balanced.",
            "classes",
        )


def confused_classes(found: Findings) -> Iterator[Advice]:
    """Pairs of classes that are confused, both ways or one way."""
    if found.confusion is None:
        return
    shares = found.confusion / np.maximum(found.confusion.sum(axis=1, keepdims=True), 1)
    is_much = (found.confusion >= _LEAST_CONFUSED) & (shares >= _CONFUSED_SHARE)
    np.fill_diagonal(is_much, val=False)
    found_pairs = np.argwhere(np.triu(is_much | is_much.T, 1)).tolist()
    for one, other in sorted(found_pairs, key=lambda pair: -(shares + shares.T)[tuple(pair)])[:_LISTED]:
        yield Advice(_told_confusion(found, one, other, is_much), "confusion")


def _told_confusion(found: Findings, one: int, other: int, is_much: np.ndarray) -> str:
    confusion, names = found.confusion, found.class_names
    assert confusion is not None
    if is_much[one, other] and is_much[other, one]:
        return (
            f"{names[one]} and {names[other]} are confused both ways ({confusion[one, other]} of "
            f"{confusion[one].sum()} and {confusion[other, one]} of {confusion[other].sum()} images): look "
            "at these images. Are the classes told apart the same way everywhere?"
        )
    if is_much[other, one]:
        one, other = other, one
    return (
        f"{confusion[one, other]} of {confusion[one].sum()} images of {names[one]} are taken for "
        f"{names[other]}: add images of {names[one]} that look like {names[other]}."
    )


def more_images(found: Findings) -> Iterator[Advice]:
    """What the learning curve says."""
    if found.curve:
        yield Advice(found.curve, "learning")


def miscalibrated(found: Findings) -> Iterator[Advice]:
    """Confidence that does not say how often an answer is right."""
    images = max(1, int(found.tested.sum()))
    least = max(_MISCALIBRATED, _BY_CHANCE / images**0.5)
    if found.calibration is not None and found.calibration > least:
        high = "higher" if found.overconfidence > 0 else "lower"
        yield Advice(
            f"The confidence is {high} than the share of right answers (expected calibration error "
            f"{_percent(found.calibration)}): fastcls calibrate corrects that.",
            "reliability",
        )


def wide_interval(found: Findings) -> Iterator[Advice]:
    """Too few test images to know the headline figure."""
    if found.interval and (half := (found.interval[1] - found.interval[0]) / 2) > _WIDE:
        images = count_of(int(found.tested.sum()), "test label" if found.confusion is None else "test image")
        yield Advice(
            f"With {images}, the {found.headline} is known to within about {100 * half:.0f} points only: "
            "test on more images before you compare classifiers.",
            "summary",
        )


def useful_threshold(found: Findings) -> Iterator[Advice]:
    """How many images get an answer that can be relied on."""
    if known := found.thresholds:
        yield Advice(
            f"Where only answers of at least {_percent(known['threshold'])} confidence count, "
            f"{_percent(known['coverage'])} of the images get one, and {_percent(known['precision'])} of "
            "these are right. The others can go to a person.",
            "threshold",
        )


def unreadable_images(found: Findings) -> Iterator[Advice]:
    """Images that could not be read."""
    if found.unreadable:
        yield Advice(
            f"{count_of(found.unreadable, 'image')} could not be read and had no part in this.", "data"
        )


RULES: tuple[Callable[[Findings], Iterator[Advice]], ...] = (
    seen_images,
    leaked_images,
    wrong_labels,
    weak_classes,
    small_classes,
    confused_classes,
    more_images,
    miscalibrated,
    wide_interval,
    useful_threshold,
    unreadable_images,
)


def _mean(found: Findings) -> float:
    return float(found.recall[found.known].mean()) if len(found.known) else 0.0


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\u00a0%"  # no line breaks there

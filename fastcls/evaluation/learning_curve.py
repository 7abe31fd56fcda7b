"""The learning curve of a data set: what a classifier is worth that is trained on a part of the images.

It is measured out of fold: each fifth of the images for training and validation is predicted by logistic
regression on 10, 20 ... 100 % of the others. Larger parts hold the smaller ones; each has about the same
share of each class, and groups and identical images stay whole.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fastcls import files
from fastcls.cache.store import Cache
from fastcls.errors import DataError, OptionError
from fastcls.evaluation.features import Features
from fastcls.evaluation.judges import HEADLINES
from fastcls.evaluation.pictures import draw_learning
from fastcls.evaluation.power_law import Gain, PowerLaw, estimate_gain, law_of
from fastcls.evaluation.ranked import class_auroc
from fastcls.evaluation.text_table import format_table
from fastcls.files import PathLike
from fastcls.tasks import ONE_LABEL, SEVERAL_LABELS, Task
from fastcls.training.heads.folds import FOLDS, Folded, deal
from fastcls.training.heads.links import LINKS
from fastcls.training.heads.logreg import C_GRID, along_axes, hold_out_along
from fastcls.training.out_of_fold import deal_repeatedly, units_of
from fastcls.wording import count_of

TO_TRAIN = ("train", "val", "")  # splits of the images that it is measured on
_ROOT = "curves"
_PARTS = 10
# Folds in all repeats together, by the number of images: few images need more of them.
_REPEATS = ((500, 5), (1200, 3), (10_000, 2))
_LARGE = 20_000  # from there on, few folds have enough images to test on
_FEW_FOLDS = 3
# In points: what is little, and what tells nothing.
_LITTLE, _VAGUE = 0.005, 0.06


def _accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    return float(np.mean(probabilities.argmax(axis=1) == labels))


def _mean_auroc(labels: np.ndarray, probabilities: np.ndarray) -> float:
    areas = class_auroc(labels, probabilities)
    return float(np.nanmean(areas)) if not np.isnan(areas).all() else float("nan")


# The first of the task's `HEADLINES`.
_MEASURES: dict[Task, Callable[[np.ndarray, np.ndarray], float]] = {
    ONE_LABEL: _accuracy,
    SEVERAL_LABELS: _mean_auroc,
}


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """The learning curve of a data set.

    Attributes:
        name: Of the data set.
        figure: What is measured.
        available: How many images there are to train on.
        images: (P,) numbers of images that were trained on.
        curves: (S, P) the figure in each fold of each repeat.
        law: What the mean over the folds follows, as near as a law comes to it that brings the gain.
        gain: What twice the images would bring; None where that cannot be told.
        chosen: (P,) C of each.
        identity: Which bottlenecks of which images it is of: see `Features.identity`.
    """

    name: str
    figure: str
    available: int
    images: np.ndarray
    curves: np.ndarray
    law: PowerLaw
    gain: Gain
    chosen: tuple[float, ...]
    identity: dict[str, str] = field(default_factory=dict)

    @property
    def means(self) -> np.ndarray:
        """(P,) the figure of each number of images."""
        means: np.ndarray = self.curves.mean(axis=0)
        return means

    @property
    def sentence(self) -> str:
        """What twice the images would bring, in words."""
        gain = self.gain
        told = f"{100 * gain.gain:+.1f} points of {self.figure} (95 % interval {_points(gain)})"
        if gain.high - gain.low > _VAGUE or len(self.images) < _PARTS // 2:
            return f"Too few images to tell what more would bring: twice as many about {told}."
        if gain.high < _LITTLE:
            return f"More images would bring little: twice as many about {told}."
        return f"Twice the images would bring about {told}."

    def __str__(self) -> str:
        """A table, and what it means."""
        rows = [["images", self.figure, "folds", "C"]]
        for images, mean, column, c in zip(
            self.images.tolist(), self.means, self.curves.T, self.chosen, strict=True
        ):
            rows.append([f"{images:,}", f"{mean:.3f}", f"{column.min():.3f} to {column.max():.3f}", f"{c:g}"])
        limit, scale, exponent = self.law.limit, self.law.scale, self.law.exponent
        return "\n".join(
            [
                format_table(rows),
                "",
                f"{self.figure} of n images: about {limit:.3f} - {scale:.3g} * n^-{exponent:.3g}",
                f"All {count_of(self.available, 'image')}: about {float(self.law(self.available)):.3f}; "
                f"{self.gain.more:,}: about {float(self.law(self.gain.more)):.3f}",
                self.sentence,
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        points = zip(self.images.tolist(), self.means.tolist(), self.curves.T.tolist(), strict=True)
        return {
            "data": self.name,
            "figure": self.figure,
            "images": self.available,
            "points": [{"images": n, "mean": mean, "folds": folds} for n, mean, folds in points],
            "c": list(self.chosen),
            "law": asdict(self.law),
            "twice": asdict(self.gain),
            "sentence": self.sentence,
            **self.identity,
        }


def learning_curve(cache: Cache | PathLike, name: str | None = None, *, seed: int = 0) -> LearningCurve:
    """Measure the learning curve of a data set on its images for training and validation.

    Args:
        cache: The cache, its folder, or a folder of caches.
        name: The data set; None for the only one.
        seed: Of the folds, and of the parts of the images.

    Raises:
        CacheError: There is no such cache or data set, or it is damaged.
        DataError: There are too few images or classes.
    """
    features = Features.of(cache, name).part(*TO_TRAIN)
    return curve_of(features, seed=seed)


def curve_of(features: Features, *, seed: int = 0) -> LearningCurve:
    """The learning curve of images whose features are known; see `learning_curve`."""
    task, classes = features.task, len(features.class_names)
    if classes < 2 or len(features) < 2 * _PARTS:
        raise DataError(
            f"A learning curve needs two classes, and {2 * _PARTS} images to train on. Received: "
            f"{count_of(classes, 'class')}, {count_of(len(features), 'image')}"
        )
    targets, units = LINKS[task].targets(features.labels, classes), units_of(features.rows, features.groups)
    dealt = deal_repeatedly(targets, units, folds=FOLDS, repeats=_repeats(len(units)), seed=seed)
    pairs = [(fold != n, fold == n) for fold in dealt for n in range(fold.max() + 1)]
    pairs = pairs[:_FEW_FOLDS] if len(units) >= _LARGE else pairs
    random = np.random.default_rng(seed)
    parts = [_nested(targets, units, np.flatnonzero(own), random) for own, _ in pairs]
    held = [np.flatnonzero(is_held) for _, is_held in pairs]
    first = min(len(pairs), int(dealt[0].max()) + 1)
    rows, measure = along_axes(features.rows), _MEASURES[task]
    points: list[tuple[float, list[float], float]] = []
    grid = C_GRID
    for part in reversed(range(_PARTS)):  # all images first: their C is near that of fewer
        splits = [(own[number <= part], out) for (own, number), out in zip(parts, held, strict=True)]
        found = hold_out_along(
            Folded(rows, features.labels, targets, task, splits, first), grid, is_rough=True
        )
        figures = [measure(features.labels[o], p) for o, p in zip(held, found.probabilities, strict=True)]
        points.append((float(np.mean([len(own) for own, _ in splits])), figures, found.best["c"]))
        grid = _near(found.best["c"])
    return _curve(features, points[::-1], first)


def _curve(features: Features, points: list[tuple[float, list[float], float]], folds: int) -> LearningCurve:
    images = np.array([round(count) for count, *_ in points])
    curves = np.array([figures for _, figures, _ in points]).T
    known = ~np.isnan(curves).any(axis=0)
    images, curves = images[known], curves[:, known]
    count = len(features)
    gain = estimate_gain(images, curves, count, 2 * count, drawn=folds)
    return LearningCurve(
        features.name,
        next(iter(HEADLINES[features.task].values())),
        count,
        images,
        curves,
        law_of(gain, images, curves.mean(axis=0)),
        gain,
        tuple(c for (*_, c), is_known in zip(points, known, strict=True) if is_known),
        features.identity,
    )


def _repeats(images: int) -> int:
    return next((repeats for below, repeats in _REPEATS if images < below), 1)


def _nested(
    targets: np.ndarray, units: np.ndarray, own: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Some images, and in which tenth each of them is: the first k tenths are a part of the images."""
    return own, deal(targets[own], units[own], _PARTS, random)


def _near(c: float) -> tuple[float, ...]:
    place = C_GRID.index(c) if c in C_GRID else len(C_GRID) // 2
    return C_GRID[max(0, place - 1) : place + 2]


def _points(gain: Gain) -> str:
    return f"{100 * gain.low:+.1f} to {100 * gain.high:+.1f}"


def require_pictures() -> None:
    """Raise OptionError where `new_picture` names one that cannot be made."""
    files.require_writable(Path(_ROOT))


def new_picture(name: str) -> Path:
    """A picture in `curves` that is not there yet, by the name of a data set."""
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    paths = (Path(_ROOT) / f"{each}.png" for each in names)
    return next(path for path in paths if not any(map(os.path.lexists, _both(path))))


def require_picture(path: Path) -> None:
    """Raise OptionError for a picture that is there, or cannot be made: before the work begins."""
    if path.suffix.lower() != ".png":
        raise OptionError(f"--out names a PNG file, such as curve.png. Received: {path}")
    for each in _both(path):
        files.require_new(each)


def write_curve(curve: LearningCurve, path: Path) -> tuple[Path, Path]:
    """Draw a curve as a PNG file, and write its numbers beside it as JSON; neither is written over another.

    Returns:
        Both files.

    Raises:
        OptionError: One of them is there, with other content, or the name does not end in .png.
    """
    require_picture(path)
    picture, numbers = _both(path)
    with files.new_path(numbers) as temporary:
        files.write_json(temporary, curve.to_dict())
    with files.new_path(picture) as temporary:
        draw_learning(curve.images, curve.curves, curve.law, curve.gain, curve.figure, temporary)
    return picture, numbers


def _both(path: Path) -> tuple[Path, Path]:
    return path, path.with_suffix(".json")

"""Cross-validation of a head: the figures of images that it was not fitted on, and how sure they are.

The figures of a repeat are those of all its out-of-fold predictions together; their mean over the repeats is
told. The 95 % interval is a bootstrap over the images (Efron and Tibshirani, 1993, chapter 13). One from the
spread of the folds, as with the t distribution, is too narrow, as folds share most of their training images,
and has no unbiased estimate (Bengio and Grandvalet, "No Unbiased Estimator of the Variance of K-Fold
Cross-Validation", 2004): the spread is told beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastcls import files
from fastcls.cache.store import Cache
from fastcls.data.csv_table import write_table
from fastcls.evaluation.judges import HEADLINES, JUDGES
from fastcls.files import PathLike
from fastcls.runs import FOLDS as FOLDS_FILE
from fastcls.runs import OUT_OF_FOLD
from fastcls.specs import FoldSpec, HeadSpec, TrainConfig
from fastcls.specs.options import as_spec
from fastcls.training.cross_validator import Folding, prepare_folds, validate_folds
from fastcls.training.head_trainer import prepare_training
from fastcls.training.heads.folds import FOLDS
from fastcls.training.loop.thresholds import choose_thresholds
from fastcls.training.out_of_fold import OutOfFold
from fastcls.wording import count_of


@dataclass(frozen=True)
class Figure:
    """A figure of cross-validation.

    Attributes:
        mean: Over the repeats, each of all its predictions.
        interval: 95 %, by a bootstrap over the images; None where it is undefined.
        by_repeat: The figure of each repeat.
        by_fold: That of each fold of each repeat: None where it is undefined.
    """

    mean: float
    interval: tuple[float, float] | None
    by_repeat: tuple[float, ...]
    by_fold: tuple[float | None, ...]

    @property
    def deviation(self) -> float:
        """Standard deviation over the folds; 0 of one."""
        known = [value for value in self.by_fold if value is not None]
        return float(np.std(known, ddof=1)) if len(known) > 1 else 0.0

    def __str__(self) -> str:
        interval = f" [{self.interval[0]:.3f}, {self.interval[1]:.3f}]" if self.interval else ""
        return f"{self.mean:.3f}{interval}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "deviation_of_folds": self.deviation}


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """What cross-validation found.

    Attributes:
        folding: What was cross-validated, how, and on which images.
        predictions: Of each image by heads that were not fitted on it.
        thresholds: With several labels per image, chosen on these predictions.
        figures: By name, as in `Figures.scores`; those to be told of before all others.
        classes: The figures of each class in the first repeat.
    """

    folding: Folding
    predictions: OutOfFold
    thresholds: tuple[float, ...] | None
    figures: dict[str, Figure]
    classes: list[dict[str, Any]]

    def __repr__(self) -> str:
        return f"<CrossValidation of {self.folding.training.spec.kind}: {self.headline}>"

    @property
    def headline(self) -> str:
        """The figures in words."""
        names = HEADLINES[self.folding.task]
        return ", ".join(f"{words} {self.figures[name]}" for name, words in names.items())

    def __str__(self) -> str:
        """For people: the figures, and how far folds and repeats differ."""
        folding, (name, words) = self.folding, next(iter(HEADLINES[self.folding.task].items()))
        figure = self.figures[name]
        known = [value for value in figure.by_fold if value is not None]
        repeats, count = folding.spec.repeats, int(self.predictions.fold.max()) + 1
        times = f", {repeats} times" if repeats > 1 else ""
        lines = [
            f"Cross-validation in {count} folds of {count_of(len(folding.samples), 'image')}{times}: "
            f"{self.headline}",
            f"Folds: {words} {min(known):.3f} to {max(known):.3f}, standard deviation {figure.deviation:.3f}",
            "In brackets: 95 % bootstrap intervals over the images",
        ]
        if self.predictions.best:
            step = folding.training.spec.traits.step
            value = self.predictions.best[step.name]
            lines.append(f"Chosen for all folds: {step.one} {value:g}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """As folds.json has it."""
        folding = self.folding
        return {
            "head": folding.training.spec.kind,
            "folds": int(self.predictions.fold.max()) + 1,
            "repeats": folding.spec.repeats,
            "group": folding.spec.group,
            "seed": folding.training.config.seed,
            "images": len(folding.samples),
            "chosen": self.predictions.best,
            "history": self.predictions.history,
            "thresholds": self.thresholds,
            "interval": "95 %, percentile bootstrap over the images of out-of-fold predictions",
            "figures": {name: figure.to_dict() for name, figure in self.figures.items()},
            "classes": self.classes,
        }

    def prediction_table(self) -> tuple[list[str], Iterator[list[Any]]]:
        """Columns and rows of out_of_fold.csv: means over the repeats, and the fold in each of them."""
        folding = self.folding
        names, task = folding.training.chosen.class_names, folding.task
        further = (f"fold_{number}" for number in range(2, folding.spec.repeats + 1))
        columns = ["path", task.column, "predicted", "confidence", "fold", *further]
        return [*columns, *(f"p:{name}" for name in names)], self._prediction_rows()

    def _prediction_rows(self) -> Iterator[list[Any]]:
        folding, probabilities = self.folding, self.predictions.probabilities
        found = _judge(folding, probabilities, self.thresholds)[1]
        folds = (self.predictions.fold.T + 1).tolist()
        for labels, row, fold, numbers in zip(
            folding.samples.labels, found, folds, probabilities.tolist(), strict=True
        ):
            predicted = (row.predicted,) if isinstance(row.predicted, str) else row.predicted
            named = [folding.task.write_cell(each) for each in (labels, predicted)]
            yield [row.path, *named, f"{row.confidence:.6f}", *fold, *map("{:.6f}".format, numbers)]

    def write(self, folder: Path) -> None:
        """Write folds.json and out_of_fold.csv into a folder that is there."""
        files.write_json(folder / FOLDS_FILE, self.to_dict())
        with files.atomic_path(folder / OUT_OF_FOLD) as path:
            write_table(path, *self.prediction_table())


def cross_validate(
    cache: Cache | PathLike,
    head: HeadSpec | str | None = None,
    config: TrainConfig | None = None,
    *,
    folds: int = FOLDS,
    repeats: int = 1,
    group: str | None = None,
    progress: bool = False,
) -> CrossValidation:
    """Cross-validate a head on the training and validation images of a cache, not on the test part.

    Args:
        cache: The bottlenecks, or the path of the cache.
        head: What to train, or the name of its kind; see `train_head`.
        config: How to train it; its seed deals the images.
        folds: How many.
        repeats: How often the images are dealt anew.
        group: See `FoldSpec.group`.
        progress: Show a bar on stderr.

    Raises:
        CacheError: The cache is partial, stale or damaged.
        DataError: Fewer images may be apart than there are folds.
        OptionError: The head does not fit, or an option has no effect on it.
    """
    spec = None if head is None else as_spec(HeadSpec, head, "head", named=True)
    training = prepare_training(Cache.of(cache), spec, as_spec(TrainConfig, config, "config"))
    folding = prepare_folds(training, FoldSpec(folds, repeats, group))
    return judge_folds(folding, validate_folds(folding, progress=progress))


def judge_folds(folding: Folding, found: OutOfFold) -> CrossValidation:
    """The figures of out-of-fold predictions."""
    thresholds = _thresholds(folding, found.probabilities)
    whole = [_judge(folding, part, thresholds)[0] for part in found.by_repeat]
    scores = [figures.scores() for figures in whole]
    by_fold = [
        _judge(folding, part, thresholds, np.flatnonzero(fold == number))[0].scores()
        for part, fold in zip(found.by_repeat, found.fold, strict=True)
        for number in range(fold.max() + 1)
    ]
    figures = {
        name: Figure(
            float(np.mean([row[name] for row in scores])),
            _mean_interval([one.intervals.get(name) for one in whole]),
            tuple(float(row[name]) for row in scores),
            tuple(_known(row[name]) for row in by_fold),
        )
        for name in HEADLINES[folding.task]
    }
    return CrossValidation(folding, found, thresholds, figures, whole[0].class_dicts())


def _thresholds(folding: Folding, probabilities: np.ndarray) -> tuple[float, ...] | None:
    """Those of several labels, chosen on predictions of images that had no part in them; else None."""
    names, asked = folding.training.chosen.class_names, folding.training.config.threshold
    if folding.task.default_thresholds(len(names)) is None:
        return None
    if isinstance(asked, float):
        return (asked,) * len(names)
    return choose_thresholds(asked or "single", folding.labels, probabilities, names)


def _judge(
    folding: Folding,
    probabilities: np.ndarray,
    thresholds: tuple[float, ...] | None,
    places: np.ndarray | None = None,
) -> tuple[Any, tuple[Any, ...]]:
    """The figures of some of the images, and what was predicted for each."""
    chosen = np.arange(len(folding.labels)) if places is None else places
    samples = folding.samples.take(chosen)
    known = [*zip(samples.paths, samples.labels, strict=True)]
    names = folding.training.chosen.class_names
    return JUDGES[folding.task](known, folding.labels[chosen], probabilities[chosen], names, thresholds)


def _mean_interval(intervals: list[tuple[float, float] | None]) -> tuple[float, float] | None:
    """The mean of each end: the repeats predict the same images."""
    known = [bounds for bounds in intervals if bounds]
    if not known:
        return None
    low, high = np.mean(known, axis=0).tolist()
    return low, high


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)

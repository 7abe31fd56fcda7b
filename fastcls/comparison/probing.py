"""How well the classes can be told by the bottlenecks of a cache: a cross-validated logistic regression.

Ranking bases by such a probe is what works; scores that need no fit, such as LogME, rank them much worse
(https://arxiv.org/abs/2510.06448).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastcls.cache.store import Cache
from fastcls.errors import DataError
from fastcls.evaluation.features import Features
from fastcls.evaluation.paired import Outcome
from fastcls.specs import HeadSpec
from fastcls.specs.comparing import ProbeSpec
from fastcls.tasks import Task
from fastcls.training.heads.folds import Folded, hold_out
from fastcls.training.heads.links import LINKS
from fastcls.training.out_of_fold import deal_repeatedly, require_separable
from fastcls.training.rows.selection import unit_numbers

_TEST = "test"


@dataclass(frozen=True, eq=False)
class CommonImages:
    """The images that all caches have a row of, and how they are dealt: the same for all of them.

    Attributes:
        paths: Sorted: those to rank by, then those for testing.
        count: How many are to rank by.
        class_names: Of these.
        labels: Of all, encoded by the task.
        task: What the labels are of.
        folds: (R, count) int, the fold in which each image is held out.
    """

    paths: tuple[str, ...]
    count: int
    class_names: tuple[str, ...]
    labels: np.ndarray
    task: Task
    folds: np.ndarray

    @classmethod
    def of(cls, caches: Sequence[Cache], spec: ProbeSpec) -> CommonImages:
        """Find what some caches of a data set have in common.

        An image that is for testing in any of them is for testing.

        Raises:
            DataError: There are fewer than two classes to tell apart, or no two images that may be apart.
            CacheError: A cache is damaged.
        """
        tables = [_readable(cache) for cache in caches]
        first, *others = tables
        tests = {path for table in tables for path, row in table.items() if row[1] == _TEST}
        paths = sorted(path for path in first if all(path in table for table in others))
        ranked = [path for path in paths if path not in tests]
        names = sorted({name for path in ranked for name in first[path][0]})
        if len(names) < 2:
            raise DataError(
                f"{caches[0].listing.name} has {len(ranked):,} images to rank bases by, of "
                f"{len(names)} classes: there is nothing to tell apart. Expected two or more classes"
            )
        tested = [path for path in paths if path in tests and {*first[path][0]} <= {*names}]
        task = caches[0].listing.report().task
        labels = task.encode([first[path][0] for path in (*ranked, *tested)], names)
        groups = spec.groups(ranked, [first[path][3] for path in ranked])
        units = unit_numbers([first[path][2] for path in ranked], groups)
        targets = LINKS[task].targets(labels[: len(ranked)], len(names))
        require_separable(units, targets, names, spec.folds)
        folds = deal_repeatedly(targets, units, folds=spec.folds, repeats=spec.repeats, seed=spec.seed)
        return cls((*ranked, *tested), len(ranked), tuple(names), labels, task, folds)

    @property
    def test_count(self) -> int:
        """How many are for testing."""
        return len(self.paths) - self.count


@dataclass(frozen=True, eq=False)
class Probed:
    """What a probe predicts.

    Attributes:
        outcomes: Of the images to rank by, each by a fit of the other folds: one per repeat.
        test: Of the images for testing, by a fit of all others; None without such.
        c: The inverse strength of the penalty, chosen once for all fits by the loss out of fold.
    """

    outcomes: tuple[Outcome, ...]
    test: Outcome | None
    c: float


def probe(cache: Cache, images: CommonImages) -> Probed:
    """Fit logistic regressions on a cache, one per fold.

    Args:
        cache: One of those that have the images.
        images: How they are dealt.

    Raises:
        CacheError: The cache is damaged.
    """
    features = Features.of(cache)
    place = {path: number for number, path in enumerate(features.paths)}
    rows = features.rows[[place[path] for path in images.paths]]
    classes, task = len(images.class_names), images.task
    targets = LINKS[task].targets(images.labels, classes)
    splits = [
        (np.flatnonzero(folds != fold), np.flatnonzero(folds == fold))
        for folds in images.folds
        for fold in range(folds.max() + 1)
    ]
    chosen_by = len(splits) // len(images.folds)
    tested = np.arange(images.count, len(images.paths))
    if len(tested):
        splits.append((np.arange(images.count), tested))
    held = hold_out(HeadSpec("logreg"), Folded(rows, images.labels, targets, task, splits, chosen_by))
    output = np.empty((len(images.folds), images.count, classes), np.float32)
    for number in range(images.folds.shape[0] * chosen_by):
        output[number // chosen_by, splits[number][1]] = held.probabilities[number]
    labels = images.labels[: images.count]
    outcomes = tuple(Outcome.of(task, labels, probabilities) for probabilities in output)
    test = Outcome.of(task, images.labels[tested], held.probabilities[-1]) if len(tested) else None
    return Probed(outcomes, test, held.best["c"])


def _readable(cache: Cache) -> dict[str, tuple[tuple[str, ...], str, str, str]]:
    """Class names, split, digest and group of each image that has a row, by its path."""
    samples = cache.listing.samples()
    present = cache.index().locate(samples.digests).present
    known = zip(
        samples.labels, samples.splits, samples.digests.astype("U32").tolist(), samples.groups, strict=True
    )
    return {path: row for path, row, is_there in zip(samples.paths, known, present, strict=True) if is_there}

"""The result of a test, read from its folder: RUN/test/NAME/."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastcls import files
from fastcls.errors import OptionError
from fastcls.metrics_record import METRICS, read_metrics
from fastcls.runs import TESTS, Run
from fastcls.tasks import Task

PREDICTIONS, THRESHOLDS, RELIABILITY = "predictions.csv", "thresholds.csv", "reliability.csv"
_PROBABILITY = "p:"
logger = logging.getLogger(__name__)
Table = dict[str, list[float | None]]


@dataclass(frozen=True, eq=False)
class TestResult:
    """What a test has found of each image.

    Attributes:
        name: Of its folder.
        metrics: What metrics.json holds.
        paths: Of the images, relative to `root`.
        labels: Indices of the classes of each image.
        predicted: Indices of the classes that were predicted.
        confidence: (N,) float, how sure the answer is: the probability of the wrongly predicted class, or
            that of the least sure decision where all are right. NaN where the tables do not tell.
        probabilities: (N, C) float32, or None where they were left out.
        thresholds: The columns of thresholds.csv; empty without it.
        reliability: The columns of reliability.csv; empty without it.
    """

    name: str
    metrics: Mapping[str, Any]
    paths: tuple[str, ...]
    labels: tuple[tuple[int, ...], ...]
    predicted: tuple[tuple[int, ...], ...]
    confidence: np.ndarray
    probabilities: np.ndarray | None
    thresholds: Table
    reliability: Table

    @property
    def on(self) -> Mapping[str, Any]:
        """On what it was tested: see `evaluation.tested_on.TestedOn`."""
        known: Mapping[str, Any] = self.metrics.get("tested_on", {})
        return known

    @property
    def root(self) -> str:
        """Folder that the paths are relative to."""
        return str(self.on.get("root", ""))

    @property
    def correct(self) -> np.ndarray:
        """(N,) bool: whether exactly the classes of the image were predicted."""
        pairs = zip(self.labels, self.predicted, strict=True)
        return np.array([{*own} == {*said} for own, said in pairs], bool)


def choose_test(run: Run, name: str | None = None) -> str | None:
    """The name of the test that a report shows: the one asked for; None without a test.

    By default it is the latest of those with the fewest images that the run was trained on.

    Raises:
        OptionError: There is no such test.
    """
    there = sorted(path.parent for path in (run.folder / TESTS).glob(f"*/{METRICS}"))
    if name is not None and name not in {folder.name for folder in there}:
        told = ", ".join(folder.name for folder in there) or "none"
        raise OptionError(f"{run.folder} has no test {name!r}. It has: {told}. See `fastcls test`")
    known = run.tests()
    for folder in there:
        if name is None and folder.name not in known:
            logger.warning("%s cannot be read: this test is left out", folder / METRICS)
    on = {each: dict(figures.get("tested_on", {})) for each, figures in known.items()}

    def rank(each: str) -> tuple[int, str, str]:
        seen = sum(dict(on[each].get("seen") or {}).values())
        return -seen, str(on[each].get("date", "")), each

    return name or max(known, key=rank, default=None)


def read_test(run: Run, name: str) -> TestResult:
    """Read a test of a run.

    Raises:
        OptionError: Its tables are missing or damaged.
    """
    folder = run.folder / TESTS / name
    try:
        return _read(folder, run.record["class_names"], run.task)
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise OptionError(
            f"The test in {folder} cannot be read ({error or type(error).__name__}). Test again with another "
            "--out, or give another --test"
        ) from error


def _read(folder: Path, class_names: Sequence[str], task: Task) -> TestResult:
    index = {name: label for label, name in enumerate(class_names)}
    rows = _read_rows(folder / PREDICTIONS)

    def encoded(column: str) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(sorted(index[name] for name in task.read_cell(row[column]))) for row in rows)

    labels, predicted = encoded(task.column), encoded("predicted")
    probabilities = _probabilities(rows, class_names)
    return TestResult(
        name=folder.name,
        metrics=read_metrics(folder),
        paths=tuple(row["path"] for row in rows),
        labels=labels,
        predicted=predicted,
        confidence=_confidence(rows, probabilities, labels, predicted),
        probabilities=probabilities,
        thresholds=_read_columns(folder / THRESHOLDS),
        reliability=_read_columns(folder / RELIABILITY),
    )


def _read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(**files.CSV_TEXT) as file:
        return [*csv.DictReader(file)]


def _read_columns(path: Path) -> Table:
    """The columns of a table of numbers; None of a cell without one."""
    if not path.is_file():
        return {}
    rows = _read_rows(path)
    return {name: [_value(row[name]) for row in rows] for name in (rows[0] if rows else ())}


def _value(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def _probabilities(rows: Sequence[Mapping[str, str]], class_names: Sequence[str]) -> np.ndarray | None:
    columns = [_PROBABILITY + name for name in class_names]
    if not rows or any(column not in rows[0] for column in columns):
        return None
    return np.array([[float(row[column]) for column in columns] for row in rows], np.float32)


def _confidence(
    rows: Sequence[Mapping[str, str]],
    probabilities: np.ndarray | None,
    labels: Sequence[tuple[int, ...]],
    predicted: Sequence[tuple[int, ...]],
) -> np.ndarray:
    if probabilities is None:
        return np.array([float(row.get("confidence") or "nan") for row in rows])
    columns = np.arange(probabilities.shape[1])
    said, has = (
        np.array([np.isin(columns, own) for own in each]).reshape(probabilities.shape)
        for each in (predicted, labels)
    )
    wrong, missed = said & ~has, has & ~said
    decided = np.where(wrong.any(axis=1)[:, None], wrong, missed)
    is_wrong = decided.any(axis=1)
    sure = np.where(said, probabilities, 1 - probabilities).astype(float)
    worst = np.where(decided, sure, -np.inf).max(axis=1)
    return np.where(is_wrong, worst, sure.min(axis=1))

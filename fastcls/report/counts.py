"""How the tested images were predicted, as a report shows it: by task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastcls.report.tested import TestResult
from fastcls.tasks import ONE_LABEL, SEVERAL_LABELS, Task

SHOWN_CLASSES = 30  # of a confusion map: those of the most mistakes


def _confusion(result: TestResult, classes: int) -> np.ndarray:
    """(C, C) int, [true, predicted]."""
    labels, predicted = (np.array(own, int).reshape(-1) for own in (result.labels, result.predicted))
    return np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def _confusion_map(result: TestResult, classes: int) -> dict[str, Any]:
    confusion = _confusion(result, classes)
    errors = confusion.sum(axis=0) + confusion.sum(axis=1) - 2 * confusion.diagonal()
    shown = np.sort(np.argsort(-errors, kind="stable")[:SHOWN_CLASSES])
    rows = confusion[np.ix_(shown, shown)]
    shares = rows / np.maximum(confusion.sum(axis=1)[shown][:, None], 1)
    return {"kind": "map", "classes": shown.tolist(), "counts": rows.tolist(), "shares": shares.tolist()}


def _two_by_two(result: TestResult, classes: int) -> dict[str, Any]:
    has, said = (_indicators(own, classes) for own in (result.labels, result.predicted))
    parts = (has & said, has & ~said, ~has & said, ~has & ~said)
    counts = np.stack([part.sum(axis=0) for part in parts], axis=1)
    wholes = counts.reshape(-1, 2, 2).sum(axis=2, keepdims=True)
    shares = (counts.reshape(-1, 2, 2) / np.maximum(wholes, 1)).reshape(-1, 4)
    return {"kind": "2x2", "counts": counts.tolist(), "shares": shares.tolist()}


def _indicators(labels: tuple[tuple[int, ...], ...], classes: int) -> np.ndarray:
    found = np.zeros((len(labels), classes), bool)
    for place, own in enumerate(labels):
        found[place, list(own)] = True
    return found


COUNTS: dict[Task, Callable[[TestResult, int], dict[str, Any]]] = {
    ONE_LABEL: _confusion_map,
    SEVERAL_LABELS: _two_by_two,
}
CONFUSIONS: dict[Task, Callable[[TestResult, int], np.ndarray | None]] = {
    ONE_LABEL: _confusion,
    SEVERAL_LABELS: lambda result, classes: None,
}


def _at_own_thresholds(result: TestResult, classes: int) -> dict[str, float | None]:
    """Precision, recall and coverage at the thresholds of the run, as `cover_several` has them of one."""
    has, said = (_indicators(own, classes) for own in (result.labels, result.predicted))
    hits, covered = int((has & said).sum()), said.any(axis=1)
    covered = said.any(axis=1)
    shares = {
        "precision": (hits, said.sum()),
        "recall": (hits, has.sum()),
        "coverage": (covered.sum(), len(said)),
    }
    return {name: int(part) / int(whole) if whole else None for name, (part, whole) in shares.items()}


# The figures of the answers that the run gives, where its thresholds are several.
OWN: dict[Task, Callable[[TestResult, int], dict[str, float | None]]] = {
    ONE_LABEL: lambda result, classes: {},
    SEVERAL_LABELS: _at_own_thresholds,
}

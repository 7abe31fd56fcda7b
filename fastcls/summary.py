"""What a run has come to: its figures, what to look at first, and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastcls.evaluation.tester import Tested
from fastcls.evaluation.text_table import shorten
from fastcls.pipeline import RunResult
from fastcls.tasks import ONE_LABEL, SEVERAL_LABELS, Task
from fastcls.wording import count_of

# Figures of a test, the first two that it has.
_HEADLINES = {"accuracy": "accuracy", "macro_f1": "macro F1", "mean_auroc": "mean AUROC"}
_SHOWN = 2
_NAME_COLUMNS = 24


@dataclass(frozen=True)
class Summary:
    """What is said at the end of a run.

    Attributes:
        figures: The headline figures of the test with their intervals; "" without a test.
        findings: What to look at first, a line each.
        commands: What to do next: a command line, and what it shows.
    """

    figures: str
    findings: tuple[str, ...]
    commands: tuple[tuple[str, str], ...]


def summarize(result: RunResult, out: Path) -> Summary:
    """Say what a run has come to.

    Args:
        result: What `run_planned` has made.
        out: The run folder.
    """
    listing, failures = result.cache.listing, result.extraction.failures
    findings = list(_findings(result.test, result.classifier.task)) if result.test else []
    if failures:
        findings.append(f"{count_of(failures, 'unreadable image')}: {listing.failures_path}")
    return Summary(
        figures_of(result.test.evaluation.to_dict()) if result.test else "",
        tuple(findings),
        commands_for(out, result.cache.folder, listing.name),
    )


def figures_of(figures: dict[str, Any]) -> str:
    """The headline figures of a test with their 95 % intervals, where they are known.

    >>> figures_of({"images": 200, "accuracy": 0.835, "intervals": {"accuracy": [0.784, 0.884]}})
    'accuracy 0.835 [0.784, 0.884] of 200 test images'
    """
    known = [name for name in _HEADLINES if figures.get(name) is not None][:_SHOWN]
    bounds = figures.get("intervals", {})
    shown = [f"{_HEADLINES[name]} {figures[name]:.3f}{_interval(bounds.get(name))}" for name in known]
    return f"{', '.join(shown)} of {count_of(figures['images'], 'test image')}"


def _interval(bounds: Any) -> str:
    return f" [{bounds[0]:.3f}, {bounds[1]:.3f}]" if bounds else ""


def commands_for(run: Path, cache: Path, name: str) -> tuple[tuple[str, str], ...]:
    """Commands that go on from a run, with what each shows; those that need images come last."""
    place = shlex.quote(str(run))
    return (
        (f"fastcls report {place}", "all of it on one page"),
        (f"fastcls audit {shlex.quote(str(cache))} --name {shlex.quote(name)}", "doubtful labels"),
        (f"fastcls explain {place} IMAGE... --out FOLDER", "where it sees a class"),
        (f"fastcls predict {place} IMAGE...", "classes of new images"),
    )


# What to look at first


def _findings(tested: Tested, task: Task) -> Iterator[str]:
    evaluation = tested.evaluation
    mistakes = _MISTAKES[task](evaluation)
    if not mistakes:
        yield f"nothing: all {count_of(evaluation.image_count, 'test image')} are predicted right"
        return
    yield mistakes
    rows = [row for row in evaluation.class_dicts() if row["support"]]
    if len(rows) > 1 and (weakest := min(rows, key=lambda row: row["recall"]))["recall"] < 1:
        images = count_of(weakest["support"], "image")
        yield f"{_named(weakest['class_name'])}: lowest recall, {weakest['recall']:.3f} of {images}"


def _most_confused(evaluation: Any) -> str:
    """The two classes that are most often taken for each other; "" where none are."""
    both = evaluation.confusion + evaluation.confusion.T
    np.fill_diagonal(both, 0)
    if not both.any():
        return ""
    one, other = sorted(np.unravel_index(both.argmax(), both.shape))
    names = [_named(evaluation.class_names[label]) for label in (one, other)]
    images = count_of(int(evaluation.support[[one, other]].sum()), "image")
    return f"{names[0]} and {names[1]}: {both[one, other]:,} of {images} taken for each other"


def _most_mistaken(evaluation: Any) -> str:
    """The class that is most often missed or found where it is not; "" where none is."""
    missed, extra = evaluation.confusion[:, 1], evaluation.confusion[:, 2]
    if not (missed + extra).any():
        return ""
    label = int((missed + extra).argmax())
    images = count_of(int(evaluation.support[label]), "image")
    name = _named(evaluation.class_names[label])
    return f"{name}: missed in {missed[label]:,} of {images}, found in {extra[label]:,} without it"


_MISTAKES: dict[Task, Callable[[Any], str]] = {ONE_LABEL: _most_confused, SEVERAL_LABELS: _most_mistaken}


def _named(class_name: str) -> str:
    return shorten(class_name, _NAME_COLUMNS)

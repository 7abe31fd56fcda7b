"""What the tests of finished runs say of the same images."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastcls import files
from fastcls.errors import OptionError
from fastcls.evaluation.evaluator import PREDICTIONS
from fastcls.evaluation.paired import Outcome
from fastcls.evaluation.tested_on import MEMBER
from fastcls.runs import CLASSIFIER, TESTS, Run
from fastcls.tasks import Task
from fastcls.wording import count_of

_PROBABILITY = "p:"  # before the name of a class, in the columns of predictions.csv
_NAMED = 3  # runs in a message


@dataclass(frozen=True, eq=False)
class TestOfRun:
    """The test of a run on some images.

    Attributes:
        run: The run.
        folder: Where the test is.
        on: On what it was: see `TestedOn`.
        paths: Of the images that could be read, sorted.
        outcome: What was predicted for them.
    """

    run: Run
    folder: Path
    on: Mapping[str, Any]
    paths: tuple[str, ...]
    outcome: Outcome

    def take(self, paths: Sequence[str]) -> Outcome:
        """What was predicted for some of the images, in their order."""
        place = {path: number for number, path in enumerate(self.paths)}
        chosen = np.array([place[path] for path in paths], np.int64)
        own = self.outcome
        probabilities = None if own.probabilities is None else own.probabilities[chosen]
        return Outcome(own.labels[chosen], own.hits[chosen], probabilities)


def common_tests(runs: Sequence[Run]) -> list[TestOfRun]:
    """The tests of some runs on the same images: of several such, those of the most images.

    Raises:
        OptionError: There are none: the message says which commands make them. Or a table of predictions
            cannot be read.
    """
    known = [_tests(run) for run in runs]
    common = set.intersection(*({*tests} for tests in known))
    if not common:
        raise _no_common(runs, known)
    chosen = min(common, key=lambda digest: (-known[0][digest][1]["images"], digest))
    tests = [_read(run, *own[chosen]) for run, own in zip(runs, known, strict=True)]
    shared = set.intersection(*({*test.paths} for test in tests))
    if len(shared) < max(test.on["images"] - _unreadable(tests) for test in tests):
        raise OptionError(
            f"{_listed([test.folder for test in tests])} are of the same images, but named differently. Test "
            f"them on one folder: fastcls test RUN {shlex.quote(str(tests[0].on['data']))} --out NEW"
        )
    return tests


def _unreadable(tests: Sequence[TestOfRun]) -> int:
    return sum(test.on.get("unreadable", 0) for test in tests)


def _tests(run: Run) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Name of each test of the classifier in a run, and what it says of itself, by its images."""
    found: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for name, figures in run.tests().items():
        on = figures.get(MEMBER)
        if not isinstance(on, dict) or not {"digest", "model", "images", "data"} <= on.keys():
            continue
        is_whole = (run.folder / TESTS / name / PREDICTIONS).is_file()
        if is_whole and on["model"] == run.record["files"].get(CLASSIFIER):
            found.setdefault(on["digest"], (name, on))
    return found


def _no_common(
    runs: Sequence[Run], known: Sequence[Mapping[str, tuple[str, Mapping[str, Any]]]]
) -> OptionError:
    """What to do: test those runs that have no test on the images that most have one on."""
    counts: dict[str, int] = {}
    for tests in known:
        for digest in tests:
            counts[digest] = counts.get(digest, 0) + 1
    if not counts:
        names = _listed([run.folder for run in runs])
        return OptionError(f"{names} have no test yet. Make one of each: fastcls test RUN DATA")
    chosen = max(counts, key=lambda digest: counts[digest])
    tested, (name, on) = next(
        (run, tests[chosen]) for run, tests in zip(runs, known, strict=True) if chosen in tests
    )
    data = _as_data(tested.folder / TESTS / name, on)
    lacking = [run.folder for run, tests in zip(runs, known, strict=True) if chosen not in tests]
    commands = [f"fastcls test {shlex.quote(str(folder))} {data}" for folder in lacking]
    return OptionError(
        f"There is no test on the same images of all {count_of(len(runs), 'run')}. "
        f"{tested.folder} is tested on {count_of(on['images'], 'image')} of {on['data']}. Test the others on "
        "these, too:\n  " + "\n  ".join(commands)
    )


def _as_data(test: Path, on: Mapping[str, Any]) -> str:
    """How a command names the images of a test: a part that only the cache knows by the table of the test."""
    if on.get("part") == "all" or on.get("unreadable") or not on.get("root"):
        return f"{shlex.quote(str(on['data']))} --images all"
    root = shlex.quote(str(on["root"]))
    return f"{shlex.quote(str(test / PREDICTIONS))} --image-root {root} --images all"


def _read(run: Run, name: str, on: Mapping[str, Any]) -> TestOfRun:
    path = run.folder / TESTS / name / PREDICTIONS
    try:
        with path.open(**files.CSV_TEXT) as file:
            rows = sorted(csv.DictReader(file), key=lambda row: row["path"])
        outcome = _outcome(rows, run.task, run.record["class_names"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OptionError(
            f"{path} is damaged: {error!r}. Remove {path.parent} and test again: "
            f"fastcls test {shlex.quote(str(run.folder))} {shlex.quote(str(on['data']))}"
        ) from error
    return TestOfRun(run, path.parent, on, tuple(row["path"] for row in rows), outcome)


def _outcome(rows: Sequence[Mapping[str, str]], task: Task, class_names: Sequence[str]) -> Outcome:
    names = [task.read_cell(row[task.column]) for row in rows]
    predicted = [task.read_cell(row["predicted"]) for row in rows]
    hits = np.array([{*own} == {*said} for own, said in zip(names, predicted, strict=True)])
    columns = [_PROBABILITY + name for name in class_names]
    is_compact = not rows or any(column not in rows[0] for column in columns)
    values = [[float(row[column]) for column in columns] for row in rows] if not is_compact else None
    return Outcome(task.encode(names, class_names), hits, None if values is None else np.array(values))


def _listed(folders: Sequence[Path]) -> str:
    more = [f"{len(folders) - _NAMED} more"] if len(folders) > _NAMED else []
    *first, last = [*map(str, folders[:_NAMED]), *more]
    return f"{', '.join(first)} and {last}" if first else last

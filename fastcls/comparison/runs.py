"""Compare finished runs on the same test images."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastcls
from fastcls import files, runs
from fastcls.comparison.tests_of_runs import TestOfRun, common_tests
from fastcls.errors import OptionError
from fastcls.evaluation.paired import (
    Figure,
    McNemar,
    Measured,
    figures_of,
    mcnemar,
    measure,
    ranks_of,
    ties_in_words,
)
from fastcls.evaluation.text_table import format_table, shorten
from fastcls.files import PathLike
from fastcls.optional import frame
from fastcls.runs import Run
from fastcls.specs import as_list, differing
from fastcls.wording import count_of

if TYPE_CHECKING:
    import pandas

RESULT, TABLE = "comparison.json", "comparison.csv"
# Of the manifest of a cache.
_CACHE_FACTS = ("base", "weights", "layer", "pool", "normalize", "dtype", "precision")
_COLUMNS = 36  # of a value in the table of what differs
_LIKELY = 0.05
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RankedRun:
    """One run.

    Attributes:
        name: Its folder, as it was given.
        measured: The figures of its test by their names; the first ranks.
        test: Folder of the test.
        seen: How many of the images had a part in its training; None if that is unknown.
    """

    name: str
    measured: Mapping[str, Measured]
    test: Path
    seen: int | None

    @property
    def chief(self) -> Measured:
        """The figure that ranks."""
        return next(iter(self.measured.values()))

    def to_dict(self) -> dict[str, Any]:
        """All of it as values that JSON can hold; an estimate is [value, low, high]."""
        return {
            "run": self.name,
            "test": str(self.test),
            "figures": {name: own.estimate.to_list() for name, own in self.measured.items()},
            "difference_to_best": {name: own.behind.to_list() for name, own in self.measured.items()},
            "seen": self.seen,
        }


@dataclass(frozen=True)
class RunComparison:
    """Runs side by side on the same test images.

    Attributes:
        data: What was tested on.
        images: How many images all of them could read.
        figures: What was measured; the first ranks.
        candidates: The best first.
        mcnemar: The two best, by images that they have right.
        differing: Options, and facts such as the cache, that differ: the value of each run, the best first.
    """

    data: str
    images: int
    figures: tuple[Figure, ...]
    candidates: tuple[RankedRun, ...]
    mcnemar: McNemar
    differing: Mapping[str, tuple[str, ...]]

    def __repr__(self) -> str:
        ranked = ", ".join(f"{own.name} {own.chief.estimate.value:.3f}" for own in self.candidates)
        return f"<RunComparison on {count_of(self.images, 'image')}: {ranked}>"

    def table(self) -> str:
        """A row per run, the test of the two best, and what differs."""
        first, *others = [figure.title for figure in self.figures]
        rows = [["   run", first, "to the best", *others]]
        for place, own in zip(self.ranks, self.candidates, strict=True):
            behind = own.chief.behind.signed() if place > 1 else ""
            chief, *rest = [str(measured.estimate) for measured in own.measured.values()]
            rows.append([f"{place:>2} {own.name}", chief, behind, *rest])
        parts = [format_table(rows), "\n".join(self.sentences()), self._what_differs()]
        return "\n\n".join(filter(None, parts))

    @property
    def ranks(self) -> list[int]:
        """The rank of each candidate: those that tie share one."""
        return ranks_of([own.chief for own in self.candidates])

    def sentences(self) -> list[str]:
        """On what, which runs tie, and whether the two best differ by more than chance."""
        lines = [
            f"On the same {count_of(self.images, 'image')} of {self.data}, with 95 % intervals over these",
            *(
                f"{own.name}: {count_of(own.seen, 'image')} of these had a part in its training: its figures "
                "are not those of new images"
                for own in self.candidates
                if own.seen
            ),
        ]
        ranked = {own.name: own.chief for own in self.candidates}
        return [*lines, *ties_in_words(ranked, self.figures[0].title), *self._test_in_words()]

    def _test_in_words(self) -> list[str]:
        first, second = (own.name for own in self.candidates[:2])
        found, title = self.mcnemar, self.figures[-1].title
        if not found.only_first and not found.only_second:
            return [f"{first} and {second} have the same images right: there is no difference to test"]
        may = "could be chance" if found.p >= _LIKELY else "is unlikely to be chance"
        only = f"only {first} is right on {count_of(found.only_first, 'image')}"
        only += f", only {second} on {found.only_second:,}"
        return [f"McNemar's test of {title} (mid-p): {only}; p = {found.p:.2g}: the difference {may}"]

    def _what_differs(self) -> str:
        if not self.differing:
            return "They were asked for the same, of the same images"
        rows = [["differs in", *(f"[{place}]" for place in range(1, len(self.candidates) + 1))]]
        rows += [
            [name, *(shorten(value, _COLUMNS) for value in values)] for name, values in self.differing.items()
        ]
        return format_table(rows)

    def to_dict(self) -> dict[str, Any]:
        """All of it as values that JSON can hold."""
        return {
            "fastcls": fastcls.__version__,
            "data": self.data,
            "images": self.images,
            "ranked_by": self.figures[0].name,
            "runs": [own.to_dict() for own in self.candidates],
            "mcnemar": asdict(self.mcnemar),
            "differing": {name: list(values) for name, values in self.differing.items()},
        }

    def to_frame(self) -> pandas.DataFrame:
        """A row per run.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        names, *rows = self._lines()
        return frame(rows, names)

    def write(self, folder: Path) -> None:
        """Write comparison.json and comparison.csv into a new folder."""
        with files.atomic_folder(folder) as temporary:
            files.write_json(temporary / RESULT, self.to_dict())
            with (temporary / TABLE).open("w", **files.CSV_TEXT) as file:
                csv.writer(file).writerows(self._lines())

    def _lines(self) -> list[list[Any]]:
        ends = ("", "_low", "_high", "_to_best", "_to_best_low", "_to_best_high")
        heads = [f"{figure.name}{end}" for figure in self.figures for end in ends]
        lines: list[list[Any]] = [["rank", "run", *heads, "seen", "test"]]
        for place, own in zip(self.ranks, self.candidates, strict=True):
            pairs = [(each.estimate.to_list(), each.behind.to_list()) for each in own.measured.values()]
            values = [value for estimate, behind in pairs for value in (*estimate, *behind)]
            lines.append([place, own.name, *values, own.seen, str(own.test)])
        return lines


def are_runs(paths: Sequence[Path]) -> bool:
    """Whether paths are runs, and not data.

    Raises:
        OptionError: Some are, others are not.
    """
    found, others = ([path for path in paths if _is_run(path) is kind] for kind in (True, False))
    if found and others:
        raise OptionError(
            f"{others[0]} is not a run, {found[0]} is one. Give runs alone, or one data set with --base"
        )
    return bool(found)


def compare_runs(paths: Sequence[PathLike], *, folder: PathLike | None = None) -> RunComparison:
    """Put finished runs side by side, on test images that all of them were tested on.

    Nothing is forwarded: `fastcls test` has written what is compared. Different images are never mixed.

    Args:
        paths: Run folders, two or more; those that are unfinished are left out with a warning.
        folder: A new folder for comparison.json and comparison.csv; None for none.

    Raises:
        OptionError: There are no two runs, they were not all tested on the same images, or the folder is
            there.
    """
    given = [files.as_path(path, "paths") for path in as_list(paths, "paths", str, Path)]
    place = None if folder is None else files.as_path(folder, "folder")
    if place is not None:
        files.require_new(place)
    result = _compare(common_tests(_opened(given)))
    if place:
        result.write(place)
    return result


def _opened(paths: Sequence[Path]) -> list[Run]:
    found = []
    for path in dict.fromkeys(paths):
        if runs.is_begun(path):
            logger.warning(
                "%s is left out: its training has not ended. Run the same command to finish it", path
            )
        else:
            found.append(Run.open(path))
    tasks = {run.task: run for run in found}
    if len(tasks) > 1:
        one, other = list(tasks.items())[:2]
        raise OptionError(
            f"{one[1].folder} predicts {one[0]} per image, {other[1].folder} {other[0]}. Compare runs of one "
            "kind"
        )
    if len(found) < 2:
        raise OptionError(f"Two finished runs or more can be compared. Received: {len(found)}")
    return found


def _compare(tests: Sequence[TestOfRun]) -> RunComparison:
    paths = sorted(set.intersection(*({*test.paths} for test in tests)))
    outcomes = [test.take(paths) for test in tests]
    has_all = all(outcome.probabilities is not None for outcome in outcomes)
    figures = figures_of(tests[0].run.task, with_probabilities=has_all)
    measured = [measure([[outcome] for outcome in outcomes], figure) for figure in figures]
    order = sorted(range(len(tests)), key=lambda place: -measured[0][place].estimate.value)
    ranked = []
    for place in order:
        test, seen = tests[place], tests[place].on.get("seen")
        columns = {figure.name: own[place] for figure, own in zip(figures, measured, strict=True)}
        count = sum(seen.values()) if isinstance(seen, dict) else None
        ranked.append(RankedRun(str(test.run.folder), columns, test.folder, count))
    best, second = (outcomes[place].hits for place in order[:2])
    data, found = str(tests[0].on["data"]), _differing([tests[place].run for place in order])
    tested = mcnemar(best, second)
    return RunComparison(data, len(paths), figures, tuple(ranked), tested, found)


def _differing(ranked: Sequence[Run]) -> dict[str, tuple[str, ...]]:
    """What the runs are of, and what was asked for beyond: what is not the same in all of them."""
    facts = [_facts(run) for run in ranked]
    names = dict.fromkeys(name for own in facts for name in own)
    columns = {name: tuple(str(own.get(name, "-")) for own in facts) for name in names}
    found = {name: values for name, values in columns.items() if len({*values}) > 1}
    return found | differing([{**run.resolved, "cut": None} for run in ranked])


def _facts(run: Run) -> dict[str, Any]:
    """What its bottlenecks are of, and its images."""
    record, cache = run.record, run.record.get("cache")
    found = {"command": run.asked.get("command")}
    if isinstance(cache, dict):
        found |= {name: cache.get(name) for name in _CACHE_FACTS}
        found["size"] = "x".join(map(str, cache.get("size") or ()))
    counts = f"{record.get('train_count', '-')} + {record.get('val_count', '-')}"
    return {**found, "images (train + val)": counts, "digest of these": run.resolved.get("images", "-")}


def _is_run(path: Path) -> bool:
    return path.is_dir() and (runs.is_complete(path) or runs.is_begun(path))

"""What every part of the benchmark is told, and how contenders take turns."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.figures import Spread
from benchmarks.fresh import Run, run_fresh


@dataclass(frozen=True)
class Setup:
    """What is measured.

    Attributes:
        photos: Folder of classes, prepared.
        folder: Temporary folder for everything else.
        base: The base.
        weights: Its weights, as in `BaseSpec`.
        repeats: How often each contender runs.
        epochs: Of the training without a cache.
        large_images: How many large photos.
        counts: How many tiny images the growth is measured at.
        contenders: Those of the extraction that run; empty for all.
        before: Checkout of an earlier version to compare whole commands with; None for none.
    """

    photos: Path
    folder: Path
    base: str
    weights: str | None
    repeats: int
    epochs: int
    large_images: int
    counts: tuple[int, ...]
    contenders: tuple[str, ...]
    before: Path | None = None

    @property
    def base_options(self) -> dict[str, Any]:
        """As arguments of a contender."""
        return {"base": self.base, "weights": self.weights}

    @property
    def options(self) -> dict[str, Any]:
        """As arguments of a contender that reads the photos."""
        return {"photos": str(self.photos), **self.base_options}

    def fresh(self, function: Callable[..., dict[str, Any]], **options: Any) -> Run:
        """Run a contender in a fresh process with a fresh folder `out`."""
        with tempfile.TemporaryDirectory(dir=self.folder) as out:
            return run_fresh(function, out=out, **options)


Runs = Mapping[str, list[Run]]


def in_turn(actions: Mapping[str, Callable[[], Run]], repeats: int) -> Runs:
    """Run A B C, A B C, ..., so that what else the machine does meets all; one that is skipped runs once."""
    runs: dict[str, list[Run]] = {name: [] for name in actions}
    for turn in range(repeats):
        for name, act in actions.items():
            if turn and runs[name][0].skipped:
                continue
            run = act()
            runs[name].append(run)
            state = f"skipped: {run.skipped}" if run.skipped else f"{run.seconds:.1f} s"
            click.echo(f"{turn + 1}/{repeats} {name}: {state}", err=True)
    return runs


def skips(runs: Runs) -> tuple[str, ...]:
    """A sentence for each contender that did not run."""
    return tuple(f"Skipped {name}: {tried[0].skipped}" for name, tried in runs.items() if tried[0].skipped)


def finished(runs: Runs) -> dict[str, list[Run]]:
    """The contenders that ran, without runs that failed."""
    whole = {name: [run for run in tried if not run.skipped] for name, tried in runs.items()}
    return {name: tried for name, tried in whole.items() if tried}


def reported(runs: Iterable[Run], key: str) -> Spread | None:
    """The spread of a figure that runs report; None where none does."""
    return Spread.of(run.report[key] for run in runs if run.report.get(key) is not None)

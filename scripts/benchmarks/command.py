"""The whole command, from typing to a tested classifier, start-up included."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import contenders
from benchmarks.figures import Cell, Spread, Table, ratio
from benchmarks.fresh import Run
from benchmarks.photos import list_photos, prepare
from benchmarks.setup import Setup, finished, in_turn, skips

_FEW = 16
_COLUMNS = ("command", "total seconds", "times faster than the loop", "times faster than before")
_NOTES = (
    "Loop: of the earlier systems (imread, resize, Keras predict per batch of 32); it forwards all photos, "
    "and neither trains nor tests.",
    "First time: nothing is kept on the machine. Known base: the converted trunk of an earlier run is kept, "
    "the cache is empty.",
    f"{_FEW} new photos: `fastcls extract` into a cache that holds the others.",
)


def measure(setup: Setup) -> list[Table]:
    """`fastcls run` and `fastcls extract`, of this version and of the one before."""
    versions = {"": Path(__file__).parents[2], **({" before": setup.before} if setup.before else {})}
    actions: dict[str, Callable[[], Run]] = {
        "loop": functools.partial(setup.fresh, contenders.keras_loop, **setup.options)
    }
    with tempfile.TemporaryDirectory(dir=setup.folder) as folder:
        for suffix, checkout in versions.items():
            turns = _Turns(setup, checkout, Path(folder) / f"fastcls{suffix.replace(' ', '-')}")
            actions |= {
                f"run, first time{suffix}": turns.first,
                f"run, known base{suffix}": turns.again,
                f"extract, {_FEW} new photos{suffix}": turns.few,
            }
        runs = in_turn(actions, setup.repeats)
    spreads = {name: Spread.of(run.seconds for run in tried) for name, tried in finished(runs).items()}
    rows = [_row(name, spreads) for name in spreads]
    return [Table("From typing to a tested classifier", _COLUMNS, rows, (*_NOTES, *skips(runs)))]


@dataclass
class _Turns:
    """The commands of one version, in the order in which they are to run.

    Attributes:
        setup: What is measured.
        checkout: The folder of the package.
        folder: For its caches, runs and what it keeps per machine.
    """

    setup: Setup
    checkout: Path
    folder: Path
    count: int = 0

    def first(self) -> Run:
        """`fastcls run` on a machine that knows nothing."""
        self.count += 1
        return self._run("first")

    def again(self) -> Run:
        """The same into another cache, as for another data set."""
        return self._run("again")

    def few(self) -> Run:
        """A few photos that the cache does not know."""
        few = self._place / "few"
        if not few.exists():
            whole = len(list_photos(self.setup.photos))
            prepare(self.setup.photos, few, size=(320, 240), limit=min(_FEW, whole))
        return self._command("extract", few, "--cache", self._place / "again" / "cache")

    @property
    def _place(self) -> Path:
        return self.folder / str(self.count)

    def _run(self, name: str) -> Run:
        place = self._place / name
        where = ("--cache", place / "cache", "--out", place / "run")
        return self._command("run", self.setup.photos, *where, "--no-report")

    def _command(self, name: str, photos: Path, *options: str | Path) -> Run:
        weights = ["--weights", self.setup.weights] if self.setup.weights else []
        base = ["--base", self.setup.base, *weights]
        self._place.mkdir(parents=True, exist_ok=True)
        home = {"FASTCLS_HOME": str(self._place / "home"), "PYTHONPATH": str(self.checkout)}
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "fastcls", name, str(photos), *base, *map(str, options)],
            env={**os.environ, **home},
            cwd=self._place,
            capture_output=True,
            text=True,
        )
        seconds = time.perf_counter() - started
        return Run(seconds, skipped=done.stderr.strip()[-300:] if done.returncode else "")


def _row(name: str, spreads: dict[str, Spread | None]) -> tuple[Cell, ...]:
    loop = spreads.get("loop") if name != "loop" and name.startswith("run") else None
    before = spreads.get(f"{name} before")
    return (name, spreads[name], ratio(loop, spreads[name]), ratio(before, spreads[name]))

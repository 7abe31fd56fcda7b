"""How the extraction scales with worker processes."""

from __future__ import annotations

import functools

from benchmarks import contenders
from benchmarks.figures import Cell, Spread, Table, ratio
from benchmarks.fresh import Run
from benchmarks.setup import Setup, finished, in_turn, reported, skips
from fastcls.machine import cores

_WORKERS = (1, 2, 4)
_COLUMNS = (
    "workers",
    "threads each",
    "total seconds",
    "images/s after start-up",
    "times one worker",
    "MiB, largest worker",
    "MiB, all processes",
)


def measure(setup: Setup) -> list[Table]:
    """The same extraction by more and more workers."""
    actions = {
        str(count): functools.partial(setup.fresh, contenders.fastcls_extract, workers=count, **setup.options)
        for count in _WORKERS
    }
    runs = in_turn(actions, setup.repeats)
    done = finished(runs)
    rows = [_row(name, tried, done.get("1", [])) for name, tried in done.items()]
    note = f"{cores()} cores are divided among the workers: one alone decodes and computes on all of them."
    return [Table("Workers", _COLUMNS, rows, (note, *skips(runs)))]


def _row(name: str, runs: list[Run], single: list[Run]) -> tuple[Cell, ...]:
    rate = reported(runs, "rate")
    return (
        name,
        runs[0].report["threads"],
        Spread.of(run.seconds for run in runs),
        rate,
        ratio(rate, reported(single, "rate")),
        Spread.of(run.worker_mib for run in runs),
        Spread.of(run.together_mib for run in runs),
    )

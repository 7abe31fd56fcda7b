"""What it costs to run an extraction again: with nothing to do, and with half of the images new."""

from __future__ import annotations

import tempfile

from benchmarks import contenders
from benchmarks.figures import Cell, Spread, Table
from benchmarks.fresh import Run, run_fresh
from benchmarks.photos import list_photos, prepare
from benchmarks.setup import Setup, finished, in_turn, reported, skips

_COLUMNS = (
    "fastcls extract",
    "images forwarded",
    "total seconds",
    "of them in extract()",
    "MiB, largest process",
)


def measure(setup: Setup) -> list[Table]:
    """First run, the same again; half of the images, then all."""
    half = prepare(setup.photos, setup.folder / "half", size=None, limit=len(list_photos(setup.photos)) // 2)
    with tempfile.TemporaryDirectory(dir=setup.folder) as folder:
        rounds = _Rounds(setup, folder)
        actions = {
            "first run": lambda: rounds.begin(str(setup.photos)),
            "again, nothing to do": lambda: rounds.go_on(str(setup.photos)),
            "half of the images, into another cache": lambda: rounds.begin(str(half)),
            "then all of them": lambda: rounds.go_on(str(setup.photos)),
        }
        runs = in_turn(actions, setup.repeats)
    rows = [_row(name, tried) for name, tried in finished(runs).items()]
    return [Table("Running again", _COLUMNS, rows, skips(runs))]


class _Rounds:
    """Extractions, each into a new cache or into that of the one before."""

    def __init__(self, setup: Setup, folder: str) -> None:
        self._setup, self._folder, self._count = setup, folder, 0

    def begin(self, photos: str) -> Run:
        """Extract into a new cache."""
        self._count += 1
        return self.go_on(photos)

    def go_on(self, photos: str) -> Run:
        """Extract into the cache of the run before."""
        options = {"photos": photos, "out": f"{self._folder}/{self._count}", **self._setup.base_options}
        return run_fresh(contenders.fastcls_extract, **options)


def _row(name: str, runs: list[Run]) -> tuple[Cell, ...]:
    return (
        name,
        reported(runs, "images"),
        Spread.of(run.seconds for run in runs),
        reported(runs, "seconds"),
        Spread.of(run.largest_mib for run in runs),
    )

"""Train heads on a cache on disk that is larger than its budget, and on the same in memory.

    python scripts/benchmark_out_of_core.py --gib 1 --budget-mib 64 --folder /scratch

Makes shards of random rows about one center per class, and prints Markdown tables. Of a logistic regression:
time, passes over the rows to train on, memory beyond what was there at its peak and at the end, and how far
the classifiers are from each other. Of `linear`: time of an epoch after a first, and memory.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import click
import numpy as np

from fastcls import files
from fastcls.backend import import_keras
from fastcls.cache.index import Rows
from fastcls.cache.shard import ShardWriter
from fastcls.specs import HeadSpec
from fastcls.training.heads import logreg
from fastcls.training.heads.fitting import FittedHead
from fastcls.training.heads.network import build_head
from fastcls.training.heads.regression import Regression
from fastcls.training.loop.passes import CompiledPasses
from fastcls.training.loop.snapshots import Begun
from fastcls.training.rows import cached as feeder
from fastcls.training.rows.cached import Feeder
from fastcls.training.rows.selection import LabeledRows

CLASSES = 10
SHARD = 4096
BATCH = 256
SPREAD = 0.06  # of the centers, by that of the rows


class Fit(NamedTuple):
    """A head, and what it cost."""

    head: FittedHead
    seconds: float
    passes: float
    memory: list[int]


@click.command()
@click.option("--gib", type=float, default=1.0, show_default=True, help="Size of the cache.")
@click.option("--row", type=int, default=512, show_default=True, help="Numbers in a bottleneck.")
@click.option(
    "--budget-mib", "budget", type=float, default=64.0, show_default=True, help="Of one set of rows."
)
@click.option("--values", type=int, default=2, show_default=True, help="Of C, from 0.001 on.")
@click.option("--folder", type=click.Path(path_type=Path), help="On the disk to measure.")
def main(gib: float, row: int, budget: float, values: int, folder: Path | None) -> None:
    """Compare on a cache made for it; an eighth of the rows validates."""
    import_keras()
    grid = logreg.C_GRID[4 : 4 + values]
    with tempfile.TemporaryDirectory(dir=folder) as made:
        count = int(gib * 2**30) // (4 * row)
        data = _make_shards(Path(made), count, row)
        parts = [_part(data, np.arange(0, count * 7 // 8)), _part(data, np.arange(count * 7 // 8, count))]
        click.echo(f"{count:,} rows of {row} float32, {values} values of C, --no-refit\n")
        click.echo(
            "| rows | seconds | passes to fit a value of C | seconds of a pass | GiB, peak | GiB, end |"
        )
        click.echo("|---|---|---|---|---|---|")
        streamed = _fit(parts, grid, int(budget * 2**20))
        _tell(f"streamed, {budget:.0f} MiB", streamed)
        kept = _fit(parts, grid, 1 << 62)
        _tell("in memory", kept)
        rows = parts[1].rows.take(np.arange(SHARD)).read()
        one, other = (fit.head.model.predict(rows, verbose=0, batch_size=1024) for fit in (streamed, kept))
        losses = [
            abs(a["val_loss"] - b["val_loss"])
            for a, b in zip(streamed.head.history, kept.head.history, strict=True)
        ]
        click.echo(
            f"\nTime {streamed.seconds / kept.seconds:.2f} of that in memory. Probabilities differ by up to "
            f"{np.abs(one - other).max():.1e}, losses of validation by up to {max(losses):.1e}"
        )
        _compare_epochs(parts[0], int(budget * 2**20))


def _make_shards(folder: Path, count: int, row: int) -> LabeledRows:
    random = np.random.default_rng(0)
    labels = random.integers(0, CLASSES, count)
    centers = random.normal(size=(CLASSES, row)).astype(np.float32) * SPREAD
    paths = []
    for start in range(0, count, SHARD):
        own = labels[start : start + SHARD]
        rows = centers[own] + random.standard_normal((len(own), row), np.float32)
        with ShardWriter(folder, (row,), "float32", {"fingerprint": "none"}) as writer:
            writer.append([files.digest(b"%d" % place) for place in range(start, start + len(rows))], rows)
            paths.append(writer.finish())
    shard, place = np.divmod(np.arange(count, dtype=np.int32), SHARD)
    return LabeledRows(Rows(tuple(filter(None, paths)), shard, place), labels)


def _part(data: LabeledRows, places: np.ndarray) -> LabeledRows:
    return LabeledRows(data.rows.take(places), data.labels[places])


def _fit(parts: list[LabeledRows], grid: tuple[float, ...], budget: int) -> Fit:
    passes = []
    plain = Regression._objective

    def count(self: Regression, *arguments: Any) -> Any:
        passes.append(1)
        return plain(self, *arguments)

    with (
        patch.object(feeder, "allowed_memory", lambda: budget),
        patch.object(logreg, "C_GRID", grid),
        patch.object(Regression, "_objective", count),
        _memory() as memory,
    ):
        started = time.perf_counter()
        train, val = parts
        head = logreg.fit_logreg(HeadSpec("logreg", refit=False), train, val, CLASSES)
        return Fit(head, time.perf_counter() - started, len(passes) / len(head.history), memory)


@contextmanager
def _memory() -> Iterator[list[int]]:
    """What the process holds in memory beyond the start, by its own pages, looked at often and at the end."""

    def held() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    begun, found, over = held(), [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            found.append(held() - begun)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()
        found.append(held() - begun)


def _tell(name: str, fit: Fit) -> None:
    of_pass = fit.seconds / fit.passes / len(fit.head.history)
    click.echo(f"| {name} | {fit.seconds:.1f} | {fit.passes:.1f} | {of_pass:.2f} | {_gib(fit.memory)} |")


def _gib(memory: list[int]) -> str:
    return f"{max(memory) / 2**30:.2f} | {memory[-1] / 2**30:.2f}"


def _compare_epochs(train: LabeledRows, budget: int) -> None:
    click.echo("\n| an epoch of linear | seconds | GiB, peak | GiB, end |\n|---|---|---|---|")
    found = []
    for name, memory_bytes in (("streamed", budget), ("in memory", 1 << 62)):
        with _memory() as memory:
            feed = Feeder(train, BATCH, 0, memory_bytes)
            model = build_head(HeadSpec("linear"), feed.shape, CLASSES)
            model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
            run = CompiledPasses().train(model, feed)
            run(1, Begun())
            started = time.perf_counter()
            run(2, Begun())
            found.append(time.perf_counter() - started)
            del feed, run
        click.echo(f"| {name} | {found[-1]:.2f} | {_gib(memory)} |")
    click.echo(f"\nTime {found[0] / found[1]:.2f} of that in memory")


if __name__ == "__main__":
    main()

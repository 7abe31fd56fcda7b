"""Ways to train a classifier, side by side: accuracy on unseen photos, and the time from the images on.

    python scripts/benchmark_training.py PHOTOS --base mobilenetv2 --weights FILE --cut block_14_add

For each seed the photos are divided anew (60/20/20) and each way is a `fastcls` command in a fresh process,
extraction included where there is one; accuracy is that of `fastcls test` on the test part. Prints Markdown
tables and keeps the figures of each finished command in a JSON file: a run that is ended goes on from there.
"""

from __future__ import annotations

import csv
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from benchmarks.machine import describe

from fastcls import files

_HEAD = ["--epochs", "15", "--patience", "0", "--learning-rate", "3e-3"]
_DEEP = [
    *("--patience", "0", "--learning-rate", "1e-3", "--schedule", "cosine"),
    *("--label-smoothing", "0.1", "--layers", "0.4"),
]
_VIEWS = 8


@dataclass(frozen=True)
class Way:
    """One way to train.

    Attributes:
        name: In the table.
        cache: Which cache it trains from, "pooled" or "tail"; "" for none.
        views: Views of each image in that cache.
        options: Of `train-head` or `finetune`.
    """

    name: str
    cache: str
    views: int
    options: list[str]


def _ways(behind: str, epochs: int) -> list[Way]:
    deep = [*_DEEP, "--epochs", str(epochs)]
    tail = ["--head", "tail", *deep]
    live = ["--train", f"from {behind}", *deep]
    return [
        Way("linear head", "pooled", 1, _HEAD),
        Way("logistic regression, C chosen", "pooled", 1, ["--head", "logreg"]),
        Way("MLP 256, dropout 0.4", "pooled", 1, ["--layers", "256,0.4", *_HEAD]),
        Way("linear head, 4 views", "pooled", 4, _HEAD),
        Way("linear head, 8 views", "pooled", _VIEWS, _HEAD),
        Way("linear head, live augmentation", "", 0, ["--train", "none", *_HEAD]),
        Way("tail", "tail", 1, tail),
        Way("tail, 8 views", "tail", _VIEWS, tail),
        Way("the same layers, live", "", 0, [*live, "--augment", "none"]),
        Way("the same layers, live augmentation", "", 0, live),
        Way("all layers, live augmentation", "", 0, ["--train", "all", *deep, "--learning-rate", "3e-4"]),
    ]


class Bench:
    """Runs the commands and remembers what is done.

    Args:
        photos: A folder per class.
        base: Options of the base.
        cut: Layer to cut at for the tail.
        ways: All ways.
        work: Folder for splits, caches and runs.
        report: The JSON file.
    """

    def __init__(
        self, photos: Path, base: list[str], cut: str, ways: list[Way], work: Path, report: Path
    ) -> None:
        self._photos, self._base, self._cut, self._ways = photos, base, cut, ways
        self._work, self._report = work, report
        self._seconds: dict[Path, float] = {}
        self.done: dict[str, Any] = files.read_json(report)["ways"] if report.exists() else {}

    def run(self, seed: int) -> None:
        """All ways for one seed."""
        data = self._work / f"data-{seed}"
        if not data.exists():
            _fastcls("split-data", self._photos, "--out", data, "--mode", "symlink", "--seed", seed)
        for way in self._ways:
            key = f"{way.name}/{seed}"
            if key not in self.done:
                click.echo(f"seed {seed}: {way.name}", err=True)
                self.done[key] = self._run(way, data, seed)
                files.write_json(self._report, {"machine": describe(), "ways": self.done})

    def _run(self, way: Way, data: Path, seed: int) -> dict[str, float]:
        out = self._work / f"run-{len(self.done)}"
        shutil.rmtree(out, ignore_errors=True)
        seconds, stored = 0.0, 0
        options = [*way.options, "--seed", seed, "--out", out]
        if way.cache:
            cache = self._work / f"{way.cache}-{way.views}-{seed}"
            seconds = self._extract(way, data, cache)
            stored = sum(path.stat().st_size for path in cache.rglob("shards/*.h5"))
            training = _fastcls("train-head", cache, *options)
        else:
            training = _fastcls("finetune", data, *self._base, *options)
        _fastcls("test", out, data)
        with (out / "history.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return {
            "accuracy": files.read_json(next((out / "test").glob("*/metrics.json")))["accuracy"],
            "extraction_s": seconds,
            "training_s": training,
            # The first epoch traces the graph.
            "epoch_s": statistics.median(float(row["seconds"]) for row in rows[1:] or rows),
            "epochs": len(rows),
            "bytes": stored,
        }

    def _extract(self, way: Way, data: Path, cache: Path) -> float:
        """Fill a cache once; the seconds that it takes count for each way that trains from it."""
        if cache not in self._seconds:
            cut = ["--cut", self._cut, "--dtype", "float16"] if way.cache == "tail" else []
            views = ["--views", way.views] if way.views > 1 else []
            self._seconds[cache] = _fastcls("extract", data, *self._base, *cut, *views, "--cache", cache)
        return self._seconds[cache]


def _fastcls(*arguments: Any) -> float:
    """Run a command; the seconds it took."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "fastcls", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise click.ClickException(f"{' '.join(command)}\n{done.stderr}")
    return time.perf_counter() - started


def _table(done: dict[str, Any], ways: list[Way], seeds: int) -> str:
    lines = [
        "| | test accuracy, mean (each seed) | extraction s | training s | total s | s per epoch | MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for way in ways:
        found = [done[f"{way.name}/{seed}"] for seed in range(seeds)]

        def mean(name: str, found: list[dict[str, float]] = found) -> float:
            return statistics.mean(row[name] for row in found)

        each = ", ".join(f"{100 * row['accuracy']:.1f}" for row in found)
        lines.append(
            f"| {way.name} | {100 * mean('accuracy'):.1f} ({each}) | {mean('extraction_s'):.1f} | "
            f"{mean('training_s'):.1f} | {mean('extraction_s') + mean('training_s'):.1f} | "
            f"{mean('epoch_s'):.2f} | {mean('bytes') / 2**20:.0f} |"
        )
    return "\n".join(lines)


@click.command()
@click.argument("photos", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--base", default="mobilenetv2", show_default=True)
@click.option("--weights", help="As for `fastcls extract`.")
@click.option("--cut", default="block_14_add", show_default=True, help="Where the tail begins.")
@click.option(
    "--behind", default="block_15_expand", show_default=True, help="The first layer behind the cut."
)
@click.option("--epochs", default=10, show_default=True, help="Of tails and deeper.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--way", "names", multiple=True, help="Only these, by their names in the table.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("benchmark-training.json"))
def main(
    photos: Path,
    base: str,
    weights: str | None,
    cut: str,
    behind: str,
    epochs: int,
    seeds: int,
    names: tuple[str, ...],
    out: Path,
) -> None:
    """Train on PHOTOS in each way and compare."""
    ways = [way for way in _ways(behind, epochs) if not names or way.name in names]
    given = ["--base", base, *(["--weights", weights] if weights else [])]
    with tempfile.TemporaryDirectory(prefix="fastcls-benchmark-") as work:
        bench = Bench(photos, given, cut, ways, Path(work), out)
        for seed in range(seeds):
            bench.run(seed)
    click.echo("\n".join(f"{name}: {value}" for name, value in describe().items()))
    click.echo(_table(bench.done, ways, seeds))


if __name__ == "__main__":
    main()

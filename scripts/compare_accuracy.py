"""Accuracy on unseen images: of heads on the same bottlenecks, and of `--quality fast` and `best`.

    python scripts/compare_accuracy.py \\
        'flowers: flowers --base mobilenetv2' \\
        'scenes: labels.csv --label-separator , --base mobilenetv2'

Each data set is a name and the arguments of `fastcls run`. For each seed it is divided anew (60/20/20) and
run in each quality, in a fresh process; heads are then trained and tested on the bottlenecks of `fast`.
Prints Markdown tables, and keeps the figures of what is finished in a JSON file: a run that is ended goes on
from there.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
import numpy as np
from benchmarks.machine import describe
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.multiclass import OneVsRestClassifier

import fastcls
from fastcls import files
from fastcls.cache.store import Cache
from fastcls.evaluation.judges import JUDGES
from fastcls.specs import QUALITIES, HeadSpec, TrainConfig
from fastcls.tasks import ONE_LABEL, Task

# Those that learn weights; the others are for few images.
COMPARED = {
    "linear": HeadSpec("linear"),
    "logreg --no-refit": HeadSpec("logreg", refit=False),
    "auto": HeadSpec(),
}
STRENGTHS = 10.0 ** np.arange(-4, 2.5, 0.5)
SKLEARN = "scikit-learn, C by validation loss"
REFITTED = "the same, refitted on train + validation"
# What a task is measured by: names in metrics.json, and in the tables.
FIGURES = {"accuracy": "accuracy", "mean_auroc": "AUROC", "macro_f1": "macro F1"}
Result = dict[str, float]


class Part:
    """The bottlenecks of a split, and what is true of them."""

    def __init__(self, cache: Cache, split: str, class_names: tuple[str, ...]) -> None:
        read, self.samples = cache.read(split)
        self.rows = read.reshape(len(read), -1).astype(np.float32)
        self.task: Task = cache.listing.report().task
        self.class_names = class_names
        self.labels = self.task.encode([row.labels for row in self.samples], class_names)

    def judge(self, probabilities: np.ndarray, thresholds: Any = None) -> Result:
        """The figures of some predictions."""
        known = [(row.path, row.labels) for row in self.samples]
        thresholds = thresholds or self.task.default_thresholds(len(self.class_names))
        figures, _ = JUDGES[self.task](known, self.labels, probabilities, self.class_names, thresholds)
        return _figures(figures.to_dict())

    def __add__(self, other: Part) -> tuple[np.ndarray, np.ndarray]:
        return np.concatenate([self.rows, other.rows]), np.concatenate([self.labels, other.labels])


class Comparison:
    """Runs what is missing and remembers what is done.

    Args:
        sets: Arguments of `fastcls run`, by the names of the data sets.
        work: A folder for caches and runs.
        report: The JSON file of what is done.
    """

    def __init__(self, sets: dict[str, str], work: Path, report: Path) -> None:
        self._sets, self._work, self._report = sets, work, report
        self.done: dict[str, Any] = files.read_json(report)["done"] if report.exists() else {}

    def run(self, seed: int) -> None:
        """All data sets with one seed."""
        for name, arguments in self._sets.items():
            for quality in QUALITIES:
                self._once(f"{name}/{quality}/{seed}", self._run_quality, name, arguments, quality, seed)
            self._once(f"{name}/heads/{seed}", self._run_heads, name, seed)

    def _once(self, key: str, run: Callable[..., Any], *given: Any) -> None:
        if key not in self.done:
            click.echo(key, err=True)
            self.done[key] = run(*given)
            files.write_json(self._report, {"machine": describe(), "done": self.done})

    def _run_quality(self, name: str, arguments: str, quality: str, seed: int) -> Result:
        """Run a whole job; the first with a quality begins without a cache."""
        caches, out = self._caches(name, quality), self._work / f"{name}-{quality}-{seed}"
        place = ["--cache", caches, "--name", f"split-{seed}", "--out", out]
        options = [*shlex.split(arguments), "--quality", quality, "--seed", seed, "--val", 0.2, "--test", 0.2]
        command = [sys.executable, "-m", "fastcls", "run", "--no-report", *map(str, [*options, *place])]
        started = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise click.ClickException(f"{shlex.join(command)}\n{done.stderr}")
        seconds = time.perf_counter() - started
        figures = _figures(files.read_json(next((out / "test").glob("*/metrics.json"))))
        stored = sum(path.stat().st_size for path in caches.rglob("shards/*.h5"))
        return {**figures, "seconds": seconds, "bytes": stored}

    def _run_heads(self, name: str, seed: int) -> dict[str, Result]:
        cache = Cache.find(self._caches(name, "fast"), f"split-{seed}")
        class_names = tuple(sorted({label for row in cache.samples() for label in row.labels}))
        train, val, test = (Part(cache, split, class_names) for split in ("train", "val", "test"))
        found: dict[str, Result] = {}
        for told, head in COMPARED.items():
            trained = fastcls.train_head(cache, head, TrainConfig(seed=seed))
            found[told] = test.judge(trained.model.predict(test.rows, verbose=0), trained.thresholds)
        chosen, refitted = _fit_sklearn(train, val)
        found[SKLEARN] = test.judge(chosen.predict_proba(test.rows))
        found[REFITTED] = test.judge(refitted.predict_proba(test.rows))
        return found

    def _caches(self, name: str, quality: str) -> Path:
        return self._work / f"{name}-{quality}-caches"


def _fit_sklearn(train: Part, val: Part) -> tuple[Any, Any]:
    """The logistic regression of the lowest validation loss, and the same fitted on all rows."""

    def fit(strength: float, rows: np.ndarray, labels: np.ndarray) -> Any:
        single = LogisticRegression(C=strength, max_iter=2000)
        return (single if train.task is ONE_LABEL else OneVsRestClassifier(single)).fit(rows, labels)

    def loss(fitted: Any) -> float:
        found = fitted.predict_proba(val.rows)
        if val.task is ONE_LABEL:
            return float(log_loss(val.labels, found, labels=range(len(val.class_names))))
        pairs = zip(val.labels.T, found.T, strict=True)
        return float(np.mean([log_loss(labels, column, labels=[0, 1]) for labels, column in pairs]))

    fits = {strength: fit(strength, train.rows, train.labels) for strength in STRENGTHS}
    best = min(fits, key=lambda strength: loss(fits[strength]))
    return fits[best], fit(best, *(train + val))


def _figures(metrics: dict[str, Any]) -> Result:
    names = ("accuracy",) if "accuracy" in metrics else ("mean_auroc", "macro_f1")
    return {name: metrics[name] for name in names}


def head_table(done: dict[str, Any], names: Iterable[str], seeds: int) -> str:
    """A row per data set, a column per head."""
    heads = [*COMPARED, SKLEARN, REFITTED]
    rows = [["", *heads]]
    for name in names:
        found = [done[f"{name}/heads/{seed}"] for seed in range(seeds)]
        for figure, told in FIGURES.items():
            if figure in found[0][SKLEARN]:
                means = [_mean([row[head] for row in found], figure) for head in heads]
                rows.append([f"{name}, {told}", *means])
    return _markdown(rows)


def quality_table(done: dict[str, Any], names: Iterable[str], seeds: int) -> str:
    """A row per data set and quality; time and space are those of the first run, which had no cache."""
    rows = [["", "quality", "test", "s", "MiB of bottlenecks"]]
    for name in names:
        for quality in QUALITIES:
            found = [done[f"{name}/{quality}/{seed}"] for seed in range(seeds)]
            figures = [f"{told} {_mean(found, key)}" for key, told in FIGURES.items() if key in found[0]]
            cost = [f"{found[0]['seconds']:.0f}", f"{found[0]['bytes'] / 2**20:.1f}"]
            rows.append([name, quality, ", ".join(figures), *cost])
    return _markdown(rows)


def _mean(found: list[Result], figure: str) -> str:
    return f"{100 * np.mean([row[figure] for row in found]):.2f}"


def _markdown(rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], f"|{'---|' * len(rows[0])}", *lines[1:]])


@click.command()
@click.argument("sets", nargs=-1, required=True, metavar="'NAME: ARGUMENTS OF RUN'...")
@click.option("--seeds", type=click.IntRange(1), default=5, show_default=True, help="Splits of each set.")
@click.option("--json", "report", type=click.Path(path_type=Path), default=Path("accuracy.json"))
@click.option("--work", type=click.Path(path_type=Path), help="Folder for caches and runs, to keep them.")
def main(sets: tuple[str, ...], seeds: int, report: Path, work: Path | None) -> None:
    """Compare heads and qualities on each data set."""
    named = {name.strip(): arguments for name, _, arguments in (each.partition(":") for each in sets)}
    with tempfile.TemporaryDirectory(prefix="fastcls-accuracy-") as temporary:
        comparison = Comparison(named, work or Path(temporary), report)
        for seed in range(seeds):
            comparison.run(seed)
    click.echo("\n".join(f"{name}: {value}" for name, value in describe().items()))
    click.echo(f"\n{head_table(comparison.done, named, seeds)}")
    click.echo(f"\n{quality_table(comparison.done, named, seeds)}")


if __name__ == "__main__":
    main()

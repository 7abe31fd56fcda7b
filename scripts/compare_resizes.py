"""Stretched or cropped images: how well a logistic regression tells classes apart on the bottlenecks of each.

    python scripts/compare_resizes.py DATA --base mobilenetv2=FILE --base keras_hub:FOLDER

Each of DATA is a folder of classes, or a CSV file beside its images. Of ten random
splits (60 % to train on) it prints the mean of accuracy, or of mean average precision for several labels, and
of the difference to stretching within the same split, with its standard deviation. Extraction goes on where
it was ended.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import click
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastcls import extract
from fastcls.bases.loader import load_base
from fastcls.cutter import cut
from fastcls.data.dataset import Dataset
from fastcls.specs import BaseSpec
from fastcls.tasks import ONE_LABEL

_RULES: dict[str, dict[str, Any]] = {
    "stretch": {"resize": "stretch"},
    "crop, all of the shorter side": {"resize": "crop", "crop": Fraction(1)},
    "crop, 7/8 of it": {"resize": "crop", "crop": Fraction(7, 8)},
}
_TRAIN = 0.6
_C = 0.01  # on standardized features


@click.command()
@click.argument("sets", nargs=-1, required=True, metavar="DATA...")
@click.option("--base", "bases", multiple=True, required=True, help="A base, or BASE=WEIGHTS.")
@click.option("--cache", type=click.Path(path_type=Path), default=Path("bottlenecks"), show_default=True)
@click.option("--images", type=click.IntRange(min=10), help="Of each data set at most, evenly taken.")
@click.option("--splits", type=click.IntRange(min=2), default=10, show_default=True)
def main(sets: tuple[str, ...], bases: tuple[str, ...], cache: Path, images: int | None, splits: int) -> None:
    """Compare on DATA."""
    click.echo("| data | base | resize | mean | difference to stretching |\n|---|---|---|---|---|")
    for given in sets:
        dataset = _thinned(_read(Path(given)), images)
        for asked in bases:
            name, _, weights = asked.partition("=")
            base = load_base(BaseSpec(name, weights or None))
            first: np.ndarray | None = None
            for rule, how in _RULES.items():
                made = cut(replace(base, crop=how.get("crop", Fraction(1))), resize=how["resize"])
                found = _scores(*_rows(dataset, made, cache), dataset.task == ONE_LABEL, splits)
                first = found if first is None else first
                less = found - first
                click.echo(
                    f"| {dataset.name} | {Path(name).name} | {rule} | {100 * found.mean():.1f} | "
                    f"{100 * less.mean():+.1f} ± {100 * less.std(ddof=1):.1f} |"
                )


def _read(given: Path) -> Dataset:
    if given.is_dir():
        return Dataset.from_folder(given)
    return Dataset.from_csv(given, image_root=given.parent / "images")


def _thinned(dataset: Dataset, images: int | None) -> Dataset:
    step = max(1, len(dataset.samples) / images) if images else 1
    places = np.arange(0, len(dataset.samples), step).astype(int)
    return replace(dataset, samples=tuple(dataset.samples[place] for place in places))


def _rows(dataset: Dataset, made: Any, cache: Path) -> tuple[np.ndarray, np.ndarray]:
    """Bottlenecks (N, D) of all images, ordered by their paths, and their labels."""
    opened, _ = extract(dataset, made, cache)
    rows, samples = opened.read()
    order = sorted(range(len(samples)), key=lambda place: samples[place].path)
    labels = dataset.task.encode([samples[place].labels for place in order], dataset.class_names)
    return rows.reshape(len(rows), -1)[order].astype(np.float64), labels


def _scores(rows: np.ndarray, labels: np.ndarray, one_label: bool, splits: int) -> np.ndarray:
    """Accuracy, or mean average precision, of each split."""
    scores = []
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(len(rows))
        own, others = np.split(order, [int(_TRAIN * len(rows))])
        logistic = LogisticRegression(C=_C, max_iter=500)
        model = make_pipeline(StandardScaler(), logistic if one_label else OneVsRestClassifier(logistic))
        model.fit(rows[own], labels[own])
        if one_label:
            scores.append(float(model.score(rows[others], labels[others])))
        else:
            found = model.predict_proba(rows[others])
            scores.append(float(average_precision_score(labels[others], found, average="macro")))
    return np.array(scores)


if __name__ == "__main__":
    main()

"""What `fastcls audit` finds of faults that were planted in data sets.

    python scripts/benchmark_audit.py \\
        'flowers: flowers' 'scenes: labels.csv --label-separator ,' --base mobilenetv2 --cache work

Each data set is a name, a path, and how it is read. It is divided (60/20/20); of 3 % of the images to train
on a crop, a copy of another JPEG quality or a mirror image is put into the validation or test part; and the
labels of 5 % of all images are changed, anew for each seed: to another class, or with several labels, in one
class. Prints Markdown tables: precision and recall of what is listed, and AUROC of the score of label errors.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from benchmarks.machine import describe
from sklearn.metrics import average_precision_score, roc_auc_score

import fastcls
from fastcls.data.dataset import Dataset
from fastcls.evaluation.auditing import NEAR_DUPLICATE, Audit, audit
from fastcls.evaluation.features import Features
from fastcls.specs import BaseSpec, CutSpec, SplitSpec
from fastcls.tasks import ONE_LABEL, SEVERAL_LABELS, Task

FLIPPED, COPIED = 0.05, 0.03
QUALITY = 92


def crop(image: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, int]:
    """70 to 90 % of the area, anywhere."""
    side = np.sqrt(random.uniform(0.7, 0.9))
    height, width = (max(1, round(side * length)) for length in image.shape[:2])
    top, left = (random.integers(0, room + 1) for room in np.subtract(image.shape[:2], (height, width)))
    return image[top : top + height, left : left + width], QUALITY


def encode(image: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, int]:
    """JPEG of quality 30 to 60, at three quarters of the size."""
    size = [max(1, round(0.75 * length)) for length in image.shape[1::-1]]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), int(random.integers(30, 61))


def mirror(image: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, int]:
    """Left and right change places."""
    return image[:, ::-1], QUALITY


COPIES: dict[str, Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, int]]] = {
    "crop": crop,
    "re-encoded": encode,
    "mirror": mirror,
}


def plant(dataset: Dataset, folder: Path, random: np.random.Generator) -> tuple[Dataset, dict[str, str]]:
    """A divided data set with copies of some of its images in another part, and the source of each copy."""
    trained = [sample for sample in dataset.samples if sample.split == "train"]
    chosen = random.choice(len(trained), round(COPIED * len(dataset.samples)), replace=False)
    samples, sources = [*dataset.samples], {}
    for number, place in enumerate(chosen.tolist()):
        kind, make = [*COPIES.items()][number % len(COPIES)]
        changed, quality = make(np.asarray(cv2.imread(str(dataset.locate(trained[place])))), random)
        path = (folder / kind / f"{number:04}.jpg").absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), changed, [cv2.IMWRITE_JPEG_QUALITY, quality])
        split = "val" if number % 2 else "test"
        samples.append(replace(trained[place], path=path.as_posix(), split=split))
        sources[path.as_posix()] = trained[place].path
    return replace(dataset, samples=tuple(sorted(samples, key=lambda sample: sample.path))), sources


def flip(features: Features, random: np.random.Generator) -> tuple[Features, np.ndarray]:
    """Features with some wrong labels, and which images (N,) bool have them."""
    is_wrong = random.random(len(features)) < FLIPPED
    targets = np.zeros((len(features), len(features.class_names)), bool)
    targets[
        features.labels.nonzero() if features.labels.ndim > 1 else (range(len(features)), features.labels)
    ] = True
    for place in np.flatnonzero(is_wrong).tolist():
        FLIPS[features.task](targets[place], random)
    names = tuple(tuple(np.array(features.class_names)[own].tolist()) for own in targets)
    return replace(features, names=names, labels=features.task.encode(names, features.class_names)), is_wrong


def _to_another_class(own: np.ndarray, random: np.random.Generator) -> None:
    new = random.choice(np.flatnonzero(~own))
    own[:] = False
    own[new] = True


def _in_one_class(own: np.ndarray, random: np.random.Generator) -> None:
    place = random.integers(len(own))
    own[place] = not own[place]


FLIPS: dict[Task, Callable[[np.ndarray, np.random.Generator], None]] = {
    ONE_LABEL: _to_another_class,
    SEVERAL_LABELS: _in_one_class,
}


def judge_labels(found: Audit, is_wrong: np.ndarray) -> dict[str, float]:
    """Figures of the label errors."""
    listed = {issue.path for issue in found.issues if "label" in issue.kind}
    is_listed = np.array([path in listed for path in found.features.paths])
    known = ~np.isnan(found.label_scores)
    return {
        "listed": is_listed.sum(),
        "precision": (is_listed & is_wrong).sum() / max(1, is_listed.sum()),
        "recall": (is_listed & is_wrong).sum() / is_wrong.sum(),
        "AUROC": roc_auc_score(is_wrong[known], found.label_scores[known]),
        "average precision": average_precision_score(is_wrong[known], found.label_scores[known]),
    }


def judge_copies(found: Audit, sources: dict[str, str]) -> dict[str, float]:
    """Figures of the near duplicates: recall by kind of copy, and how many pairs are of the data's own."""
    pairs = {frozenset((issue.path, issue.other)) for issue in found.issues if issue.kind == NEAR_DUPLICATE}
    planted = {
        kind: [frozenset(pair) for pair in sources.items() if f"/{kind}/" in pair[0]] for kind in COPIES
    }
    recall = {kind: sum(pair in pairs for pair in own) / max(1, len(own)) for kind, own in planted.items()}
    hits = sum(pair in pairs for own in planted.values() for pair in own)
    involved = sum(any(path in sources for path in pair) for pair in pairs)
    return {
        "planted": len(sources),
        "recall": hits / max(1, len(sources)),
        **{f"recall of {kind}": value for kind, value in recall.items()},
        "precision": hits / max(1, involved),
        "pairs of its own": len(pairs) - involved,
    }


def _table(title: str, rows: dict[str, dict[str, float]]) -> Iterator[str]:
    columns = [*next(iter(rows.values()))]
    yield f"| {title} | {' | '.join(columns)} |"
    yield "|---|" + "---|" * len(columns)
    for name, row in rows.items():
        cells = (f"{row[column]:.3f}".rstrip("0").rstrip(".") for column in columns)
        yield f"| {name} | {' | '.join(cells)} |"


@click.command()
@click.argument("sets", nargs=-1, required=True, metavar="'NAME: PATH [--label-separator TEXT]'...")
@click.option("--base", required=True)
@click.option("--weights")
@click.option("--cache", type=click.Path(path_type=Path), required=True, help="Folder for caches and copies.")
@click.option("--seeds", default=3, show_default=True)
def main(sets: tuple[str, ...], base: str, weights: str | None, cache: Path, seeds: int) -> None:
    """Plant faults, audit, and print what was found."""
    cut = CutSpec(BaseSpec(base, weights) if weights else BaseSpec(base))
    labels, copies = {}, {}
    for given in sets:
        name, _, rest = given.partition(":")
        path, *options = shlex.split(rest)
        spec: dict[str, Any] = {
            key.removeprefix("--").replace("-", "_"): value
            for key, value in zip(options[::2], options[1::2], strict=True)
        }
        random = np.random.default_rng(0)
        whole = fastcls.split(Dataset.open(path, **spec), SplitSpec(val=0.2, test=0.2))
        planted, sources = plant(whole, cache / "copies" / name, random)
        stored, _ = fastcls.extract(planted, cut, cache, name=name)
        features = Features.of(stored)
        copies[name] = judge_copies(audit(features), sources)
        own = features.take([path not in sources for path in features.paths])
        found = []
        for seed in range(seeds):
            wrong, is_wrong = flip(own, np.random.default_rng(seed))
            found.append(judge_labels(audit(wrong), is_wrong))
        labels[name] = {key: float(np.mean([each[key] for each in found])) for key in found[0]}
        click.echo(f"{name}: {len(own):,} images", err=True)
    click.echo(
        "\n".join([str(describe()), "", *_table("label errors", labels), "", *_table("copies", copies)])
    )


if __name__ == "__main__":
    main()

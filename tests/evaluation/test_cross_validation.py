"""Cross-validation: what a user gets of `cross_validate` and `train-head --folds`, from a cache alone."""

import csv
import json

import numpy as np
import pytest
from cache_support import write_cache
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, log_loss, roc_auc_score

from fastcls.errors import DataError, OptionError
from fastcls.evaluation.cross_validation import cross_validate
from fastcls.specs import FoldSpec, HeadSpec, TrainConfig

NAMES = ("ant", "bee", "cat")


def _cache(root, images=120, spread=1.0, seed=0, **details):
    random = np.random.default_rng(seed)
    labels = np.arange(images) % 3
    rows = random.normal(size=(3, 12))[labels] * spread + random.normal(size=(images, 12))
    return write_cache(
        root, rows.astype(np.float32), [(NAMES[label],) for label in labels], **details
    ), labels


def _table(path):
    with path.open(newline="") as file:
        return [*csv.DictReader(file)]


@pytest.mark.parametrize("kind", ["logreg", "prototype", "knn"])
def test_cross_validate__figures_are_scikit_learns_of_the_predictions(tmp_path, kind):
    cache, _ = _cache(tmp_path, 60)
    found = cross_validate(cache, HeadSpec(kind), folds=3, repeats=2)
    labels, repeats = found.folding.labels, found.predictions.by_repeat
    assert (
        found.predictions.fold.shape == (2, 54) and len(found.folding.samples) == 54
    )  # without the test part
    for name, measure in {
        "accuracy": lambda p: accuracy_score(labels, p.argmax(axis=1)),
        "balanced_accuracy": lambda p: balanced_accuracy_score(labels, p.argmax(axis=1)),
        "macro_f1": lambda p: f1_score(labels, p.argmax(axis=1), average="macro"),
        "log_loss": lambda p: log_loss(labels, p.astype(float) / p.sum(axis=1, keepdims=True)),
    }.items():
        figure = found.figures[name]
        assert figure.by_repeat == pytest.approx([measure(part) for part in repeats], abs=1e-4)
        assert figure.mean == pytest.approx(np.mean(figure.by_repeat)) and len(figure.by_fold) == 6
        assert figure.interval[0] <= figure.mean <= figure.interval[1]
    held = found.predictions.fold[1] == 2
    right = repeats[1][held].argmax(axis=1) == labels[held]
    assert found.figures["accuracy"].by_fold[5] == pytest.approx(right.mean())


def test_cross_validate__the_interval_holds_what_many_other_images_have(tmp_path):
    """Of 16 data sets of one kind, the interval of each holds the mean figure of all in about 95 %."""
    means, intervals = [], []
    for seed in range(16):
        random = np.random.default_rng(1000 + seed)
        labels = np.arange(90) % 3
        rows = np.eye(3, 6)[labels] * 1.5 + random.normal(size=(90, 6))
        cache = write_cache(
            tmp_path / str(seed), rows.astype(np.float32), [(NAMES[label],) for label in labels]
        )
        figure = cross_validate(cache, "logreg").figures["accuracy"]
        means.append(figure.mean)
        intervals.append(figure.interval)
    inside = [low <= np.mean(means) <= high for low, high in intervals]
    assert sum(inside) >= 13


def test_cross_validate__groups_of_the_data_and_of_paths_stay_together(tmp_path):
    groups = [f"g{place % 20}" for place in range(120)]
    cache, _ = _cache(tmp_path, groups=groups)
    found = cross_validate(cache, "prototype", repeats=3)
    own = np.array(found.folding.samples.groups)
    for fold in found.predictions.fold:
        assert all(len(set(fold[own == group])) == 1 for group in set(own.tolist()))
    found = cross_validate(cache, "prototype", group=r"(\d)\.png")  # the last digit of the name
    last = np.array([path[-5] for path in found.folding.samples.paths])
    fold = found.predictions.fold[0]
    assert all(len(set(fold[last == digit])) == 1 for digit in set(last.tolist()))


def test_cross_validate__identical_images_stay_together(tmp_path):
    digests = [f"{place // 2:032x}" for place in range(120)]
    cache, _ = _cache(tmp_path, digests=digests)
    found = cross_validate(cache, "knn", TrainConfig(val=0.0))
    own, fold = found.folding.samples.digests, found.predictions.fold[0]
    assert all(len(set(fold[own == digest])) == 1 for digest in set(own.tolist()))


def test_cross_validate__refuses_what_it_cannot_do(tmp_path):
    cache, _ = _cache(tmp_path, 30)
    for group in ("nowhere", "("):
        with pytest.raises(OptionError, match="--group"):
            cross_validate(cache, "logreg", group=group)
    with pytest.raises(DataError, match="27 images, 27 separable"):
        cross_validate(cache, "logreg", folds=28)
    with pytest.raises(DataError, match="27 images, 1 separable"):
        cross_validate(cache, "logreg", group="png")
    with pytest.raises(OptionError, match="folds"):
        cross_validate(cache, "logreg", folds=1)
    with pytest.raises(OptionError, match="--repeats has no effect with --folds unset"):
        FoldSpec(repeats=2)


def test_cross_validate__several_labels_have_thresholds_chosen_out_of_fold(tmp_path):
    random = np.random.default_rng(0)
    marks = random.random((120, 3)) < 0.4
    rows = (marks @ random.normal(size=(3, 12)) * 2 + random.normal(size=(120, 12))).astype(np.float32)
    names = [tuple(name for name, has in zip(NAMES, row, strict=True) if has) for row in marks]
    found = cross_validate(write_cache(tmp_path, rows, names), config=TrainConfig(threshold="per-class"))
    labels, probabilities = found.folding.labels, found.predictions.probabilities
    assert found.figures["mean_auroc"].mean == pytest.approx(roc_auc_score(labels, probabilities), abs=1e-6)
    for label, threshold in enumerate(found.thresholds):
        scores = [f1_score(labels[:, label], probabilities[:, label] >= t) for t in probabilities[:, label]]
        chosen = f1_score(labels[:, label], probabilities[:, label] >= threshold)
        assert chosen == pytest.approx(max(scores))
    columns, rows = found.prediction_table()
    first = dict(zip(columns, next(iter(rows)), strict=True))
    assert json.loads(first["labels"]) == list(found.folding.samples.labels[0])
    assert [*first][-3:] == ["p:ant", "p:bee", "p:cat"]

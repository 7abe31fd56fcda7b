"""The figures of a test are those of scikit-learn, on random and on degenerate predictions."""

from __future__ import annotations

import csv
import json
import warnings

import numpy as np
import pytest
from sklearn import metrics
from sklearn.preprocessing import label_binarize

from fastcls.evaluation.evaluator import write_evaluation
from fastcls.evaluation.one_label import evaluate, judge
from fastcls.evaluation.ranked import class_ranking
from fastcls.evaluation.several_labels import evaluate_multi_label
from fastcls.evaluation.several_labels import judge as judge_several

NAMES = [f"class {label}" for label in range(40)]


def drawn(images, classes, seed=0, decimals=None):
    """Labels and probabilities; with few decimals many are equal, some of them 0."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, images)
    logits = random.normal(size=(images, classes))
    logits[np.arange(images), labels] += 1
    probabilities = np.exp(2 * logits) / np.exp(2 * logits).sum(axis=1, keepdims=True)
    return labels, (probabilities if decimals is None else probabilities.round(decimals)).astype(np.float32)


def strict(evaluation):
    """Its values, none of which is NaN."""
    return json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))


@pytest.mark.parametrize(("images", "classes"), [(400, 3), (400, 7), (1500, 20)])
def test_one_label__equals_scikit_learn(images, classes):
    labels, probabilities = drawn(images, classes)
    probabilities = probabilities.astype(np.float64)
    found, predicted = strict(evaluate(labels, probabilities, NAMES[:classes])), probabilities.argmax(axis=1)
    for average in ("macro", "weighted"):
        scores = metrics.precision_recall_fscore_support(labels, predicted, average=average, zero_division=0)
        for name, score in zip(("precision", "recall", "f1"), scores, strict=False):
            assert found[f"{average}_{name}"] == pytest.approx(score)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(labels, predicted))
    assert found["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(labels, predicted))
    assert found["log_loss"] == pytest.approx(metrics.log_loss(labels, probabilities))
    top = metrics.top_k_accuracy_score(labels, probabilities, k=5) if classes > 5 else 1
    assert found["top_k_accuracy"] == pytest.approx(top)
    targets = label_binarize(labels, classes=range(classes))
    assert found["brier_score"] == pytest.approx(((probabilities - targets) ** 2).sum(axis=1).mean())
    for name, score in (
        ("mean_auroc", metrics.roc_auc_score(labels, probabilities, multi_class="ovr")),
        ("mean_average_precision", metrics.average_precision_score(targets, probabilities)),
    ):
        assert found[name] == pytest.approx(score)


@pytest.mark.parametrize("decimals", [None, 1, 0])
@pytest.mark.parametrize("images", [2, 5, 60])
def test_class_ranking__of_equal_scores_and_of_few_images(images, decimals):
    labels, scores = drawn(images, 4, seed=images, decimals=decimals)
    targets = label_binarize(labels, classes=range(4))
    areas, precisions = class_ranking([np.flatnonzero(column) for column in targets.T], scores)
    for label, (target, column) in enumerate(zip(targets.T, scores.T, strict=True)):
        if target.any():
            assert precisions[label] == pytest.approx(metrics.average_precision_score(target, column))
        else:
            assert np.isnan(precisions[label])
        if 0 < target.sum() < images:
            assert areas[label] == pytest.approx(metrics.roc_auc_score(target, column))
        else:
            assert np.isnan(areas[label])


@pytest.mark.parametrize(
    ("labels", "rows"), [([0], [[0.3, 0.7]]), ([1, 1], [[0, 1], [1, 0]]), ([0, 1], [[1, 1]] * 2)]
)
def test_one_label__of_one_image_or_class_or_certainty(labels, rows):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluation = evaluate(labels, np.array(rows, np.float32), NAMES[:2])
        found, text = strict(evaluation), evaluation.table()
    assert "nan" not in text.lower() and 0 <= found["ece"] <= 1 and 0 <= found["log_loss"] < 16
    one_class = len(set(labels)) == 1
    assert (found["mean_auroc"] is None) is one_class and (
        "mean_auroc" not in found["intervals"]
    ) is one_class
    assert [row["recall"] is None for row in found["classes"]] == [label not in labels for label in (0, 1)]
    assert ("without images" in text) is one_class


def test_several_labels__of_a_class_without_images_and_of_images_without_classes():
    targets = np.zeros((30, 3), int)
    targets[:5, 0] = targets[:, 1] = 1
    probabilities = np.random.default_rng(0).random((30, 3)).round(1)
    evaluation = evaluate_multi_label(targets, probabilities, (0.5,) * 3, NAMES[:3])
    found = strict(evaluation)
    assert found["mean_auroc"] == pytest.approx(metrics.roc_auc_score(targets[:, 0], probabilities[:, 0]))
    assert [row["auroc"] is None for row in found["classes"]] == [False, True, True]
    assert [row["recall"] is None for row in found["classes"]] == [False, False, True]
    assert "1 of 3 classes without images, left out of means: class 2" in evaluation.table()
    nothing = strict(evaluate_multi_label(targets * 0, probabilities, (0.5,) * 3, NAMES[:3]))
    assert nothing["mean_auroc"] is None and nothing["macro_f1"] is None and nothing["micro_f1"] == 0


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_tables__say_what_can_be_counted_in_the_predictions(tmp_path):
    labels, probabilities = drawn(3000, 4)
    known = [(f"{place}.png", (NAMES[label],)) for place, label in enumerate(labels)]
    write_evaluation(*judge(known, labels, probabilities, NAMES[:4], None), tmp_path)
    rows = read(tmp_path / "predictions.csv")
    confidence = np.array([float(row["confidence"]) for row in rows])
    correct = np.array([row["correct"] == "true" for row in rows])
    for row in rows[:50]:
        shares = {name: float(row[f"p:{name}"]) for name in NAMES[:4]}
        order = sorted(shares, key=shares.get, reverse=True)
        assert order[0] == row["predicted"] and order.index(row["label"]) == int(row["rank"]) - 1
        assert (row["rank"] == "1") == (row["correct"] == "true") and shares[order[0]] == float(
            row["confidence"]
        )
    curve = read(tmp_path / "thresholds.csv")
    assert 900 < len(curve) <= 1000 and float(curve[0]["coverage"]) == 1
    for row in curve[::97]:
        covered = confidence >= float(row["threshold"])
        assert int(row["images"]) == pytest.approx(covered.sum(), abs=1)  # the confidence is rounded
        assert float(row["precision"]) == pytest.approx(correct[covered].mean(), abs=2e-3)
        assert float(row["recall"]) == pytest.approx((correct & covered).sum() / 3000, abs=2e-3)
        assert row["accuracy"] == row["precision"]
    bins = read(tmp_path / "reliability.csv")
    assert len(bins) == 15 and sum(int(row["count"]) for row in bins) == 3000
    ece = sum(
        int(row["count"]) * abs(float(row["accuracy"]) - float(row["confidence"])) / 3000
        for row in bins
        if row["count"] != "0"
    )
    assert json.loads((tmp_path / "metrics.json").read_text())["ece"] == pytest.approx(ece, abs=1e-5)


def test_tables__of_several_labels_by_hand(tmp_path):
    random = np.random.default_rng(0)
    targets = random.integers(0, 2, (300, 3)).astype(np.uint8)
    probabilities = (0.4 * targets + 0.6 * random.random((300, 3))).astype(np.float32)
    known = [(f"{place}.png", tuple(np.array(NAMES[:3])[row > 0])) for place, row in enumerate(targets)]
    write_evaluation(*judge_several(known, targets, probabilities, NAMES[:3], (0.5,) * 3), tmp_path)
    for row in read(tmp_path / "thresholds.csv")[::50]:
        named = probabilities >= float(row["threshold"])
        covered = named.any(axis=1)
        exact = (named == (targets > 0)).all(axis=1)
        assert int(row["images"]) == covered.sum()
        assert float(row["precision"]) == pytest.approx(targets[named].mean(), abs=1e-6)
        assert float(row["recall"]) == pytest.approx(named[targets > 0].mean(), abs=1e-6)
        assert float(row["exact_match"]) == pytest.approx(exact[covered].mean(), abs=1e-6)
    for row, target, values in zip(read(tmp_path / "predictions.csv"), targets, probabilities, strict=True):
        assert int(row["rank"]) == metrics.coverage_error(target[None], values[None])
        assert float(row["confidence"]) == pytest.approx(values.max(), abs=1e-6)
        assert (row["correct"] == "true") == (
            set(json.loads(row["predicted"])) == set(json.loads(row["labels"]))
        )

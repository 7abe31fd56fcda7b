"""What is measured on several labels per image, against scikit-learn and by hand."""

from __future__ import annotations

import csv
import json
import re

import cv2
import numpy as np
import pytest
from sklearn import metrics

from fastcls.errors import DataError
from fastcls.evaluation.evaluator import write_evaluation
from fastcls.evaluation.pictures import draw_found
from fastcls.evaluation.several_labels import MultiLabelPrediction, evaluate_multi_label

CLASS_NAMES = ("sea", "$a$, b", '花\n"x"')


def test_evaluate__by_hand():
    targets = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0]])
    probabilities = np.array([[0.9, 0.6, 0.1], [0.3, 0.7, 0.1], [0.2, 0.1, 0.8], [0.4, 0.5, 0.0]])
    found = evaluate_multi_label(targets, probabilities, (0.5, 0.5, 0.9), CLASS_NAMES)
    assert found.confusion.tolist() == [[1, 1, 0, 2], [2, 0, 1, 1], [0, 0, 0, 4]]
    assert found.auroc.tolist() == [0.75, 0.75, pytest.approx(np.nan, nan_ok=True)]
    assert found.precision.tolist() == [1.0, pytest.approx(2 / 3), 0.0]
    assert found.recall.tolist() == [0.5, 1.0, 0.0]
    assert found.hamming_loss == pytest.approx(2 / 12)
    assert found.exact_match == 2 / 4
    assert found.micro_f1 == pytest.approx(2 * 3 / (2 * 3 + 1 + 1))
    values = found.to_dict()
    assert values["mean_auroc"] == 0.75 and "accuracy" not in json.dumps(values)
    assert values["macro_f1"] == pytest.approx((2 / 3 + 0.8) / 2)
    assert values["classes"][2]["auroc"] is None and values["classes"][2]["average_precision"] is None
    assert values["classes"][2]["precision"] is None and values["classes"][2]["threshold"] == 0.9
    rows = found.table().splitlines()
    assert rows[3].split()[-7:] == ["-", "-", "0.900", "-", "-", "-", "0"]
    totals = found.table().split("\n\n")[-1]
    assert totals.startswith("mean AUROC 0.750 [")
    assert re.search(r"^exact match 0.500 \[0.000, 1.000\] \(2 of 4 images\)$", totals, re.MULTILINE)
    assert "accuracy" not in found.table()


def test_evaluate__equals_scikit_learn():
    random = np.random.default_rng(0)
    targets = random.integers(0, 2, (200, 4))
    probabilities = (targets * 0.3 + random.uniform(0, 0.7, (200, 4))).astype(np.float32)
    thresholds = (0.5, 0.3, 0.6, float(probabilities[0, 3]))
    values = evaluate_multi_label(targets, probabilities, thresholds, "abcd").to_dict()
    predicted = probabilities >= np.array(thresholds, np.float32)
    assert values == {
        "images": 200,
        "mean_auroc": pytest.approx(metrics.roc_auc_score(targets, probabilities)),
        "mean_average_precision": pytest.approx(metrics.average_precision_score(targets, probabilities)),
        "macro_precision": pytest.approx(metrics.precision_score(targets, predicted, average="macro")),
        "macro_recall": pytest.approx(metrics.recall_score(targets, predicted, average="macro")),
        "macro_f1": pytest.approx(metrics.f1_score(targets, predicted, average="macro")),
        "micro_precision": pytest.approx(metrics.precision_score(targets, predicted, average="micro")),
        "micro_recall": pytest.approx(metrics.recall_score(targets, predicted, average="micro")),
        "micro_f1": pytest.approx(metrics.f1_score(targets, predicted, average="micro")),
        "hamming_loss": pytest.approx(np.mean(targets != predicted)),
        "exact_match": pytest.approx((targets == predicted).all(axis=1).mean()),
        "log_loss": pytest.approx(np.mean([*map(metrics.log_loss, targets.T, probabilities.T)]), rel=1e-6),
        "brier_score": pytest.approx(np.mean((targets - probabilities.astype(float)) ** 2)),
        "ece": pytest.approx(ece_by_hand(probabilities.ravel().tolist(), targets.ravel().tolist())),
        "intervals": values["intervals"],
        "classes": values["classes"],
    }
    assert list(values["intervals"]) == [n for n in list(values)[1:-2] if n != "ece"]
    assert all(low < values[name] < high for name, (low, high) in values["intervals"].items())


def ece_by_hand(probabilities, targets):
    """Guo et al., 2017, with 15 bins."""
    gaps = []
    for number in range(15):
        low, high = number / 15, (number + 1) / 15
        pairs = [pair for pair in zip(probabilities, targets, strict=True) if low < pair[0] <= high]
        gaps.append(abs(sum(p - t for p, t in pairs)))
    return sum(gaps) / len(targets)


@pytest.mark.parametrize(
    ("targets", "probabilities", "message"),
    [
        (np.ones((3, 2)), np.ones((3, 3)), r"Received: \(3, 2\) and \(3, 3\)"),
        (np.ones((0, 3)), np.ones((0, 3)), "no images"),
        (np.ones((1, 3)), np.array([[0.1, np.nan, 0.2]]), "must be finite"),
        (np.full((1, 3), 2), np.ones((1, 3)), "Targets must be 0 or 1. Received: .*2"),
        (np.full((1, 3), np.nan), np.ones((1, 3)), "Targets must be 0 or 1. Received: .*nan"),
        ([["a", "b", "c"]], np.ones((1, 3)), "Targets must be an array of numbers"),
        ([[1, 0, 1]], [[1, 0], [1]], "Probabilities must be an array of numbers"),
    ],
)
def test_evaluate__refuses(targets, probabilities, message):
    with pytest.raises(DataError, match=message):
        evaluate_multi_label(targets, probabilities, (0.5,) * 3, CLASS_NAMES)


def test_write_evaluation__files(tmp_path):
    targets = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0]])
    probabilities = np.array([[0.9, 0.8, 0.1], [0.2, 1 / 3, 0.1], [0.2, 0.1, 0.6]])
    evaluation = evaluate_multi_label(targets, probabilities, (0.5,) * 3, CLASS_NAMES)
    predictions = [
        MultiLabelPrediction("ä \n,.jpg", CLASS_NAMES[:2], CLASS_NAMES[:2], 2, (0.9, 0.8, 0.1)),
        MultiLabelPrediction("b.jpg", CLASS_NAMES[1:2], (), 1, (0.2, 1 / 3, 0.1)),
    ]
    write_evaluation(evaluation, predictions, tmp_path)
    assert json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8")) == evaluation.to_dict()
    header, *rows = _read_csv(tmp_path / "predictions.csv")
    own = [f"p:{name}" for name in CLASS_NAMES]
    assert header == ["path", "labels", "predicted", "confidence", "rank", "correct", *own]
    assert [json.loads(cell) for cell in rows[0][1:3]] == [list(CLASS_NAMES[:2])] * 2
    told = ["0.333333", "1", "false", "0.200000", "0.333333", "0.100000"]
    assert rows[1] == ["b.jpg", json.dumps(list(CLASS_NAMES[1:2])), "[]", *told]
    header, *rows = _read_csv(tmp_path / "per_class.csv")
    last = dict(zip(header, rows[2], strict=True))
    assert (last["auroc"], last["average_precision"], last["support"], last["false_positives"]) == (
        *("-", "-"),
        *("0", "1"),
    )
    assert (tmp_path / "confusion.png").stat().st_size > 1000


@pytest.mark.parametrize("count", [1, 3, 25, 300])
def test_draw_found__any_number_of_classes(count, tmp_path):
    random = np.random.default_rng(count)
    names = [*CLASS_NAMES, *(f"class {label}" for label in range(count))][:count]
    draw_found(random.integers(0, 50, (count, 4)), names, tmp_path / "found.png")
    image = cv2.imread(str(tmp_path / "found.png"))
    assert min(image.shape[:2]) >= 400 and max(image.shape[:2]) <= 2400 and image.std() > 5


def _read_csv(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))

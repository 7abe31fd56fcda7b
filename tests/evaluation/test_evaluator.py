import csv
import json

import numpy as np
import pytest

from fastcls.evaluation.evaluator import write_evaluation
from fastcls.evaluation.one_label import Prediction, evaluate

SIX = ["path", "label", "predicted", "confidence", "rank", "correct"]
CLASS_NAMES = ["daisy", "$a$, b", '花\n"x"']


@pytest.fixture
def evaluation():
    labels = np.array([0, 0, 1, 1, 2, 2])
    return evaluate(labels, np.eye(3)[[0, 1, 1, 1, 2, 0]] * 0.7 + 0.1, CLASS_NAMES)


def read_csv(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_prediction__correct():
    assert Prediction("a.jpg", "rose", "rose", 0.9, 1, (0.9, 0.1)).correct
    assert not Prediction("a.jpg", "rose", "tulip", 0.9, 2, (0.1, 0.9)).correct


def test_write_evaluation__files(evaluation, tmp_path):
    predictions = [
        Prediction("daisy/ä \n,.jpg", "daisy", "daisy", 0.8, 1, (0.8, 0.15, 0.05)),
        Prediction("b.png", "daisy", CLASS_NAMES[2], 1 / 3, 2, np.float32([0.3, 0, 1 / 3])),
    ]
    folder = tmp_path / "new" / "test"
    write_evaluation(evaluation, iter(predictions), folder)

    assert sorted(path.name for path in folder.iterdir()) == [
        "confusion.csv",
        "confusion.png",
        "metrics.json",
        "per_class.csv",
        "predictions.csv",
        "reliability.csv",
        "reliability.png",
        "thresholds.csv",
    ]
    assert json.loads((folder / "metrics.json").read_text(encoding="utf-8")) == evaluation.to_dict()
    assert read_csv(folder / "predictions.csv") == [
        [*SIX, *(f"p:{name}" for name in CLASS_NAMES)],
        ["daisy/ä \n,.jpg", "daisy", "daisy", "0.800000", "1", "true", "0.800000", "0.150000", "0.050000"],
        ["b.png", "daisy", CLASS_NAMES[2], "0.333333", "2", "false", "0.300000", "0.000000", "0.333333"],
    ]
    write_evaluation(evaluation, predictions, folder, compact=True)
    assert [len(row) for row in read_csv(folder / "predictions.csv")] == [6, 6, 6]
    assert read_csv(folder / "confusion.csv") == [
        ["true \\ predicted", *CLASS_NAMES],
        [CLASS_NAMES[0], "1", "1", "0"],
        [CLASS_NAMES[1], "0", "2", "0"],
        [CLASS_NAMES[2], "1", "0", "1"],
    ]


def test_write_evaluation__per_class(evaluation, tmp_path):
    write_evaluation(evaluation, [], tmp_path)
    header, *rows = read_csv(tmp_path / "per_class.csv")
    assert header == ["class_name", "precision", "recall", "f1", "auroc", "average_precision", "support"]
    assert [row[0] for row in rows] == CLASS_NAMES
    values = np.array([[*row[1:4], row[-1]] for row in rows], float)
    np.testing.assert_allclose(values, [[0.5, 0.5, 0.5, 2], [2 / 3, 1, 0.8, 2], [1, 0.5, 2 / 3, 2]])


def test_write_evaluation__replaces_older_files(evaluation, tmp_path):
    (tmp_path / "metrics.json").write_text("old")
    write_evaluation(evaluation, [], tmp_path)
    assert json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))["accuracy"] == 4 / 6

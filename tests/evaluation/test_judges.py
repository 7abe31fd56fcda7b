"""What every task promises of its evaluation."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from sklearn import metrics

from fastcls.errors import DataError
from fastcls.evaluation.evaluator import file_names, write_evaluation
from fastcls.evaluation.judges import JUDGES
from fastcls.tasks import ONE_LABEL, SEVERAL_LABELS, TASKS

NAMES = ("sea", "$a$, b", '花\n"x"')
EACH = pytest.mark.parametrize("task", TASKS.values(), ids=str)


@pytest.fixture
def known(task):
    random = np.random.default_rng(0)
    counts = random.integers(0, 4, 60) if task is SEVERAL_LABELS else np.ones(60, int)
    drawn = [sorted(random.choice(3, count, replace=False)) for count in counts]
    return [(f"{place}.png", tuple(NAMES[label] for label in labels)) for place, labels in enumerate(drawn)]


@pytest.fixture
def probabilities():
    return np.random.default_rng(1).dirichlet(np.ones(3), 60).astype(np.float32)


def judged(task, known, probabilities):
    labels = task.encode([names for _, names in known], NAMES)
    return JUDGES[task](known, labels, probabilities, NAMES, task.default_thresholds(3))


@EACH
def test_predictions_are_what_the_task_ranks_first(task, known, probabilities):
    _, predictions = judged(task, known, probabilities)
    assert [found.path for found in predictions] == [path for path, _ in known]
    thresholds = task.default_thresholds(3)
    for found, row in zip(predictions, probabilities, strict=True):
        ranked = [NAMES[label] for label in task.rank(row, thresholds)]
        assert {ONE_LABEL: ranked[:1], SEVERAL_LABELS: sorted(ranked, key=NAMES.index)}[task] == (
            list(found.predicted) if thresholds else [found.predicted]
        )


@EACH
def test_figures_are_those_of_scikit_learn_and_fit_in_json(task, known, probabilities):
    evaluation, _ = judged(task, known, probabilities)
    figures = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    true = task.encode([names for _, names in known], NAMES)
    predicted = {ONE_LABEL: probabilities.argmax(axis=1), SEVERAL_LABELS: probabilities >= 0.5}[task]
    scores = metrics.precision_recall_fscore_support(true, predicted, average=None, zero_division=0)
    for place, name in enumerate(("precision", "recall", "f1", "support")):
        assert [row[name] for row in figures["classes"]] == pytest.approx(scores[place].tolist())
    for place, name in enumerate(("macro_precision", "macro_recall", "macro_f1")):
        assert figures[name] == pytest.approx(scores[place].mean())
    assert figures["images"] == 60 and all(name in evaluation.table() for name in ("sea", "$a$, b"))


@EACH
def test_the_files_that_are_named_are_written(task, known, probabilities, tmp_path):
    evaluation, predictions = judged(task, known, probabilities)
    write_evaluation(evaluation, predictions, tmp_path, about={"more": 1})
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(file_names(evaluation))
    assert json.loads((tmp_path / "metrics.json").read_text()) == {**evaluation.to_dict(), "more": 1}
    with (tmp_path / "predictions.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header[:3] == ["path", task.column, "predicted"]
    assert [task.read_cell(row[1]) for row in rows] == [names for _, names in known]


@EACH
def test_what_cannot_be_judged_is_refused(task, known, probabilities):
    broken = probabilities.copy()
    broken[3, 1] = np.nan
    cases = {"no images": ([], probabilities[:0]), "finite": (known, broken), "Received": (known, broken[1:])}
    for message, (images, given) in cases.items():
        with pytest.raises(DataError, match=message):
            judged(task, images, given)

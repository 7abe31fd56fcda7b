"""`test --epochs` compares kept checkpoints, and `promote` makes one a run."""

import csv
import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss, precision_score, recall_score

from fastcls import pipeline
from fastcls.data.dataset import Dataset
from fastcls.epochs import promote, test_epochs
from fastcls.evaluation.decisions import figures_of_decisions
from fastcls.inference.classifier import Classifier
from fastcls.plans.finetuning import plan_finetuning
from fastcls.plans.training import plan_training
from fastcls.runs import Run
from fastcls.specs import BaseSpec, CheckpointSpec, FinetuneSpec, HeadSpec, TrainConfig
from fastcls.tasks import ONE_LABEL, SEVERAL_LABELS

test_epochs.__test__ = False  # no test, whatever its name
KEPT = CheckpointSpec(checkpoint_every=1, checkpoint_keep=9)


@pytest.fixture(scope="module")
def kept(trained, tmp_path_factory):
    """A run that has kept its epochs."""
    out = tmp_path_factory.mktemp("kept") / "run"
    config = TrainConfig(epochs=3, learning_rate=0.05, checkpoints=KEPT)
    pipeline.train_planned(plan_training(trained.cache, HeadSpec("linear"), config, out))
    return out


def test_test__compares_kept_epochs_on_validation_images(fastcls, kept, tmp_path):
    done = fastcls("test", kept, "--epochs", "--metric", "log_loss", "--out", tmp_path / "out")
    assert done.code == 0
    table = list(csv.DictReader((tmp_path / "out" / "epochs.csv").open()))
    history = Run.open(kept).history()
    for row, known in zip(table, history, strict=True):
        assert float(row["accuracy"]) == pytest.approx(known["val_accuracy"])
        assert float(row["log_loss"]) == pytest.approx(known["val_loss"], rel=1e-4)
        lines = list(csv.DictReader((tmp_path / "out" / f"{row['checkpoint']}.csv").open()))
        assert np.mean([line["correct"] == "1" for line in lines]) == pytest.approx(known["val_accuracy"])
        assert all((line["label"] == line["predicted"]) == (line["correct"] == "1") for line in lines)
    best = min(history, key=lambda row: row["val_loss"])["epoch"]
    assert f"validation images: epoch-{best:04.0f}" in done.out
    again = fastcls("test", kept, "--epochs", "--out", tmp_path / "out")
    assert (again.code, "already exists" in again.err) == (1, True)


def test_promote__makes_a_whole_run_of_a_checkpoint(fastcls, kept, photos, tmp_path):
    done = fastcls("promote", kept, 1, "--out", tmp_path / "first")
    assert done.code == 0
    run = Run.open(tmp_path / "first")
    assert (run.record["promoted"], run.record["figures"]["epoch"]) == ("epoch-0001", 1)
    first = Classifier.load(run.folder)
    found = first.predict(photos)
    assert found[0].unfamiliarity is not None
    other = Classifier.load(kept).predict(photos).probabilities
    assert np.abs(found.probabilities - other).max() > 0.01
    assert fastcls("test", run.folder, photos, "--images", "all").code == 0
    (metrics,) = run.tests().values()
    assert metrics["tested_on"]["cached"] == 60
    promote(kept, "epoch-0003", tmp_path / "third")
    assert json.loads((tmp_path / "third" / "run.json").read_text())["promoted"] == "epoch-0003"


def test_a_finetuned_network_is_tested_on_its_images(fastcls, base, photos, tmp_path):
    config = TrainConfig(epochs=1, val=0.5, checkpoints=KEPT)
    given = Dataset.open(photos), BaseSpec(str(base)), FinetuneSpec(), config
    pipeline.finetune_planned(plan_finetuning(*given, tmp_path / "run"))
    done = fastcls("test", tmp_path / "run", "--epochs")
    assert (done.code, "fastcls test RUN DATA --epochs" in done.err) == (1, True)
    done = fastcls("test", tmp_path / "run", photos, "--epochs")
    assert "on 30 validation images: epoch-0001" in done.out
    promote(tmp_path / "run", "1", tmp_path / "made")
    own, its = (Classifier.load(tmp_path / name).predict(photos).probabilities for name in ("run", "made"))
    np.testing.assert_allclose(own, its, atol=1e-5)


def test_epochs__refuses_with_one_line(fastcls, trained, kept, photos, tmp_path):
    cases = {
        ("test", trained.run, "--epochs"): (1, "has kept no checkpoint"),
        ("test", trained.run): (2, "Missing argument 'DATA'"),
        ("test", trained.run, photos, "--metric", "recall"): (2, "has no effect"),
        ("test", kept, "--epochs", "--compact"): (2, "has no effect"),
        ("promote", kept, 9, "--out", tmp_path / "x"): (1, "has kept no checkpoint '9'"),
        ("promote", kept, 1, "--out", kept): (1, "already exists"),
    }
    for asked, (code, message) in cases.items():
        done = fastcls(*asked)
        assert (done.code, message in done.err) == (code, True), done.err


@pytest.mark.parametrize("task", [ONE_LABEL, SEVERAL_LABELS])
def test_figures_are_those_of_scikit_learn(task):
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(3), 200)
    if task is ONE_LABEL:
        labels, thresholds = random.integers(0, 3, 200), None
        decided, loss = probabilities.argmax(axis=1), log_loss(labels, probabilities)
    else:
        labels, thresholds = random.integers(0, 2, (200, 3)), (0.2, 0.3, 0.4)
        decided = (probabilities >= thresholds).astype(int)
        loss = np.mean([log_loss(labels[:, c], probabilities[:, c]) for c in range(3)])
    found = figures_of_decisions(probabilities, labels, task, thresholds, 0.6)
    assert found["accuracy"] == pytest.approx(accuracy_score(labels, decided))
    how = {"average": "macro", "zero_division": 0}
    assert found["precision"] == pytest.approx(precision_score(labels, decided, **how))
    assert found["recall"] == pytest.approx(recall_score(labels, decided, **how))
    assert found["log_loss"] == pytest.approx(loss, rel=1e-4)
    covered = probabilities.max(axis=1) >= 0.6
    assert found["coverage"] == covered.mean()
    assert found["covered_accuracy"] == pytest.approx(accuracy_score(labels[covered], decided[covered]))

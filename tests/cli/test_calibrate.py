"""`fastcls calibrate` makes a whole run that predicts the same."""

import csv
import json

import numpy as np
import pytest

from fastcls import pipeline
from fastcls.calibrator import calibrate
from fastcls.data.dataset import Dataset
from fastcls.inference.classifier import Classifier
from fastcls.plans.finetuning import plan_finetuning
from fastcls.plans.training import plan_training
from fastcls.runs import Run
from fastcls.specs import BaseSpec, FinetuneSpec, HeadSpec, TrainConfig


def train(cache, out, head, **config):
    pipeline.train_planned(plan_training(cache, head, TrainConfig(**config), out))
    return out


@pytest.fixture(scope="module")
def refitted(trained, tmp_path_factory):
    """A run whose head was fitted to the images that it was validated on."""
    return train(trained.cache, tmp_path_factory.mktemp("refitted") / "run", HeadSpec("logreg"))


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("is_refitted", [False, True])
def test_calibrate__the_new_run_predicts_the_same(fastcls, trained, refitted, photos, tmp_path, is_refitted):
    run = refitted if is_refitted else trained.run
    before = files_of(run)
    done = fastcls("calibrate", run, "--out", tmp_path / "made")
    assert done.code == 0
    assert "Temperature" in done.out
    assert ("out of fold" in done.out) is is_refitted
    assert files_of(run) == before
    made, source = Run.open(tmp_path / "made"), Run.open(run)
    told = made.record["calibration"]
    assert told["images"] == (48 if is_refitted else source.record["val_count"])
    assert Classifier.load(made.folder).described["calibration"] == told
    assert set(made.record["files"]) == set(source.record["files"])
    old, new = (Classifier.load(each.folder).predict(photos).probabilities for each in (source, made))
    assert (old.argmax(axis=1) == new.argmax(axis=1)).all()
    scaled = old.astype(np.float64) ** told["scale"][0]
    np.testing.assert_allclose(new, scaled / scaled.sum(axis=1, keepdims=True), atol=1e-5)
    # It is tested from the cache as any run, and trained further.
    assert fastcls("test", made.folder, photos, "--images", "all").code == 0
    (metrics,) = made.tests().values()
    assert metrics["tested_on"]["cached"] == 60
    assert made.asked["command"] == "calibrate"


def test_calibrate__several_labels_keep_their_decisions(trained, photos, tmp_path):
    table = tmp_path / "table.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "labels", "split"])
        for place, image in enumerate(sorted(photos.rglob("*.png"))):
            names = [image.parent.name, "even"] if place % 2 else [image.parent.name]
            split = ("train", "val", "train")[place % 3]
            writer.writerow([image, "|".join(names if place % 5 else []), split])
    dataset = Dataset.open(table, label_separator="|")
    base = trained.cache.manifest
    cut = json.loads((trained.run / "run.json").read_text())["asked"]["cut"]["base"]["name"]
    run = tmp_path / "run"
    pipeline.run(dataset, cut, run, head=HeadSpec("logreg", refit=False), cache_root=tmp_path / "caches")
    made = calibrate(run, tmp_path / "made")
    old, new = Classifier.load(run), Classifier.load(tmp_path / "made")
    assert new.thresholds == made.thresholds != old.thresholds
    assert Run.open(tmp_path / "made").record["thresholds"] == list(made.thresholds)
    assert [each.class_names for each in old.predict(photos)] == [
        each.class_names for each in new.predict(photos)
    ]
    assert base.shape == tuple(Run.open(run).record["cache"]["shape"])


def test_calibrate__a_finetuned_network_needs_the_images(fastcls, base, photos, tmp_path):
    config = TrainConfig(epochs=1, val=0.5)
    plan = plan_finetuning(
        Dataset.open(photos), BaseSpec(str(base)), FinetuneSpec(), config, tmp_path / "run"
    )
    pipeline.finetune_planned(plan)
    done = fastcls("calibrate", tmp_path / "run", "--out", tmp_path / "made")
    assert (done.code, "fastcls calibrate RUN DATA" in done.err) == (1, True)
    done = fastcls("calibrate", tmp_path / "run", photos, "--out", tmp_path / "made")
    assert (done.code, "30 images" in done.out) == (0, True)
    assert Classifier.load(tmp_path / "made").predict(photos).probabilities.shape == (60, 3)


def test_calibrate__refuses_with_one_line(fastcls, trained, tmp_path):
    knn = train(trained.cache, tmp_path / "knn", HeadSpec("knn"))
    plain = train(trained.cache, tmp_path / "plain", HeadSpec("linear"), val=0, epochs=2)
    calibrate(trained.run, tmp_path / "made")
    cases = {
        (knn, "other"): "head of kind knn",
        (plain, "other"): "was trained without validation",
        (tmp_path / "made", "other"): "is calibrated already",
        (trained.run, "made"): "already exists",
        (tmp_path, "other"): "run.json",
    }
    for (run, out), message in cases.items():
        done = fastcls("calibrate", run, "--out", tmp_path / out)
        assert done.code == 1
        assert message in done.err
        assert not (tmp_path / "other").exists()

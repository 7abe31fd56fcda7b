"""Images unlike the training images are marked by `predict`, and counted by `test`."""

import csv
import io
import json
import shutil
import zipfile

import cv2
import numpy as np
import pytest

from fastcls import pipeline
from fastcls.data.dataset import Dataset
from fastcls.extraction.extractor import extract
from fastcls.inference.classifier import Classifier
from fastcls.inference.model_file import FAMILIARITY
from fastcls.plans.training import plan_training
from fastcls.runs import Run
from fastcls.specs import BaseSpec, CutSpec, ExtractConfig, HeadSpec, TrainConfig


@pytest.fixture
def strange(tmp_path):
    """A picture like none of the colors."""
    path = tmp_path / "strange.png"
    cv2.imwrite(str(path), np.tile(np.array([[0, 255]], np.uint8), (24, 15))[..., None].repeat(3, axis=2))
    return path


def test_predict__marks_unfamiliar_images_in_every_form(fastcls, trained, photos, strange):
    asked = ("predict", trained.run, photos / "red", strange)
    rows = [json.loads(line) for line in fastcls(*asked, "--json").out.splitlines()]
    assert rows[-1]["unfamiliar"] and rows[-1]["unfamiliarity"] > 1
    assert sum(row["unfamiliar"] for row in rows) < 6
    assert all(row["unfamiliar"] == (row["unfamiliarity"] > 1) for row in rows)
    marks = [str(row["unfamiliar"]).lower() for row in rows]
    table = list(csv.DictReader(io.StringIO(fastcls(*asked, "--csv").out)))
    assert [row["unfamiliar"] for row in table] == marks
    lines = fastcls(*asked).out.splitlines()
    assert [line.endswith(" [unfamiliar]") for line in lines] == [mark == "true" for mark in marks]


def test_classifier__alone_says_the_same_as_in_its_run(trained, photos, strange, tmp_path):
    shutil.copy(trained.run / "classifier.keras", tmp_path / "alone.keras")
    alone = Classifier.load(tmp_path / "alone.keras")
    both = Classifier.load(trained.run), alone
    found, again = (known.predict([photos / "red", strange]) for known in both)
    assert found[-1].is_unfamiliar
    assert [one.unfamiliarity for one in found] == [one.unfamiliarity for one in again]
    # The same as by its rows in the cache.
    rows, samples = trained.cache.read()
    scores = dict(zip([row.path for row in samples], alone.familiarity.score(rows), strict=True))
    for one in found[:-1]:
        assert one.unfamiliarity == pytest.approx(scores[f"red/{one.path.name}"], rel=1e-2)
    # Whoever asks for the model gets that of the file, and predicts as before.
    assert alone.model.outputs[0].shape[1] == 3
    assert alone.predict(strange)[0].unfamiliarity == pytest.approx(found[-1].unfamiliarity, rel=1e-3)
    assert Run.open(trained.run).record["familiarity"]["judged"] > 0


def test_test__says_how_many_are_unfamiliar(fastcls, trained, photos, strange, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    for number in range(5):
        place = tmp_path / "photos" / "red" / f"strange {number}.png"
        shutil.copy(strange, place)
        place.write_bytes(place.read_bytes() + bytes([number]))
    counts = []
    for more in ((), ("--through-model",)):
        out = tmp_path / f"test {len(more)}"
        done = fastcls("test", trained.run, tmp_path / "photos", "--out", out, *more)
        assert "unfamiliar: unlike those trained on" in done.out
        counts.append(json.loads((out / "metrics.json").read_text())["tested_on"]["unfamiliar"])
    assert counts[0] == counts[1] >= 5


@pytest.mark.parametrize("kind", ["tail", "knn", "logreg"])
def test_every_head_but_a_tail_knows_unfamiliar_images(kind, base, photos, tmp_path):
    cut = CutSpec(BaseSpec(str(base)), "conv", pool="none", precision="float32")
    config = ExtractConfig(engine="tensorflow", executor="inline")
    cache, _ = extract(Dataset.open(photos), cut, tmp_path / "caches", config)
    plan = plan_training(cache, HeadSpec(kind), TrainConfig(val=0.2), tmp_path / "run")
    classifier, _ = pipeline.train_planned(plan)
    (found,) = classifier.predict(photos / "red" / "0.png")
    assert (found.is_unfamiliar is None) is (kind == "tail")
    (loaded,) = Classifier.load(tmp_path / "run").predict(photos / "red" / "0.png")
    assert loaded.is_unfamiliar is found.is_unfamiliar


def test_a_damaged_file_is_refused(fastcls, trained, photos, tmp_path):
    path = tmp_path / "damaged.keras"
    with zipfile.ZipFile(trained.run / "classifier.keras") as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, b"nothing" if name == FAMILIARITY else old.read(name))
    done = fastcls("predict", path, photos / "red" / "0.png")
    assert (done.code, "is damaged" in done.err) == (1, True)

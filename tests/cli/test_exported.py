"""An export in place of a run: predict and test work with it, and what needs Keras says so."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from fastcls import files
from fastcls.backend import import_keras
from fastcls.errors import OptionError
from fastcls.exporting.runtimes import OPENVINO_KEYS
from fastcls.inference.classifier import Classifier
from fastcls.runs import CLASSIFIER


def write_export(run, folder):
    """What `fastcls export` makes of a run for OpenVINO, without its check."""
    import_keras()
    import openvino as ov
    import tensorflow as tf

    classifier = Classifier.load(run)
    model = classifier.model
    spec = tf.TensorSpec((None, *classifier.size, 3), tf.uint8, name="image")
    called = tf.function(lambda image: model(image, training=False))
    made = ov.convert_model(called.get_concrete_function(spec))
    made.outputs[0].set_names({"probabilities"})
    own = {"format": "openvino", "precision": "float32", "model": files.file_digest(run / CLASSIFIER)}
    made.set_rt_info(json.dumps({**classifier.described, "export": own}), list(OPENVINO_KEYS))
    folder.mkdir(parents=True)
    ov.save_model(made, folder / "classifier.xml", compress_to_fp16=False)


@pytest.fixture(scope="session")
def exported(trained, tmp_path_factory):
    """A copy of the run, with an export in it."""
    run = tmp_path_factory.mktemp("exported") / "run"
    shutil.copytree(trained.run, run, ignore=lambda *_: ["test"])
    write_export(run, run / "exports" / "openvino-float32")
    return run


@pytest.fixture
def run(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "run")


@pytest.fixture
def export(run):
    return run / "exports" / "openvino-float32"


def test_export_predicts_what_its_run_does(fastcls, run, export, photos):
    own = fastcls("predict", run, photos, "--csv")
    for place in (export, export / "classifier.xml"):
        found = fastcls("predict", place, photos, "--csv")
        assert (found.code, found.err) == (0, "")
        rows = [[line.split(",") for line in text.out.splitlines()[1:]] for text in (own, found)]
        assert [row[:3] for row in rows[0]] == [row[:3] for row in rows[1]]
        probabilities = [[float(row[3]) for row in each] for each in rows]
        np.testing.assert_allclose(*probabilities, atol=1e-5)
        assert [{row[4] for row in each} <= {"true", "false"} for each in rows] == [True, False]


def test_export_is_tested_by_itself_and_the_images_of_its_run_are_known(fastcls, run, export, photos):
    own = fastcls("test", run, photos)
    found = fastcls("test", export, photos)
    assert found.code == 0, found.err
    on = [
        json.loads((place / "test" / "photos" / "metrics.json").read_text())["tested_on"]
        for place in (run, export)
    ]
    same = ("seen", "digest", "images")
    assert [on[0][name] for name in same] == [on[1][name] for name in same]
    assert on[1]["seen"] is not None
    assert (on[0]["features"], on[1]["features"]) == ("cache (float32)", "images")
    assert on[0]["model"] != on[1]["model"] == Classifier.load(export).digest
    figures = [text.out.split("Tested on")[0] for text in (own, found)]
    assert figures[0] == figures[1]
    assert "--cache" in fastcls("test", export, photos, "--cache", run.parent).err


def test_stale_export_says_so_and_works(fastcls, run, export, photos, caplog):
    fastcls("predict", export, photos)
    assert not caplog.messages
    classifier = Classifier.load(run)
    classifier.model.layers[-1].bias.assign_add([1.0, 0, 0])
    classifier.save(run / CLASSIFIER)
    record = files.read_checked_json(run / "run.json")
    record["files"][CLASSIFIER] = files.file_digest(run / CLASSIFIER)
    files.write_checked_json(run / "run.json", record)
    for command in ("predict", "test"):
        caplog.clear()
        done = fastcls(command, export, photos)
        assert done.code == 0, done.err
        (said,) = [each for each in caplog.messages if "is stale" in each]
        assert str(export) in said and f"another {CLASSIFIER} than the one in {run}. Export again" in said
    assert Classifier.load(export).known_images().images == ()


def test_export_has_no_keras_model(fastcls, run, export, photos, tmp_path):
    classifier = Classifier.load(export)
    assert classifier.is_export and not Classifier.load(run).is_export
    with pytest.raises(OptionError, match=r"classifier\.xml is an export, which has no Keras model"):
        _ = classifier.model
    for arguments in (
        ("explain", export, photos, "--out", tmp_path / "explained"),
        ("finetune", photos, "--from", export, "--out", tmp_path / "finetuned"),
        ("calibrate", export, "--out", tmp_path / "calibrated"),
        ("report", export),
    ):
        said = fastcls(*arguments)
        assert said.code == 1, said
        assert len(said.err.strip().splitlines()) == 1, said.err


def test_export_has_an_engine_of_its_own(fastcls, run, export, photos):
    said = fastcls("predict", export, photos, "--engine", "tensorflow")
    assert (said.code, said.out) == (1, "")
    assert "An export is run by the runtime of its format" in said.err
    for engine in ("tensorflow", "openvino"):
        assert fastcls("predict", run, photos, "--engine", engine).code == 0


def test_damaged_export_is_one_line(fastcls, export, photos):
    (export / "classifier.bin").write_bytes(b"")
    said = fastcls("predict", export, photos)
    assert (said.code, said.out) == (1, "")
    assert "classifier.xml is damaged" in said.err and len(said.err.splitlines()) == 1

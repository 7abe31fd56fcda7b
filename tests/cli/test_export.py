"""fastcls export, as a user meets it."""

import importlib.util
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from fastcls.exporting import exporter
from fastcls.inference.classifier import Classifier
from fastcls.specs import exporting
from fastcls.specs.exporting import FORMATS

pytest.importorskip("onnxruntime")
pytest.importorskip("tf2onnx")


@pytest.fixture
def run(trained, tmp_path):
    """A run of its own: exports go into it."""
    return shutil.copytree(trained.run, tmp_path / "run")


def rows_of(result):
    """The rows of the table: {(format, precision): cells}."""
    lines = [line.split(maxsplit=6) for line in result.out.splitlines() if line.split(" ")[0] in FORMATS]
    return {(name, precision): cells for name, precision, *cells in lines}


def record_of(folder):
    return json.loads((folder / "export.json").read_text())


def test_export__writes_checks_and_says_it_is_there(fastcls, run):
    asked = ("export", run, "--format", "onnx", "--precision", "float32", "--precision", "float16")
    done = fastcls(*asked, "--check-images", 12)
    assert done.code == 0, done.err
    rows = rows_of(done)
    assert rows["onnx", "float32"][2] == "12/12"
    assert [rows["onnx", each][-1].split()[0] for each in ("float32", "float16")] == ["ok", "ok"]
    folder = run / "exports" / "onnx-float16"
    record, classifier = record_of(folder), Classifier.load(run)
    assert record["check"]["status"] == "verified"
    assert record["check"]["accuracy"]["before"] == 1.0
    assert record["check"]["cache"]["overturned"] == 0
    before = (folder / "classifier.onnx").stat()
    again = fastcls(*asked)
    assert again.code == 0
    assert again.out.count("is there already") == 2
    assert (folder / "classifier.onnx").stat() == before
    assert classifier.described["weights_license"] == "unknown"  # of a base of the user
    (folder / "classifier.onnx").write_bytes(b"")
    damaged = fastcls(*asked)
    assert damaged.code == 1 and f"is damaged or was replaced: it does not match {folder}" in damaged.err


def test_export__what_was_made_of_another_classifier_is_not_written_over(fastcls, run, tmp_path):
    assert fastcls("export", run, "--format", "openvino").code == 0
    other = replace(Classifier.load(run), provenance={"made": "later"})
    other.save(tmp_path / "other.keras")
    refused = fastcls("export", tmp_path / "other.keras", "--format", "openvino", "--out", run / "exports")
    assert refused.code == 1
    assert "is an export of another classifier, or of an earlier one of this run" in refused.err


def test_export__one_that_differs_is_not_kept_and_the_others_are(fastcls, run, monkeypatch):
    write = FORMATS["onnx"].write

    def swapped(source, folder):
        write(source, folder)
        import onnx

        path = folder / "classifier.onnx"
        model = onnx.load(path)
        model.graph.output[0].name = "swapped"
        order = onnx.numpy_helper.from_array(np.array([1, 0, 2]), "order")
        model.graph.initializer.append(order)
        nodes = [onnx.helper.make_node("Gather", ["probabilities", "order"], ["swapped"], axis=1)]
        model.graph.node.extend(nodes)
        for node in model.graph.node:
            names = {"probabilities": "right", "swapped": "probabilities"}
            node.input[:] = [names.get(each, each) for each in node.input]
            node.output[:] = [names.get(each, each) for each in node.output]
        model.graph.output[0].name = "probabilities"
        onnx.save(model, path)

    monkeypatch.setattr(exporter, "_swapped", swapped, raising=False)
    planted = replace(FORMATS["onnx"], path="fastcls.exporting.exporter:_swapped")
    monkeypatch.setitem(exporting.FORMATS, "onnx", planted)
    done = fastcls("export", run, "--format", "onnx", "--format", "openvino")
    assert done.code == 1
    assert done.err.splitlines()[-1] == "Not kept: onnx-float32. Use another format or precision"
    rows = rows_of(done)
    assert rows["onnx", "float32"][-1].startswith("failed: max difference of probabilities in float32 is")
    assert rows["openvino", "float32"][-1] == "ok"
    assert [path.name for path in (run / "exports").iterdir()] == ["openvino-float32"]


def test_export__a_savedmodel_takes_encoded_images(fastcls, run, photos, tmp_path):
    import tensorflow as tf

    done = fastcls("export", run, "--format", "savedmodel", "--bytes-input", "--data", photos)
    assert done.code == 0, done.err
    folder = run / "exports" / "savedmodel-float32"
    assert record_of(folder)["image_bytes"]["images"] == 32
    paths = sorted(photos.rglob("*.png"))[::7]
    loaded = tf.saved_model.load(str(folder / "saved_model"))
    data = tf.constant([path.read_bytes() for path in paths])
    found = loaded.signatures["image_bytes"](image_bytes=data)["probabilities"]
    np.testing.assert_allclose(found, Classifier.load(run).predict(paths).probabilities, atol=2e-3)
    without = fastcls("export", run, "--format", "savedmodel")
    assert (without.code, "was made with --bytes-input" in without.err) == (1, True)


@pytest.mark.parametrize("is_same", [True, False])
def test_export__two_at_once_leave_one_whole_export(fastcls, run, monkeypatch, is_same):
    asked = ("export", run, "--format", "openvino", "--check-images", 4)
    folder, verify, inner = run / "exports" / "openvino-float32", exporter.verify, []

    def verify_meanwhile(*arguments):
        if not inner:
            inner.append("begun")
            inner.append(fastcls(*asked))
            if not is_same:
                (folder / "export.json").unlink()
            inner.append((folder / "classifier.bin").stat())
        return verify(*arguments)

    monkeypatch.setattr(exporter, "verify", verify_meanwhile)
    outer = fastcls(*asked)
    assert inner[1].code == 0 and rows_of(inner[1])["openvino", "float32"][-1] == "ok"
    assert (folder / "classifier.bin").stat() == inner[2]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    text = outer.out if is_same else outer.err
    assert (outer.code, ("is there already" if is_same else "already exists") in text) == (1 - is_same, True)


def test_export__ctrl_c_leaves_nothing(fastcls, run, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(exporter, "verify", interrupted)
    assert fastcls("export", run, "--format", "graphdef").code == 130
    assert not any((run / "exports").iterdir())


def test_export__a_full_disk_is_told_where_a_converter_does_not(fastcls, run, monkeypatch):
    def fail(*_):
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
        raise RuntimeError("basic_ios::clear: iostream error")

    usage = shutil.disk_usage(run)
    monkeypatch.setattr(exporter, "_fail", fail, raising=False)
    planted = replace(FORMATS["graphdef"], path="fastcls.exporting.exporter:_fail")
    monkeypatch.setitem(exporting.FORMATS, "graphdef", planted)
    refused = fastcls("export", run, "--format", "graphdef")
    assert refused.code == 1 and "No space left on device. Free some space" in refused.err
    assert not any((run / "exports").iterdir())


def test_export__a_disk_that_is_nearly_full_is_told_before_it_writes(fastcls, run, monkeypatch):
    usage = shutil.disk_usage(run)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2048))
    refused = fastcls("export", run, "--format", "onnx")
    assert refused.code == 1
    assert re.search(r"has 2\.0 KiB left, and the exports may take [1-9]\S* [KM]iB\. Free", refused.err)


def test_export__refuses_before_it_writes(fastcls, run, tmp_path, monkeypatch):
    (run / "exports" / "litert-float32").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    refusals = {
        ("--format", "onnx", "--precision", "int8"): "onnx is written in float32 or float16",
        ("--format", "onnx", "--bytes-input"): "--bytes-input has an effect on --format savedmodel alone",
        ("--format", "litert"): "litert-float32 already exists",
        ("--format", "onnx", "--data", tmp_path / "nothing"): "nothing",
        ("--format", "onnx", "--data", tmp_path / "empty"): "There is no image in",
    }
    for arguments, reason in refusals.items():
        refused = fastcls("export", run, *arguments)
        assert (refused.code, reason in refused.err) == (1, True), refused.err
    assert fastcls("export", tmp_path / "none", "--format", "onnx").code == 1
    assert fastcls("export", run, "--format", "onxx").code == 2
    assert fastcls("export", run).code == 2
    shutil.copy(run / "classifier.keras", tmp_path / "alone.keras")
    assert (
        "Say where exports go with --out"
        in fastcls("export", tmp_path / "alone.keras", "--format", "onnx").err
    )
    votes = tmp_path / "votes.keras"
    replace(Classifier.load(run), provenance={"head": {"kind": "knn"}}).save(votes)
    refused = fastcls("export", votes, "--format", "litert", "--precision", "int8", "--out", tmp_path / "out")
    assert "A knn head cannot be exported to litert in int8" in refused.err
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tf2onnx" else find(name))
    assert "pip install tf2onnx" in fastcls("export", run, "--format", "onnx").err
    assert [path.name for path in (run / "exports").iterdir()] == ["litert-float32"]


def test_export__without_images_asks_for_some(fastcls, run, tmp_path, photos):
    place = tmp_path / "elsewhere.keras"
    shutil.copy(run / "classifier.keras", place)
    asked = ("export", place, "--format", "openvino", "--precision", "int8", "--out", tmp_path / "out")
    refused = fastcls(*asked)
    assert (refused.code, "Give --data" in refused.err) == (1, True)
    loose = shutil.copytree(photos / "red", tmp_path / "loose")  # images without classes
    planned = fastcls(*asked, "--data", loose, "--dry-run")
    assert (planned.code, "int8 is calibrated on 20 images" in planned.out) == (0, True)
    assert not (tmp_path / "out").exists()

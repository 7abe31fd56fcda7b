"""An export is run in a process of its own, which holds the runtime of its format and no Keras."""

import json

import exports_support as support
import numpy as np
import pytest

from fastcls import processes
from fastcls.errors import ExportError
from fastcls.exporting import verifier
from fastcls.exporting.runtimes import RUNTIMES
from fastcls.exporting.verifier import needs_path, path_model, reference_of, verify
from fastcls.inference.classifier import Classifier
from fastcls.specs import PixelRule


@pytest.fixture(scope="session")
def classifier(model):
    rule = PixelRule.read(support.DESCRIBED["pixels"])
    return Classifier(model, support.NAMES, rule, {})


@pytest.fixture(scope="session")
def reference(classifier):
    return reference_of(classifier, support.some_images(12), labels=np.zeros(12, np.int64))


@pytest.mark.parametrize("name", RUNTIMES)
def test_right_export_is_verified_apart(exports, reference, name, tmp_path, monkeypatch):
    tell = f"\nopen({str(tmp_path / 'modules')!r}, 'w').write(' '.join(sys.modules))"
    monkeypatch.setattr(processes, "_MAIN", processes._MAIN + tell)
    checked = verify(exports[name].parent, reference)
    assert (checked.status, checked.told) == ("verified", "ok")
    assert checked.figures.max_difference < 1e-5
    assert 0 < checked.ms_per_image < 1000
    told = checked.to_dict()
    assert json.loads(json.dumps(told)) == told
    assert told["images"] == 12
    modules = set((tmp_path / "modules").read_text().split())
    heavy = {"tensorflow"} if name in ("savedmodel", "graphdef") else set()
    assert modules & {"tensorflow", "keras", "tf_keras", "torch"} == heavy


def test_wrong_export_fails_by_name(reference, tmp_path):
    wrong = support.write_export(support.tiny_model(normalization="tf"), "onnx", tmp_path / "onnx-float32")
    with pytest.raises(ExportError, match=r"onnx-float32 does not do what .* on 12 images: max"):
        verify(wrong, reference).require("onnx-float32")


def test_export_that_cannot_be_run_is_named(exports, reference, tmp_path):
    broken = tmp_path / "classifier.onnx"
    broken.write_bytes(exports["onnx"].read_bytes()[:1000])
    with pytest.raises(ExportError, match=r"classifier\.onnx cannot be run: .*OptionError.*damaged"):
        verify(broken, reference)


def test_export_that_hangs_is_ended(exports, reference, monkeypatch):
    monkeypatch.setattr(verifier, "TIMEOUT_S", 0.2)
    monkeypatch.setattr(verifier, "_TIMEOUT_S_PER_IMAGE", 0)
    monkeypatch.setattr(processes, "_MAIN", "import time; time.sleep(60)")
    with pytest.raises(ExportError, match=r"did not run within 0\.2 seconds"):
        verify(exports["onnx"], reference)


def test_lower_precision_needs_its_float32_path(classifier, exports, model, reference, tmp_path):
    assert [needs_path(classifier, each) for each in ("float32", "float16", "int8")] == [False, True, True]
    assert path_model(classifier) is model
    told = {**support.DESCRIBED, "export": {"precision": "float16"}}
    half = support.write_export(model, "onnx", tmp_path / "onnx-float16", told)
    with pytest.raises(ValueError, match="float32 path"):
        verify(half, reference)
    checked = verify(half, reference, path=exports["onnx"])
    assert checked.told.startswith("ok (float32 path: ")

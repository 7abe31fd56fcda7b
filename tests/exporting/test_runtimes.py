"""Exports run without Keras, and tell what travels with them; what is no whole export is refused."""

import json
import shutil

import exports_support as support
import numpy as np
import pytest

from fastcls import files
from fastcls.errors import OptionError
from fastcls.exporting.export_record import write_record
from fastcls.exporting.runtimes import RUNTIMES, find_export, is_export, open_export
from fastcls.runs import EXPORT_RECORD

FORMATS = tuple(RUNTIMES)


@pytest.fixture
def copied(exports, tmp_path):
    """Returns a function that copies the export of a format, with the folder that it is in."""
    return lambda name: shutil.copytree(exports[name].parent, tmp_path / "copy") / exports[name].name


@pytest.mark.parametrize("name", FORMATS)
def test_export_gives_the_probabilities_of_keras_in_any_batch(exports, model, name):
    images = support.some_images(5)
    expected = model.predict(images, verbose=0)
    for place in (exports[name], exports[name].parent):
        export = open_export(place)
        assert (export.format, export.path, export.described) == (name, exports[name], support.DESCRIBED)
        for some in (slice(0, 1), slice(0, 5), slice(3, 5)):
            found = export.run(images[some])
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected[some], atol=1e-5)


@pytest.mark.parametrize("name", ["onnx", "openvino", "litert", "graphdef"])
def test_file_is_taken_whatever_it_is_called(copied, name):
    file = copied(name)
    renamed = file.rename(file.with_name(f"mine{file.suffix}"))
    if name == "openvino":
        file.with_suffix(".bin").rename(renamed.with_suffix(".bin"))
    assert open_export(renamed).path == find_export(renamed.parent) == renamed


@pytest.mark.parametrize("name", FORMATS)
def test_changed_file_is_refused_by_the_record_beside_it(copied, name):
    file = copied(name)
    named = [path for path in file.parent.rglob("*") if path.is_file()]
    digests = {path.relative_to(file.parent).as_posix(): files.file_digest(path) for path in named}
    check = {"images": 8, "agreeing": 8, "decisions": 8, "max_difference": 0.0, "ms_per_image": None}
    known = {"format": name, "precision": "float32", "digests": {"model": "a"}, "bytes": 1, "check": check}
    write_record(file.parent, {**known, "files": digests, "image_bytes": None})
    open_export(file)
    for path in named:
        content = path.read_bytes()
        path.write_bytes(content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])
        with pytest.raises(OptionError, match=f"{path.name} is damaged or was replaced"):
            open_export(file)
        path.write_bytes(content)
    (file.parent / EXPORT_RECORD).write_text("{}")
    with pytest.raises(OptionError, match=r"export\.json is damaged"):
        open_export(file)


@pytest.mark.parametrize("name", FORMATS)
def test_truncated_file_is_refused(copied, name):
    file = copied(name)
    for path in (file.with_suffix(".bin"), file / "saved_model.pb", file):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            break
    with pytest.raises(OptionError, match="damaged, or was not exported by fastcls"):
        open_export(file)


@pytest.mark.parametrize(("name", "more"), [("openvino", "classifier.bin"), ("graphdef", "fastcls.json")])
def test_half_of_two_files_is_refused(copied, name, more):
    file = copied(name)
    (file.parent / EXPORT_RECORD).unlink(missing_ok=True)
    (file.parent / more).unlink()
    with pytest.raises(OptionError, match=f"needs {more} beside it"):
        open_export(file)


@pytest.mark.parametrize("name", FORMATS)
def test_model_without_names_is_refused(model, tmp_path, name):
    foreign = support.write_export(model, name, tmp_path / "foreign", {"no": "names"})
    with pytest.raises(OptionError, match="not exported by fastcls"):
        open_export(foreign)


@pytest.mark.parametrize("changes", [{"class_names": ["a", "b"]}, {"pixels": {"size": [20, 16]}}], ids=str)
def test_model_that_does_not_fit_what_travels_with_it_is_refused(model, tmp_path, changes):
    wrong = support.write_export(model, "onnx", tmp_path / "wrong", support.DESCRIBED | changes)
    with pytest.raises(OptionError, match="damaged, or was not exported"):
        open_export(wrong)


def test_what_is_no_export_is_named(tmp_path):
    (tmp_path / "text.txt").write_text("no export")
    for path in (tmp_path, tmp_path / "text.txt", tmp_path / "nothing.onnx"):
        assert not is_export(path)
        with pytest.raises(OptionError, match="Give the folder that `fastcls export` has written"):
            open_export(path)
    for name in ("a.onnx", "b.tflite"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(OptionError, match=r"holds 2 models \(a.onnx, b.tflite\)"):
        open_export(tmp_path)


@pytest.mark.parametrize("name", ["savedmodel", "graphdef"])
def test_graph_that_touches_files_is_never_run(copied, name, tmp_path):
    import tensorflow as tf

    file = copied(name)
    shutil.rmtree(file) if file.is_dir() else file.unlink()

    def writing(image):
        tf.io.write_file(str(tmp_path / "written"), "x")
        return tf.identity(tf.ones((tf.shape(image)[0], 3)) / 3, name="probabilities")

    spec = tf.TensorSpec((None, *support.SIZE, 3), tf.uint8, name="image")
    called = tf.function(writing).get_concrete_function(spec)
    if name == "graphdef":
        file.write_bytes(called.graph.as_graph_def().SerializeToString())
    else:
        tf.saved_model.save(tf.Module(), str(file), signatures={"serving_default": called})
    (file.parent / "fastcls.json").write_text(json.dumps(support.DESCRIBED))
    with pytest.raises(OptionError, match="WriteFile"):
        open_export(file)
    assert not (tmp_path / "written").exists()

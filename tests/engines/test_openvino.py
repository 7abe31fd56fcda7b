"""OpenVINO's engines come near to Keras, and say what they lack. What needs no OpenVINO is tested without."""

import errno
import logging
import shutil
import subprocess
import sys
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
from engines_support import keras_rows, no_images, save_trunk, some_images

from fastcls.backend import import_keras
from fastcls.cache import checked_files
from fastcls.engines import openvino
from fastcls.engines.openvino import Bfloat16Engine, Float16Engine, Int8Engine, OpenVINOEngine
from fastcls.engines.openvino_core import import_openvino
from fastcls.engines.tensorflow import TensorFlowEngine
from fastcls.engines.trunk import Trunk
from fastcls.errors import CacheError, ConversionError, MissingExtraError, OptionError
from fastcls.extraction.fidelity import compare

FLOATS = [OpenVINOEngine, Bfloat16Engine, Float16Engine]


@pytest.fixture(scope="module")
def trunk_path(tmp_path_factory):
    return save_trunk(tmp_path_factory.mktemp("trunk"))


@pytest.fixture(scope="module")
def int8(tmp_path_factory):
    """Path of a trunk that is quantized."""
    pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    path = save_trunk(tmp_path_factory.mktemp("int8"))
    Int8Engine.prepare(Trunk(path), lambda: some_images(32))
    return path


def prepared(engine, trunk_path):
    """The engine, where this machine can compute in its precision."""
    pytest.importorskip("openvino")
    try:
        engine.require()
    except OptionError as error:
        pytest.skip(str(error))
    engine.prepare(Trunk(trunk_path), no_images)
    return engine(trunk_path, 1)


@pytest.mark.parametrize("engine", [Bfloat16Engine, Float16Engine])
def test_16_bits__are_near_float32_and_not_the_same(trunk_path, engine):
    found = compare(prepared(engine, trunk_path).run(some_images(6)), keras_rows(trunk_path, some_images(6)))
    assert 1e-5 < found.median_error < 0.05 and found.smallest_cosine > 0.99


def test_int8__is_near_float32_and_not_the_same(int8):
    try:
        Int8Engine.require()
    except OptionError as error:
        pytest.skip(str(error))
    found = compare(Int8Engine(int8, 1).run(some_images(40)), keras_rows(int8, some_images(40)))
    assert 1e-3 < found.median_error < 0.15 and found.smallest_cosine > 0.95


def test_int8__of_depthwise_convolutions_compiles(tmp_path):
    """Behind a swish, as in EfficientNet: ranges of each channel of their input do not."""
    pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    keras = import_keras()
    keras.utils.set_random_seed(0)
    image = keras.Input((24, 20, 3), dtype="uint8")
    x = keras.layers.Conv2D(16, 3, activation="swish")(keras.layers.Rescaling(1 / 255)(image))
    x = keras.layers.DepthwiseConv2D(3, padding="same")(x)
    path = tmp_path / "trunk.keras"
    checked_files.keep(path, keras.Model(image, keras.layers.GlobalAveragePooling2D()(x)).save, of="")
    Int8Engine.prepare(Trunk(path), lambda: some_images(16))
    found = compare(Int8Engine(path, 1).run(some_images(40)), keras_rows(path, some_images(40)))
    assert found.median_error < 0.15


def test_rows__are_kept_when_the_next_batch_comes(trunk_path):
    engine = prepared(OpenVINOEngine, trunk_path)
    rows = engine.run(some_images(4))
    before = rows.copy()
    engine.run(some_images(4)[::-1])
    assert np.array_equal(rows, before)


def test_prepare__converts_once_and_keeps_the_weights_once_for_all_floats(trunk_path):
    prepared(OpenVINOEngine, trunk_path)
    before = OpenVINOEngine.place(trunk_path).stat().st_mtime_ns
    for engine in FLOATS:
        engine.prepare(Trunk(trunk_path), no_images)
    assert OpenVINOEngine.place(trunk_path).stat().st_mtime_ns == before
    assert len({engine.place(trunk_path).with_suffix(".bin").stat().st_ino for engine in FLOATS}) == 1


def test_engine__needs_no_tensorflow_once_it_is_converted(trunk_path):
    prepared(OpenVINOEngine, trunk_path)
    code = "import sys; from pathlib import Path; from fastcls.engines.openvino import OpenVINOEngine\n"
    code += f"OpenVINOEngine(Path({str(trunk_path)!r}), 1)\n"
    code += "print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# What is missing


@pytest.fixture
def fake(monkeypatch):
    """Puts a made up OpenVINO in place of the real one, be it installed or not."""

    def install(*capabilities, **functions):
        made = SimpleNamespace(get_property=lambda *_: list(capabilities))
        monkeypatch.setitem(sys.modules, "openvino", SimpleNamespace(Core=lambda: made, **functions))
        monkeypatch.setattr(openvino, "core", lambda: import_openvino().Core())

    return install


@pytest.mark.parametrize("engine", [*FLOATS, Int8Engine])
def test_require__without_openvino_says_how_to_get_it(trunk_path, monkeypatch, engine):
    monkeypatch.setitem(sys.modules, "openvino", None)
    for action in (engine.require, lambda: engine(trunk_path)):
        with pytest.raises(MissingExtraError, match="pip install openvino"):
            action()


def test_require__int8_without_nncf_names_the_extra(fake, monkeypatch):
    fake("FP32", "INT8")
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(MissingExtraError, match=r"pip install nncf"):
        Int8Engine.require()


@pytest.mark.parametrize(
    "engine, name", [(Bfloat16Engine, "BF16"), (Float16Engine, "FP16"), (Int8Engine, "INT8")]
)
def test_require__what_the_cpu_lacks_is_named(fake, engine, name):
    fake("FP32", "BIN")
    OpenVINOEngine.require()
    with pytest.raises(OptionError, match=f"this CPU has no native {name} support"):
        engine.require()
    fake("FP32", name)
    if engine is not Int8Engine:
        engine.require()


def test_prepare__an_operation_that_openvino_does_not_know(fake, tmp_path):
    def convert_model(graph):
        raise RuntimeError("No translator found for Swirl")

    fake(convert_model=convert_model)
    trunk = SimpleNamespace(path=tmp_path / "trunk.keras", graph=None)
    with pytest.raises(ConversionError, match="cannot convert this trunk: No translator found for Swirl"):
        OpenVINOEngine.prepare(trunk, no_images)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failing", ["read_model", "compile_model"])
def test_engine__a_trunk_that_does_not_compile_is_told_in_a_line(failing, fake, tmp_path, monkeypatch):
    opened = MagicMock()
    getattr(opened, failing).side_effect = RuntimeError(
        "Exception from core.cpp:132:\nSwirl is not per-tensor\n\n\n"
    )
    place = OpenVINOEngine.place(tmp_path / "trunk.keras")
    place.parent.mkdir()
    for file in (place, place.with_suffix(".bin")):
        file.write_text("of an unknown operation")
    checked_files.note_all(place.parent)
    fake("FP32")
    monkeypatch.setattr(sys.modules["openvino"], "Core", lambda: opened)
    monkeypatch.setattr(sys.modules["openvino"], "opset13", MagicMock(), raising=False)
    with pytest.raises(
        ConversionError, match=r"^OpenVINO cannot compile this trunk: Swirl is not per-tensor$"
    ):
        OpenVINOEngine(tmp_path / "trunk.keras")


def test_prepare__a_quantized_trunk_that_does_not_compile_is_not_kept(int8, tmp_path, monkeypatch):
    def fail(*_):
        raise ConversionError("OpenVINO cannot compile this trunk")

    monkeypatch.setattr(openvino, "_compile", fail)
    path = save_trunk(tmp_path)
    with pytest.raises(ConversionError):
        Int8Engine.prepare(Trunk(path), lambda: some_images(8))
    assert not Int8Engine.place(path).parent.exists()


NOTHING = SimpleNamespace(get_results=list, get_ordered_ops=list, validate_nodes_and_infer_types=lambda: None)


def test_prepare__two_at_once_keep_the_first(fake, tmp_path):
    """Where there are no locks."""

    def save_model(model, path, compress_to_fp16):
        path.write_text("second")
        place = OpenVINOEngine.place(trunk.path)
        place.parent.mkdir()
        for first in (place, place.with_suffix(".bin")):
            first.write_text("first")
        checked_files.note_all(place.parent)

    fake(convert_model=lambda graph: NOTHING, save_model=save_model)
    trunk = SimpleNamespace(path=tmp_path / "trunk.keras", graph=None)
    OpenVINOEngine.prepare(trunk, no_images)
    assert OpenVINOEngine.place(trunk.path).read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["openvino"]


@pytest.mark.parametrize(("free", "code"), [(0, errno.ENOSPC), (1 << 40, errno.EIO)])
def test_prepare__a_disk_that_fails_is_a_disk_error(fake, tmp_path, monkeypatch, free, code):
    def save_model(model, path, compress_to_fp16):
        path.write_text("half")
        raise RuntimeError("basic_ios::clear: iostream error")

    fake(convert_model=lambda graph: NOTHING, save_model=save_model)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    with pytest.raises(OSError, match="OpenVINO cannot write") as raised:
        OpenVINOEngine.prepare(SimpleNamespace(path=tmp_path / "trunk.keras", graph=None), no_images)
    assert raised.value.errno == code and list(tmp_path.iterdir()) == []


# Damage


def change(path, place):
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= 0x40
    path.write_bytes(data)


@pytest.mark.parametrize("suffix", [".bin", ".xml"])
@pytest.mark.parametrize("damage", ["changed", "truncated", "gone", "unknown"])
def test_engine__a_damaged_file_is_refused(trunk_path, tmp_path, suffix, damage):
    prepared(OpenVINOEngine, trunk_path)
    path = shutil.copytree(trunk_path.parent, tmp_path / "copy") / trunk_path.name
    file = OpenVINOEngine.place(path).with_suffix(suffix)
    OpenVINOEngine(path, 1)
    if damage == "changed":
        change(file, 1003)
    elif damage == "truncated":
        file.write_bytes(file.read_bytes()[:100])
    else:
        (file if damage == "gone" else file.parent / checked_files.FILE).unlink()
    with pytest.raises(CacheError, match=r"openvino/.* Delete this file and run the same `fastcls extract`"):
        OpenVINOEngine(path, 1)


def test_prepare__makes_a_damaged_file_anew_from_a_whole_trunk(trunk_path, tmp_path, caplog):
    caplog.set_level(logging.WARNING)  # NNCF, in other tests, has silenced its handlers
    rows = prepared(OpenVINOEngine, trunk_path).run(some_images(6)).copy()
    path = shutil.copytree(trunk_path.parent, tmp_path / "copy") / trunk_path.name
    file, whole = OpenVINOEngine.place(path).with_suffix(".bin"), path.read_bytes()
    change(file, 1003)
    change(path, 5000)
    for load in (TensorFlowEngine, lambda path: OpenVINOEngine.prepare(Trunk(path), no_images)):
        with pytest.raises(CacheError, match=r"trunk\.keras is damaged"):
            load(path)
    path.write_bytes(whole)
    OpenVINOEngine.prepare(Trunk(path), no_images)
    assert "It will be recreated" in caplog.text
    assert np.array_equal(OpenVINOEngine(path, 1).run(some_images(6)), rows)


def test_int8__a_damaged_file_is_refused(int8, tmp_path):
    path = shutil.copytree(int8.parent, tmp_path / "copy") / int8.name
    change(Int8Engine.place(path).with_suffix(".bin"), 1003)
    assert Int8Engine.damage(path)
    with pytest.raises(CacheError, match=r"openvino-int8/trunk\.bin is damaged"):
        Int8Engine(path, 1)


def test_engines_that_come_and_go_leave_signals_alone(trunk_path):
    pytest.importorskip("openvino")
    OpenVINOEngine.prepare(Trunk(trunk_path), no_images)
    script = f"""
import os, signal
from pathlib import Path
from fastcls.engines.openvino import OpenVINOEngine
first, second = (OpenVINOEngine(Path({str(trunk_path)!r})) for _ in range(2))
del first
del second
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("caught")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "caught\n"), done.stderr

"""OpenVINO's engine computes what Keras computes, and is only trusted when it does."""

import dataclasses
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

from fastcls.backend import import_keras
from fastcls.cache.store import Cache, Manifest
from fastcls.engines import find_engine, load_engine
from fastcls.errors import MissingExtraError, OptionError
from fastcls.extraction import fidelity
from fastcls.extraction.fidelity import compare, require_fidelity

OPENVINO = find_engine("openvino", "float32")
MANIFEST = Manifest(
    fingerprint="f" * 32,
    base="tiny",
    weights="own",
    layer="pool",
    pool="avg",
    normalize="torch",
    size=(24, 20),
    recipe="none",
    dtype="float32",
    precision="float32",
    shape=(8,),
    architecture="",
    weights_digest="",
)


@pytest.fixture
def cache(tmp_path):
    from fastcls.bases.normalize import normalize

    keras = import_keras()
    keras.utils.set_random_seed(1)
    cache = Cache.create(tmp_path / "caches", MANIFEST)
    image = keras.Input((24, 20, 3), dtype="uint8")
    x = keras.layers.Conv2D(8, 3, use_bias=False)(normalize(image, "torch"))
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    keras.Model(image, keras.layers.GlobalAveragePooling2D()(x)).save(cache.trunk_path)
    return cache


@pytest.fixture
def photos(tmp_path):
    places = [tmp_path / f"{number}.png" for number in range(40)]
    for number, place in enumerate(places):
        cv2.imwrite(str(place), np.random.default_rng(number).integers(0, 256, (24, 20, 3), np.uint8))
    places[3].write_bytes(b"")
    return places


def images(count):
    return np.random.default_rng(0).integers(0, 256, (count, 24, 20, 3), dtype=np.uint8)


def test_engine__computes_what_keras_computes(cache):
    pytest.importorskip("openvino")
    model = import_keras().saving.load_model(cache.trunk_path)
    rows = load_engine(OPENVINO, cache.trunk_path, 1).run(images(6))
    assert rows.dtype == np.float32
    assert np.allclose(rows, model.predict(images(6), verbose=0), atol=1e-5)


def test_engine__needs_no_tensorflow_once_it_is_converted(cache):
    pytest.importorskip("openvino")
    load_engine(OPENVINO, cache.trunk_path)
    code = "import sys; from pathlib import Path; from fastcls.engines import load_engine\n"
    code += f"load_engine({OPENVINO!r}, Path({str(cache.trunk_path)!r}), 1)\n"
    code += "print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_engine__bfloat16_is_near_or_refused(cache):
    openvino = pytest.importorskip("openvino")
    engine = find_engine("openvino", "bfloat16")
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with pytest.raises(OptionError, match="does not compute in bfloat16 natively"):
            load_engine(engine, cache.trunk_path)
        return
    reference = load_engine(find_engine("tensorflow", "float32"), cache.trunk_path).run(images(6))
    found = compare(load_engine(engine, cache.trunk_path).run(images(6)), reference)
    assert 1e-5 < found.largest_error < 0.05


def test_find_engine__names_those_that_can():
    with pytest.raises(OptionError, match=r"tensorflow does not compute in bfloat16\. These do: openvino"):
        find_engine("tensorflow", "bfloat16")


def test_engine__without_openvino_names_the_extra(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'fastcls\[openvino\]'"):
        load_engine(OPENVINO, cache.trunk_path)


def test_require_fidelity__notes_the_figures_and_compares_once(cache, photos):
    pytest.importorskip("openvino")
    require_fidelity(cache, "openvino", OPENVINO, photos)
    noted = json.loads((cache.folder / "fidelity.json").read_text())["openvino"]
    assert noted["images"] == fidelity._IMAGES
    assert noted["median_error"] < 1e-5 and noted["smallest_cosine"] > 0.99999
    require_fidelity(cache, "openvino", "nowhere:Engine", photos)


class Drifting:
    """An engine that computes something else."""

    def __init__(self, trunk, threads):
        pass

    def run(self, images):
        return images.mean(axis=(1, 2)).repeat(3, axis=1)[:, :8]


def test_require_fidelity__refuses_an_engine_that_computes_something_else(cache, photos):
    name = f"{Drifting.__module__}:Drifting"
    with pytest.raises(
        OptionError, match=r"too far from Keras .* median relative error is .*the bound 0.001"
    ):
        require_fidelity(cache, "drifting", name, photos)


def test_compare__equals_a_computation_by_hand():
    random = np.random.default_rng(0)
    reference = random.normal(size=(5, 2, 3)).astype(np.float32)
    rows = reference + random.normal(size=reference.shape).astype(np.float32) * 0.1
    errors, cosines = [], []
    for row, wanted in zip(rows.reshape(5, 6), reference.reshape(5, 6), strict=True):
        errors.append(np.sqrt(((row - wanted) ** 2).sum()) / np.sqrt((wanted**2).sum()))
        cosines.append((row * wanted).sum() / np.sqrt((row**2).sum() * (wanted**2).sum()))
    found = dataclasses.astuple(compare(rows, reference))
    expected = (5, np.median(errors), max(errors), np.median(cosines), min(cosines))
    assert found == pytest.approx(expected, rel=1e-5)

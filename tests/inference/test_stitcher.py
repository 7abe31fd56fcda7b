"""decode -> trunk -> head equals the stitched model, saved, and loaded where fastcls is not installed."""

import json
import subprocess
import sys
import sysconfig
import zipfile

import cv2
import numpy as np
import pytest

from fastcls import graph
from fastcls.backend import import_keras
from fastcls.bases.loader import Base
from fastcls.cutter import bottleneck_model, cut
from fastcls.data.decoder import pixel_rule, read_image
from fastcls.errors import OptionError
from fastcls.inference.classifier import Classifier
from fastcls.inference.stitcher import stitch
from fastcls.specs import NORMALIZATIONS, POOLS, TOKEN_POOLS, HeadSpec, PixelRule
from fastcls.training.heads.knn import neighbor_head
from fastcls.training.heads.network import build_head
from fastcls.training.heads.prototypes import prototype_head

keras = import_keras()
layers = keras.layers

SIZE = (24, 32)
CLASS_NAMES = ("zebra", "ant", "cat\n猫")

# Loads all classifiers of a folder with plain Keras, isolated from the working folder, and classifies
# the same images from pixels that OpenCV alone has made.
PLAIN_KERAS = """
import sys
sys.path.insert(0, sys.argv[1])
sys.modules["fastcls"] = None  # it cannot be imported, be it installed or not
import glob, cv2, keras, numpy as np
files = sorted(glob.glob("*.png"))
pixels = np.stack([cv2.cvtColor(cv2.imread(file), cv2.COLOR_BGR2RGB) for file in files])
assert pixels.dtype == np.uint8
for file in sorted(glob.glob("*.keras")):
    model = keras.saving.load_model(file)
    assert type(model).__module__.startswith("keras.")
    np.save(file + ".npy", model.predict(pixels, verbose=0))
"""


def make_base(normalize):
    """A base with a branch and batch normalization, whose layers have the names of a head's."""
    keras.utils.set_random_seed(1)
    image = keras.Input((*SIZE, 3), name="input")
    scale = {"none": 1 / 255, "caffe": 1 / 128}.get(normalize, 1.0)
    x = layers.Conv2D(6, 3, strides=2, padding="same", name="dense_1")(layers.Rescaling(scale)(image))
    y = layers.BatchNormalization(name="head_dense_1")(layers.Conv2D(6, 1, name="head_flatten")(x))
    x = layers.Add(name="join")([x, keras.ops.relu(y)])
    model = keras.Model(image, layers.Dense(9, activation="softmax", name="head_probabilities")(x))
    return Base("mine", model, SIZE, normalize)


def make_images(folder):
    """Lossless images of the base's size, so that decoding is all that happens to them."""
    paths = [folder / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        pixels = np.random.default_rng(number).integers(0, 256, (*SIZE, 3), np.uint8)
        pixels[..., number] //= 8  # a different color is dark in each
        cv2.imwrite(str(path), pixels)
    return paths


def make_parts(normalize, pool):
    trunk = bottleneck_model(cut(make_base(normalize), "join", pool=pool))
    keras.utils.set_random_seed(2)
    return trunk, build_head(HeadSpec(layers=(8, 0.5)), trunk.output_shape[1:], len(CLASS_NAMES))


def make_heads(classes):
    """Heads for the trunk of ("torch", "none") that are not layers of a linear head alone."""
    random = np.random.default_rng(3)
    shape = make_parts("torch", "none")[0].output_shape[1:]
    rows = random.normal(size=(shape[-1], 30)).astype(np.float32)
    norm = build_head(HeadSpec(bottleneck_norm="batch"), shape, classes)
    norm.set_weights([abs(random.normal(size=weight.shape)) + 0.1 for weight in norm.get_weights()])
    return {
        "batch": norm,
        "l2": build_head(HeadSpec(layers=(8,), bottleneck_norm="l2"), shape, classes),
        "prototype": prototype_head(shape, rows[:, :classes], 0.07),
        "knn": neighbor_head(shape, rows, np.arange(30) % classes, classes, 7),
    }


HEADS = ("batch", "l2", "prototype", "knn")
MAP_POOLS = [pool for pool in POOLS if pool not in (*TOKEN_POOLS, "map")]
# Each normalization, and each kind of pooling: neither asks for the other.
POOLED = [(normalize, "avg") for normalize in NORMALIZATIONS]
CASES = [*POOLED, *(("torch", pool) for pool in MAP_POOLS if pool != "avg")]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of images and of classifiers for all cases, and what trunk and head say of the images."""
    folder = tmp_path_factory.mktemp("stitched")
    pixels = np.stack([read_image(path, SIZE) for path in make_images(folder)])
    expected, swapped = {}, {}
    for normalize, pool in CASES:
        trunk, head = make_parts(normalize, pool)
        expected[normalize, pool] = head.predict_on_batch(trunk.predict_on_batch(pixels))
        swapped[normalize, pool] = head.predict_on_batch(trunk.predict_on_batch(pixels[..., ::-1]))
        classifier = Classifier(stitch(trunk, head), CLASS_NAMES, pixel_rule(SIZE), {"base": "mine"})
        classifier.save(folder / f"{normalize}-{pool}.keras")
    for kind, head in make_heads(len(CLASS_NAMES)).items():
        trunk, _ = make_parts("torch", "none")
        expected[kind] = head.predict_on_batch(trunk.predict_on_batch(pixels))
        Classifier(stitch(trunk, head), CLASS_NAMES, pixel_rule(SIZE), {}).save(folder / f"{kind}.keras")
    return folder, expected, swapped


@pytest.fixture(scope="module")
def plain(made):
    """What a process with nothing but Keras and OpenCV says of the images."""
    folder, _, _ = made
    command = [sys.executable, "-I", "-S", "-c", PLAIN_KERAS, sysconfig.get_paths()["purelib"]]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    named = {case: f"{case[0]}-{case[1]}" for case in CASES} | {kind: kind for kind in HEADS}
    return {case: np.load(folder / f"{name}.keras.npy") for case, name in named.items()}


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_stitched__classifies_as_trunk_and_head_do(case, made, plain):
    _, expected, swapped = made
    np.testing.assert_allclose(plain[case], expected[case], atol=1e-5)
    assert abs(plain[case] - swapped[case]).max() > 1e-3  # the colors matter, and are in their order


@pytest.mark.parametrize("kind", HEADS)
def test_stitched__heads_of_each_kind_load_with_plain_keras(kind, made, plain):
    folder, expected, _ = made
    np.testing.assert_allclose(plain[kind], expected[kind], atol=1e-5)
    assert np.ptp(plain[kind], axis=0).max() > 1e-4  # images differ
    model = keras.saving.load_model(folder / f"{kind}.keras")
    assert all(graph.is_built_in(operation) for operation in model.operations)


def test_classifier__predicts_as_plain_keras_does(made, plain):
    folder, _, _ = made
    for case in POOLED:
        results = Classifier.load(folder / f"{case[0]}-{case[1]}.keras").predict(sorted(folder.glob("*.png")))
        np.testing.assert_allclose([r.probabilities for r in results], plain[case], atol=1e-5)


def test_stitched__is_flat_and_takes_raw_pixels(made):
    folder, _, _ = made
    model = keras.saving.load_model(folder / "torch-avg.keras")
    assert not any(graph.is_functional(operation) for operation in model.operations)
    assert (model.inputs[0].dtype, model.input_shape) == ("uint8", (None, *SIZE, 3))
    assert model.output_shape == (None, len(CLASS_NAMES))


def test_stitched__names_its_classes_in_a_plain_zip_member(made):
    folder, _, _ = made
    with zipfile.ZipFile(folder / "tf-avg.keras") as archive:
        assert archive.testzip() is None
        described = json.loads(archive.read("fastcls.json"))
    assert PixelRule.read(described.pop("pixels")) == pixel_rule(SIZE)
    known = {"class_names": list(CLASS_NAMES), "task": "one label", "thresholds": None}
    assert described == {**known, "base": "mine"}


def test_stitch__keeps_names_apart():
    trunk, _ = make_parts("tf", "avg")
    bottleneck = keras.Input((6,), name="image")
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(4, name="join"), layers.Dense(3, name="pool")])
    head = keras.Model(bottleneck, layers.Softmax(name="dense_1")(inner(bottleneck)))
    model = stitch(trunk, head)
    assert [o.name for o in model.operations[-3:]] == ["join_1", "pool_1", "dense_1_1"]
    assert "join" in [o.name for o in trunk.operations]
    pixels = np.random.default_rng(0).integers(0, 256, (2, *SIZE, 3), np.uint8)
    np.testing.assert_allclose(model(pixels), head(trunk(pixels)), rtol=1e-6)


def test_stitch__refuses_a_head_of_another_shape():
    trunk, _ = make_parts("tf", "avg")
    with pytest.raises(
        OptionError, match=r"takes bottlenecks of \(7,\). Received: a trunk with an output of \(6,\)"
    ):
        stitch(trunk, build_head(HeadSpec(), (7,), 3))

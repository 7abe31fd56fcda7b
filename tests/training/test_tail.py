"""What follows in the base is trained from the cache, and fits where it was cut."""

import cv2
import numpy as np
import pytest

from fastcls import graph, pipeline
from fastcls.backend import import_keras
from fastcls.bases.loader import Base
from fastcls.cutter import bottleneck_model, cut
from fastcls.data.dataset import Dataset
from fastcls.data.decoder import read_image
from fastcls.errors import OptionError
from fastcls.extraction.extractor import extract
from fastcls.inference.classifier import Classifier
from fastcls.plans.training import plan_training
from fastcls.specs import ExtractConfig, HeadSpec, TrainConfig

keras = import_keras()
layers = keras.layers
SIZE = (16, 16)
INLINE = ExtractConfig(engine="tensorflow", executor="inline")
CONFIG = TrainConfig(epochs=2, learning_rate=1e-2, val=0.25)


def make_base():
    keras.utils.set_random_seed(1)
    image = keras.Input((*SIZE, 3))
    x = layers.Conv2D(6, 3, strides=2, name="one")(image)
    x = layers.ReLU(name="cut")(x)
    y = layers.Conv2D(6, 3, padding="same", name="two")(x)
    y = layers.BatchNormalization(name="two_bn")(y)
    x = layers.Add(name="join")([x, y])
    x = layers.Conv2D(8, 3, name="three")(x)
    return Base("mine", keras.Model(image, x), SIZE, "tf")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for number in range(24):
        place = folder / ("dark" if number % 2 else "light")
        place.mkdir(exist_ok=True)
        pixels = random.integers(0, 128, (*SIZE, 3)) + 100 * (number % 2)
        cv2.imwrite(str(place / f"{number:02}.png"), pixels.astype(np.uint8))
    return Dataset.open(folder)


@pytest.fixture(scope="module")
def cache(photos, tmp_path_factory):
    made = cut(make_base(), "cut", precision="float32")
    return extract(photos, made, tmp_path_factory.mktemp("caches"), INLINE)[0]


@pytest.mark.parametrize("train_batch_norm", [False, True])
def test_tail__trained_from_the_cache_is_the_stitched_model(cache, photos, tmp_path, train_batch_norm):
    head = HeadSpec("tail", train_batch_norm=train_batch_norm)
    _, trained = pipeline.train_planned(plan_training(cache, head, CONFIG, tmp_path / "run"))
    paths = [photos.locate(sample) for sample in photos.samples]
    rows = cache.index().locate([row.digest for row in cache.samples()]).read()
    expected = trained.model.predict_on_batch(rows)
    stitched = Classifier.load(tmp_path / "run").model
    pixels = np.stack([read_image(path, SIZE) for path in paths])
    np.testing.assert_allclose(stitched.predict_on_batch(pixels), expected, atol=1e-5)

    base = make_base().model
    for name in ("one", "two", "three"):  # the trunk is as it was, the tail is not
        before, after = (model.get_layer(name).get_weights()[0] for model in (base, stitched))
        assert np.array_equal(before, after) == (name == "one")
    before, after = (model.get_layer("two_bn").get_weights() for model in (base, stitched))
    assert train_batch_norm != all(map(np.array_equal, before, after))


def test_tail__begins_as_the_base(cache):
    pixels = np.random.default_rng(0).integers(0, 256, (2, *SIZE, 3), np.uint8)
    trunk, tail = (keras.saving.load_model(path) for path in (cache.trunk_path, cache.tail_path))
    whole = bottleneck_model(cut(make_base()))
    np.testing.assert_allclose(tail(trunk(pixels)), whole(pixels), atol=1e-5)
    assert {layer.name for layer in graph.operations(tail)} >= {"two", "two_bn", "join", "three"}


def test_tail__goes_on_from_a_run(cache, tmp_path):
    pipeline.train_planned(plan_training(cache, HeadSpec("tail"), CONFIG, tmp_path / "run"))
    _, more = pipeline.train_planned(
        plan_training(cache, None, CONFIG, tmp_path / "more", start=tmp_path / "run")
    )
    assert more.spec == HeadSpec("tail")
    assert not more.model.get_layer("two_bn").trainable


@pytest.mark.parametrize("options", [{}, {"layer": "cut", "pool": "avg"}], ids=str)
def test_tail__is_refused_where_there_is_none(photos, tmp_path, options):
    cache, _ = extract(photos, cut(make_base(), precision="float32", **options), tmp_path / "caches", INLINE)
    with pytest.raises(OptionError, match=r"has no tail to train: .*Extract with --cut"):
        pipeline.train_planned(plan_training(cache, HeadSpec("tail"), CONFIG, tmp_path / "run"))


def test_caches__of_bases_that_differ_behind_the_cut_are_two(photos, cache):
    other = make_base()
    other.model.get_layer("three").set_weights([np.zeros((3, 3, 6, 8)), np.zeros(8)])
    found, _ = extract(photos, cut(other, "cut", precision="float32"), cache.folder.parent, INLINE)
    assert found.folder != cache.folder
    bent = make_base()  # the same weights, and another function of them
    bent.model.get_layer("three").activation = keras.activations.relu
    found, _ = extract(photos, cut(bent, "cut", precision="float32"), cache.folder.parent, INLINE)
    assert found.folder != cache.folder

"""What runs a classifier: Keras for a few images, and an engine that is compared with it and kept."""

import logging
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest

from fastcls import home
from fastcls.backend import import_keras
from fastcls.data.decoder import pixel_rule
from fastcls.errors import OptionError
from fastcls.inference import converted
from fastcls.inference.classifier import Classifier
from fastcls.inference.forwarder import WORTH

keras = import_keras()
layers = keras.layers
IMAGES = np.random.default_rng(0).integers(0, 256, (WORTH, 16, 12, 3), np.uint8)


def make(seed=0):
    keras.utils.set_random_seed(seed)
    image = keras.Input((8, 12, 3), dtype="uint8")
    x = layers.Conv2D(8, 3, activation="relu")(layers.Rescaling(1 / 255)(image))
    model = keras.Model(image, layers.Dense(4, activation="softmax")(layers.Flatten()(x)))
    return Classifier(model, ("d", "b", "a", "c"), pixel_rule((8, 12)), {"base": "mine"})


@pytest.fixture
def file(tmp_path):
    make().save(tmp_path / "one.keras")
    return tmp_path / "one.keras"


@pytest.fixture
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv(home.VARIABLE, str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def conversions(monkeypatch):
    """How often a model was converted."""
    made = []
    convert = converted._convert
    monkeypatch.setattr(converted, "_convert", lambda *given: made.append(given) or convert(*given))
    return made


def rows(classifier, images=IMAGES):
    return classifier.predict(images).probabilities


@pytest.fixture
def with_engine(own_home):
    pytest.importorskip("openvino")
    return own_home


def test_many_images_go_through_a_model_that_is_converted_once(file, with_engine, conversions):
    reference = rows(make())
    assert not conversions  # of no file
    for _ in range(2):
        classifier = Classifier.load(file)
        np.testing.assert_allclose(rows(classifier), reference, atol=1e-4)
        np.testing.assert_allclose(rows(classifier, IMAGES[:3]), reference[:3], atol=1e-4)
        assert len(conversions) == 1 and len(list((with_engine / "classifier").iterdir())) == 1
    assert "model" not in Classifier.load(file).__dict__


def test_a_few_images_are_not_worth_it_until_it_is_kept(file, with_engine, conversions):
    classifier = Classifier.load(file)
    rows(classifier, IMAGES[: WORTH - 1])
    rows(classifier, iter(IMAGES))  # of an unknown number
    assert not conversions
    classifier.keep()
    Classifier.load(file).keep()
    rows(Classifier.load(file), IMAGES[0])
    assert len(conversions) == 1


def test_an_engine_that_differs_is_not_used_and_not_tried_again(
    file, with_engine, conversions, monkeypatch, caplog
):
    monkeypatch.setattr(converted, "TOLERANCE", -1.0)
    expected = rows(make())
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(rows(Classifier.load(file)), expected)
    assert "Keras is used for this model" in caplog.text and "allowed are -1" in caplog.text
    caplog.clear()
    np.testing.assert_array_equal(rows(Classifier.load(file)), expected)
    assert len(conversions) == 1 and not caplog.text


def test_without_a_faster_engine_or_a_home_it_is_keras(file, own_home, conversions, monkeypatch):
    monkeypatch.setattr(converted, "engines_of", lambda precision: ["tensorflow"])
    np.testing.assert_array_equal(rows(Classifier.load(file)), rows(make()))
    Classifier.load(file).keep()
    assert not conversions


def test_nothing_is_kept_without_a_home(file, tmp_path, conversions, monkeypatch):
    monkeypatch.setenv(home.VARIABLE, str(file))  # is no folder
    Classifier.load(file).keep()
    assert not conversions


def test_damage_in_what_is_kept_is_mended(file, with_engine, conversions):
    expected = rows(Classifier.load(file))
    (weights,) = with_engine.rglob("*.bin")
    weights.write_bytes(b"\0" * len(weights.read_bytes()))
    np.testing.assert_array_equal(rows(Classifier.load(file)), expected)
    assert len(conversions) == 2


def test_another_model_or_file_is_not_taken_for_the_one_that_is_kept(file, with_engine):
    loaded = Classifier.load(file)
    rows(loaded)
    other = make(seed=1)
    expected = rows(other, IMAGES[:5])
    np.testing.assert_allclose(rows(replace(loaded, model=other.model), IMAGES[:5]), expected, atol=1e-6)
    other.save(file)
    np.testing.assert_allclose(rows(Classifier.load(file), IMAGES[:5]), expected, atol=1e-6)


def test_a_model_that_is_changed_says_something_else(file, with_engine):
    loaded = Classifier.load(file)
    before = rows(loaded)
    loaded.model.set_weights(make(seed=1).model.get_weights())
    np.testing.assert_allclose(rows(loaded), rows(make(seed=1)), atol=1e-6)
    assert not np.allclose(rows(loaded), before, atol=0.01)


def test_a_loaded_classifier_is_pickled_with_its_model(file, own_home):
    packed = pickle.dumps(Classifier.load(file))
    file.unlink()
    np.testing.assert_array_equal(rows(pickle.loads(packed), IMAGES[:5]), rows(make(), IMAGES[:5]))


def test_a_file_that_was_replaced_is_not_taken_for_the_one_that_was_opened(file, own_home, tmp_path):
    loaded = Classifier.load(file)
    make(seed=1).save(tmp_path / "two.keras")
    shutil.move(tmp_path / "two.keras", file)
    with pytest.raises(OptionError, match=r"one.keras was replaced after it was opened"):
        loaded.predict(IMAGES[0])
    with pytest.raises(AttributeError, match="has no attribute 'modle'"):
        _ = loaded.modle


def test_load__finds_any_flipped_bit_without_keras(file):
    whole = file.read_bytes()
    random = np.random.default_rng(0)
    for place in random.integers(200, len(whole), 30).tolist():
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            loaded = Classifier.load(file)
        except OptionError as error:
            assert str(file) in str(error)
        else:  # where zip files have what nobody reads
            np.testing.assert_array_equal(loaded.model.get_weights()[0], make().model.get_weights()[0])


def test_engine_that_is_asked_for_runs_it(file, with_engine, conversions, monkeypatch):
    own = Classifier.load(file, engine="tensorflow")
    reference = rows(own)
    own.keep()
    assert not conversions and "model" not in own.__dict__
    other = Classifier.load(file, engine="openvino")
    np.testing.assert_allclose(rows(other, IMAGES[:1]), reference[:1], atol=1e-4)
    assert len(conversions) == 1
    monkeypatch.setattr("fastcls.inference.forwarder.converted", lambda *_: None)
    with pytest.raises(OptionError, match="engine openvino cannot run this classifier here"):
        rows(Classifier.load(file, engine="openvino"), IMAGES[:1])
    with pytest.raises(OptionError, match="Unknown engine"):
        Classifier.load(file, engine="onnx")

import copy
import pickle
import zipfile

import cv2
import numpy as np
import pytest

from fastcls.backend import import_keras
from fastcls.data.decoder import pixel_rule
from fastcls.errors import OptionError
from fastcls.inference.classifier import MEMBER, Classifier
from fastcls.runs import CLASSIFIER

keras = import_keras()
layers = keras.layers


@pytest.fixture(scope="module")
def classifier():
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 12, 3), dtype="uint8")
    x = layers.Conv2D(8, 3, activation="relu")(layers.Rescaling(1 / 255)(image))
    model = keras.Model(image, layers.Dense(4, activation="softmax")(layers.Flatten()(x)))
    return Classifier(model, ("d", "b", "a", "c"), pixel_rule((8, 12)), {"base": "mine"})


@pytest.fixture
def photos(tmp_path):
    """Seven images, two of them unreadable."""
    paths = [tmp_path / f"{number}.png" for number in range(7)]
    for number, path in enumerate(paths):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 20, 3), np.uint8)
        cv2.imwrite(str(path), pixels)
    paths[2].write_text("no image")
    paths[5].unlink()
    return paths


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))])
def test_copies__say_the_same_also_after_a_prediction(copied, classifier, photos):
    results = classifier.predict(photos[0])
    again = copied(classifier)
    assert (again.class_names, again.task) == (classifier.class_names, classifier.task)
    assert np.array_equal(again.predict(photos[0]).probabilities, results.probabilities)
    assert np.array_equal(copied(results).probabilities, results.probabilities)


def test_load__gives_back_what_was_saved(classifier, tmp_path):
    classifier.save(tmp_path / CLASSIFIER)
    for path in (tmp_path, tmp_path / CLASSIFIER):  # a run folder, or the file itself
        loaded = Classifier.load(path)
        assert (loaded.class_names, loaded.provenance) == (classifier.class_names, {"base": "mine"})
        assert loaded.size == (8, 12)


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_predict__is_in_order_and_independent_of_the_batch(classifier, photos, batch_size):
    results = classifier.predict([*photos, photos[0]], batch_size=batch_size)
    assert [result.path for result in results] == [*photos, photos[0]]
    assert [result.probabilities is None for result in results] == [n in (2, 5) for n in range(8)]
    assert "not an image" in results[2].reason and "No such file" in results[5].reason
    alone = [classifier.predict(path)[0].probabilities for path in photos]
    for result, expected in zip(results, [*alone, alone[0]], strict=True):
        if expected is not None:  # matrix products of other shapes add in another order
            np.testing.assert_allclose(result.probabilities, expected, rtol=1e-5)


def test_predict__of_nothing(classifier):
    assert classifier.predict([]) == []


def _without_member(path):
    image = keras.Input((8, 8, 3))
    keras.Model(image, layers.Flatten()(image)).save(path)


def _with_member(text):
    def write(path):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(MEMBER, text)

    return write


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "There is no classifier .*fastcls train-head"),
        (lambda path: path.write_text("hello"), "not a classifier made by fastcls, or damaged"),
        (lambda path: path.write_bytes(b""), "not a classifier made by fastcls, or damaged"),
        (_without_member, "not a classifier made by fastcls, or damaged.*fastcls.json"),
        (_with_member("{"), "not a classifier made by fastcls, or damaged"),
        (_with_member("[]"), "not a classifier made by fastcls, or damaged"),
        (_with_member('{"class_names": "ab"}'), "not a classifier made by fastcls, or damaged"),
        (_with_member('{"class_names": ["a", "b"]}'), "must be 'one label' or .* another version"),
        (
            _with_member('{"class_names": ["a", "b"], "task": "several labels"}'),
            "cannot be used: .* 2 thresholds, one per class. Received: None",
        ),
        (
            _with_member('{"class_names": ["a", "b"], "task": "one label"}'),
            "does not say how its pixels are made",
        ),
    ],
)
def test_load__explains_what_is_wrong(write, message, tmp_path):
    write(tmp_path / CLASSIFIER)
    for path in (tmp_path, tmp_path / CLASSIFIER):
        with pytest.raises(OptionError, match=message):
            Classifier.load(path)


def test_load__of_a_truncated_file(classifier, tmp_path):
    path = tmp_path / CLASSIFIER
    classifier.save(path)
    whole = path.read_bytes()
    for length in (100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(OptionError, match="damaged"):
            Classifier.load(path)

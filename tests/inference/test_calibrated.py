"""A calibrated model is the model, with other probabilities, and loads in plain Keras."""

import numpy as np
import pytest

from fastcls.backend import import_keras
from fastcls.errors import OptionError
from fastcls.evaluation.calibration import Calibration
from fastcls.inference.calibrated import calibrated_model
from fastcls.inference.stitcher import stitch
from fastcls.specs import HeadSpec
from fastcls.tasks import ONE_LABEL, SEVERAL_LABELS
from fastcls.training.heads.network import build_head
from fastcls.training.heads.prototypes import prototype_head

ROWS = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)


def dense(task):
    return build_head(HeadSpec("linear", layers=(6,)), (8,), 3, task=task)


def prototype(task):
    return prototype_head((8,), np.random.default_rng(1).normal(size=(8, 3)).astype(np.float32), 0.1)


def activation(task):
    keras = import_keras()
    rows = keras.Input((8,))
    return keras.Model(rows, keras.layers.Activation(task.activation)(keras.layers.Dense(3)(rows)))


@pytest.mark.parametrize(
    ("build", "task"),
    [(dense, ONE_LABEL), (dense, SEVERAL_LABELS), (prototype, ONE_LABEL), (activation, SEVERAL_LABELS)],
)
def test_calibrated_model__gives_calibrated_probabilities(build, task, tmp_path):
    keras = import_keras()
    head = build(task)
    before = head.predict(ROWS, verbose=0)
    several = Calibration((0.5, 2.0, 1.5), (0.3, -0.2, 0.0))
    calibration = Calibration((0.7,), (0.0,)) if task is ONE_LABEL else several
    calibrated_model(head, calibration, task.activation).save(tmp_path / "head.keras")
    loaded = keras.saving.load_model(tmp_path / "head.keras", safe_mode=True)
    found = loaded.predict(ROWS, verbose=0)
    np.testing.assert_allclose(found, calibration.apply(before, task), atol=1e-5)
    np.testing.assert_array_equal(head.predict(ROWS, verbose=0), before)  # it stays as it is


def test_calibrated_model__a_classifier_keeps_the_names_of_its_last_layer():
    keras = import_keras()
    image = keras.Input((4, 4, 3), dtype="uint8")
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
    trunk = keras.Model(image, keras.layers.Dense(8, name="bottleneck_layer")(flat))
    classifier = stitch(trunk, dense(ONE_LABEL))
    made = calibrated_model(classifier, Calibration((2.0,), (0.0,)), "softmax")
    twice = calibrated_model(made, Calibration((0.5,), (0.0,)), "softmax")
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), np.uint8)
    assert made.layers[-1].name == classifier.layers[-1].name
    before, once, again = (model.predict(images, verbose=0) for model in (classifier, made, twice))
    assert np.abs(once - before).max() > 0.01
    np.testing.assert_allclose(again, before, atol=1e-5)


def test_calibrated_model__refuses_what_has_no_logits():
    keras = import_keras()
    rows = keras.Input((8,))
    votes = keras.Model(rows, keras.layers.UnitNormalization()(keras.layers.Dense(3)(rows)))
    with pytest.raises(OptionError, match="ends with a softmax layer"):
        calibrated_model(votes, Calibration((2.0,), (0.0,)), "softmax")

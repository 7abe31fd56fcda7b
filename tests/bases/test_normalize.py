import sys

import numpy as np
import pytest

from fastcls.backend import import_keras
from fastcls.bases.normalize import normalize
from fastcls.bases.registry import ARCHITECTURES
from fastcls.specs import NORMALIZATIONS

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 9, 7, 3), np.uint8)


@pytest.fixture(scope="module")
def normalized():
    """The pixels as each kind of normalization makes them."""
    keras = import_keras()
    image = keras.Input((None, None, 3), dtype="uint8")
    models = {kind: keras.Model(image, normalize(image, kind)) for kind in NORMALIZATIONS}
    return {kind: model.predict_on_batch(PIXELS) for kind, model in models.items()}


@pytest.mark.parametrize("row", [row for row in ARCHITECTURES.values() if row.is_keras], ids=lambda r: r.name)
def test_normalize__equals_the_preprocessing_of_keras(row, normalized):
    from keras import applications

    module = sys.modules[getattr(applications, row.name).__module__]
    expected = module.preprocess_input(PIXELS.astype("float32"))
    # A few units in the last place of float32: Keras divides where a layer multiplies.
    np.testing.assert_allclose(normalized[row.normalize], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", NORMALIZATIONS)
def test_normalize__takes_rgb_pixels(kind, normalized):
    """A red pixel: the first of three channels, but the last where the base wants BGR."""
    expected = {
        "tf": (1, -1, -1),
        "torch": ((1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225),
        "caffe": (-103.939, -116.779, 255 - 123.68),
        "none": (255, 0, 0),
    }[kind]
    keras = import_keras()
    image = keras.Input((1, 1, 3), dtype="uint8")
    red = np.array([255, 0, 0], np.uint8).reshape(1, 1, 1, 3)
    made = keras.Model(image, normalize(image, kind)).predict_on_batch(red)
    np.testing.assert_allclose(made.reshape(3), expected, rtol=1e-6)

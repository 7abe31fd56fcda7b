import sys

import numpy as np
import pytest

from fastcls.backend import import_keras
from fastcls.bases.normalize import normalize
from fastcls.bases.registry import ARCHITECTURES
from fastcls.errors import OptionError
from fastcls.specs import NORMALIZATIONS, BaseSpec

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


@pytest.mark.parametrize(
    ("kind", "mean", "std"),
    [
        ("0.5,0.5", 127.5, 127.5),
        ("127.5,128", 127.5, 128),
        ("0,1", 0, 255),
        ("0.5,0.4,0.3,0.2,0.25,1", (127.5, 102, 76.5), (51, 63.75, 255)),
        ("123.675,116.28,103.53,58.395,57.12,57.375", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    ],
)
def test_normalize__by_mean_and_standard_deviation(kind, mean, std, normalized):
    keras = import_keras()
    image = keras.Input((None, None, 3), dtype="uint8")
    made = keras.Model(image, normalize(image, kind)).predict_on_batch(PIXELS)
    np.testing.assert_allclose(made, (PIXELS - np.array(mean)) / np.array(std), rtol=1e-6, atol=2e-6)
    if kind.startswith("123"):
        np.testing.assert_allclose(made, normalized["torch"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "kind", ["Torch", "", "0.5", "0.5,0.5,0.5", "0.5,0", "0.5,-1", "0.5,nan", "0.5,inf", "a,b", "1,2,3,4,5,0"]
)
def test_base_spec__refuses_other_normalizations(kind):
    with pytest.raises(OptionError, match=r"Unknown normalize: .*tf, torch, caffe, none.*such as 0.5,0.5"):
        BaseSpec("mobilenet", normalize=kind)


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

"""Normalization that is inside a base is found, and not done twice."""

import numpy as np
import pytest

from fastcls.backend import import_keras
from fastcls.bases.loader import load_base
from fastcls.cutter import bottleneck_model, cut
from fastcls.errors import OptionError
from fastcls.specs import BaseSpec

keras = import_keras()
layers = keras.layers


@pytest.mark.parametrize("mode", ["tf", "torch", "caffe"])
def test_load_base__recognizes_keras_preprocessing_inside(mode, tmp_path):
    module = {"tf": "mobilenet_v2", "torch": "densenet", "caffe": "resnet"}[mode]
    image = keras.Input((16, 16, 3))
    x = getattr(keras.applications, module).preprocess_input(image)
    model = keras.Model(image, layers.Conv2D(4, 3)(x))
    model.save(tmp_path / "m.keras")
    base = load_base(str(tmp_path / "m.keras"))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    made = bottleneck_model(cut(base, pool="none"))
    np.testing.assert_array_equal(made(pixels).numpy(), model(pixels.astype("float32")).numpy())


def test_load_base__unknown_normalization_must_be_stated(tmp_path):
    image = keras.Input((16, 16, 3))
    keras.Model(image, layers.Conv2D(4, 3)(image)).save(tmp_path / "m.keras")
    with pytest.raises(
        OptionError, match=r"unknown: the model does not normalize pixels itself. Set --normalize"
    ):
        load_base(str(tmp_path / "m.keras"))
    assert load_base(BaseSpec(str(tmp_path / "m.keras"), normalize="torch")).normalize == "torch"


def _in_front(*idle):
    return lambda image: keras.Sequential([keras.Input((16, 16, 3)), *idle])(image)


@pytest.mark.parametrize(
    "front",
    [
        _in_front(layers.RandomFlip(), layers.RandomRotation(0.1), layers.RandomContrast(0.2)),
        _in_front(layers.RandomZoom(0.1), layers.Dropout(0.1), layers.GaussianNoise(1.0)),
        _in_front(layers.Activation("linear"), layers.Identity(), keras.Sequential([layers.RandomHue(0.1)])),
        _in_front(layers.Resizing(12, 12), layers.CenterCrop(8, 8), layers.ZeroPadding2D(2)),
        lambda image: keras.ops.cast(image, "float32"),
    ],
)
def test_load_base__normalization_behind_what_is_for_training(front, tmp_path, caplog):
    image = keras.Input((16, 16, 3))
    model = keras.Model(image, layers.Conv2D(4, 3)(layers.Rescaling(1 / 255)(front(image))))
    model.save(tmp_path / "m.keras")
    name = str(tmp_path / "m.keras")
    assert (load_base(name).normalize, caplog.text) == ("none", "")
    assert load_base(BaseSpec(name, normalize="tf")).normalize == "tf"
    told = "normalizes pixels itself, and --normalize tf is applied before that. Leave out --normalize"
    assert told in caplog.text


@pytest.mark.parametrize("front", [layers.RandomFlip(), layers.AveragePooling2D(2), layers.Solarization()])
def test_load_base__augmentation_is_no_normalization(front, tmp_path):
    image = keras.Input((16, 16, 3))
    x = layers.Rescaling(1 / 255)(layers.Conv2D(4, 3)(front(image)))
    keras.Model(image, x).save(tmp_path / "m.keras")
    with pytest.raises(OptionError, match="the model does not normalize pixels itself"):
        load_base(str(tmp_path / "m.keras"))


@pytest.mark.parametrize(
    ("name", "normalize", "warned"),
    [
        *(("efficientnetb0", "tf", True), ("convnexttiny", "torch", True), ("mobilenetv3small", "tf", True)),
        *(
            ("efficientnetb0", "none", False),
            ("efficientnetb0", None, False),
            ("mobilenetv2", "torch", False),
        ),
    ],
)
def test_load_base__normalizing_twice_is_warned_of(name, normalize, warned, caplog):
    load_base(BaseSpec(name, weights="random", size=(64, 64), normalize=normalize))
    assert ("normalizes pixels itself" in caplog.text) == warned


def test_load_base__slices_are_no_normalization(tmp_path):
    image = keras.Input((16, 16, 3))
    parts = [image[:, row::2, column::2] for row in range(2) for column in range(2)]
    keras.Model(image, layers.Conv2D(4, 3)(layers.Concatenate()(parts))).save(tmp_path / "m.keras")
    with pytest.raises(OptionError, match="--normalize"):
        load_base(str(tmp_path / "m.keras"))

"""Keras 3's own `.h5` files, whose format forgets which of its classes are operations."""

import numpy as np
import pytest

from fastcls.backend import import_keras
from fastcls.bases.loader import load_base
from fastcls.specs import BaseSpec

keras = import_keras()
layers, ops = keras.layers, keras.ops


def operations():
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 3)((image / 255)[..., ::-1])
    x = layers.Add()([ops.relu6(x * 3), x])
    inner = keras.Input((4,))
    inner = keras.Model(inner, ops.maximum(layers.Dense(4)(inner), 0.1))
    return keras.Model(image, ops.concatenate([inner(ops.mean(x, axis=(1, 2))), ops.max(x, axis=(1, 2))]))


def resized():
    image = keras.Input((16, 16, 3))
    return keras.Model(image, layers.Conv2D(2, 3)(ops.image.resize(image, (8, 8))))


def mobilenet_v3():
    return keras.applications.MobileNetV3Small(weights=None, include_top=False, input_shape=(32, 32, 3))


@pytest.mark.parametrize("make", [operations, resized, mobilenet_v3])
def test_load_base__operations_in_h5(make, tmp_path):
    model = make()
    model.save(tmp_path / "m.h5")
    pixels = np.random.default_rng(0).uniform(0, 255, (2, *model.input_shape[1:])).astype("float32")
    base = load_base(BaseSpec(str(tmp_path / "m.h5"), normalize="none"))
    np.testing.assert_array_equal(base.model(pixels), model(pixels))

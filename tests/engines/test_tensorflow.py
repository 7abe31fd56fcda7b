import os

import numpy as np
import pytest

from fastcls.backend import import_keras
from fastcls.engines.tensorflow import TensorFlowEngine


@pytest.fixture(scope="module")
def trunk_path(tmp_path_factory):
    keras = import_keras()
    keras.utils.set_random_seed(1)
    image = keras.Input((10, 12, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = keras.layers.Conv2D(8, 3, use_bias=False)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.5)(keras.layers.ReLU()(x))
    path = tmp_path_factory.mktemp("trunk") / "trunk.keras"
    keras.Model(image, x).save(path)
    return path


def images(count):
    return np.random.default_rng(0).integers(0, 256, (count, 10, 12, 3), dtype=np.uint8)


def test_engine__computes_what_keras_computes(trunk_path):
    batch = images(6)
    rows = TensorFlowEngine(trunk_path).run(batch)
    model = import_keras().saving.load_model(trunk_path)
    assert rows.dtype == np.float32 and rows.shape == (6, 8, 10, 8)
    assert np.allclose(rows, model.predict(batch, verbose=0), atol=1e-6)
    assert np.array_equal(batch, images(6))  # untouched


def test_engine__a_row_does_not_depend_on_its_place_or_neighbors(trunk_path):
    engine, batch = TensorFlowEngine(trunk_path, threads=1), images(6)
    order = [3, 1, 5, 0, 4, 2]
    assert np.array_equal(engine.run(batch)[order], engine.run(batch[order]))
    changed = batch.copy()
    changed[1:] = 0
    assert np.array_equal(engine.run(changed)[0], engine.run(batch)[0])


def test_engine__refuses_what_is_no_model(tmp_path):
    (tmp_path / "trunk.keras").write_bytes(os.urandom(100))
    with pytest.raises((ValueError, OSError)):
        TensorFlowEngine(tmp_path / "trunk.keras")

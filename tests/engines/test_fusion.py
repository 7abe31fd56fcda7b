"""What OpenVINO makes of layer normalization and attention."""

from collections import Counter

import numpy as np
import pytest

from fastcls.backend import import_keras
from fastcls.engines.fusion import has_attention
from fastcls.engines.openvino import Bfloat16Engine, Int8Engine, OpenVINOEngine
from fastcls.engines.trunk import Trunk
from fastcls.errors import FastclsError

keras = import_keras()
openvino = pytest.importorskip("openvino")
layers = keras.layers


def block(x, number):
    """A block of a transformer, with random weights, biases and scales."""
    normal = layers.LayerNormalization(name=f"norm{number}")(x)
    x = x + layers.MultiHeadAttention(2, 8, name=f"attention{number}")(normal, normal)
    return x + layers.Dense(16, activation="gelu")(layers.LayerNormalization(epsilon=1e-6)(x))


@pytest.fixture(scope="module")
def transformer():
    """Image (B, 32, 32, 3) uint8 -> tokens (B, 16, 16)."""
    image = keras.Input((32, 32, 3), dtype="uint8")
    x = layers.Conv2D(16, 8, strides=8)(layers.Rescaling(1 / 255)(image))
    x = layers.Reshape((16, 16))(x)
    model = keras.Model(image, block(block(x, 1), 2))
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(random.normal(0.1, 0.3, weight.shape))
    return model


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(1).integers(0, 256, (40, 32, 32, 3), np.uint8)


def kinds(engine):
    """How many operations of each kind the compiled model has."""
    nodes = engine._model.get_runtime_model().get_ops()
    return Counter(node.get_rt_info()["layerType"].astype(str) for node in nodes)


def test_transformer__is_fused_and_the_same(transformer, pixels, tmp_path):
    trunk = Trunk(tmp_path / "trunk.keras", transformer)
    OpenVINOEngine.prepare(trunk, lambda: pixels)
    engine = OpenVINOEngine(trunk.path, 1)
    expected = transformer.predict(pixels, verbose=0)
    np.testing.assert_allclose(engine.run(pixels), expected, atol=1e-5 * np.abs(expected).max())
    assert np.ptp(expected, axis=0).max() > 0.1
    found = kinds(engine)
    assert found["MVN"] == 4 and not found["Reduce"] and not found["Softmax"] and found["Output"] == 1

    written = openvino.Core().read_model(OpenVINOEngine.place(trunk.path))
    said = Counter(node.get_type_name() for node in written.get_ordered_ops())
    assert said["Gelu"] == said["ScaledDotProductAttention"] == 2 and not said["Erf"]
    assert has_attention(written)


@pytest.mark.parametrize("kind", [Bfloat16Engine, Int8Engine])
def test_transformer__in_lower_precision(kind, transformer, pixels, tmp_path):
    try:
        kind.require()
    except FastclsError as error:
        pytest.skip(str(error))
    trunk = Trunk(tmp_path / "trunk.keras", transformer)
    kind.prepare(trunk, lambda: pixels)
    expected = transformer.predict(pixels, verbose=0)
    error = np.abs(kind(trunk.path, 1).run(pixels) - expected)
    assert np.median(error) < 0.05 * np.abs(expected).max()

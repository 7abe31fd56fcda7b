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
    # Attention is one kernel, but for the transpose of its output; the image is transposed twice.
    assert found["Subgraph"] == 2 and found["Transpose"] == 4

    written = openvino.Core().read_model(OpenVINOEngine.place(trunk.path))
    said = Counter(node.get_type_name() for node in written.get_ordered_ops())
    assert said["Gelu"] == said["ScaledDotProductAttention"] == 2 and not said["Erf"]
    assert has_attention(written)


@pytest.mark.parametrize("of", ["a channel", "a token"])
def test_attention__with_a_sum_of_the_key(of, pixels, tmp_path):
    """Softmax takes away what all keys have more, and nothing else."""
    image = keras.Input((32, 32, 3), dtype="uint8")
    x = layers.Reshape((16, 8, 24))(layers.Rescaling(1 / 255)(image))
    shape = (1, 1, 8, 24) if of == "a channel" else (1, 16, 1, 1)
    key = x + np.random.default_rng(2).normal(0, 1, shape).astype(np.float32)
    model = keras.Model(image, keras.ops.dot_product_attention(x, key, x, scale=0.25))
    trunk = Trunk(tmp_path / "trunk.keras", model)
    OpenVINOEngine.prepare(trunk, lambda: pixels)
    written = openvino.Core().read_model(OpenVINOEngine.place(trunk.path))
    said = Counter(node.get_type_name() for node in written.get_ordered_ops())
    assert said["ScaledDotProductAttention"] == 1 and said["Add"] == (of == "a token")
    expected = model.predict(pixels, verbose=0)
    np.testing.assert_allclose(OpenVINOEngine(trunk.path, 1).run(pixels), expected, atol=1e-5)


def normal(**options):
    return lambda x: layers.LayerNormalization(**options)(x)


def centered_elsewhere(x):
    """It looks like layer normalization, but centers by another mean."""
    ops = keras.ops
    factor = ops.rsqrt(ops.var(x, axis=-1, keepdims=True) + 0.1)
    return x * factor + (-ops.mean(x * x, axis=-1, keepdims=True) * factor + 0.25)


@pytest.mark.parametrize(
    ("make", "fused"),
    [
        (normal(), 1),  # as it begins: a scale of 1, an offset of 0
        (normal(center=False, gamma_initializer="random_normal"), 1),
        (normal(scale=False, beta_initializer="random_normal"), 1),
        (normal(scale=False, center=False, epsilon=0.1), 1),
        (lambda x: normal()(-x), 1),
        (normal(axis=(1, 2)), 0),
        (centered_elsewhere, 0),
    ],
)
def test_layer_normalization__whatever_its_scale_and_offset(make, fused, pixels, tmp_path):
    image = keras.Input((32, 32, 3), dtype="uint8")
    x = layers.Reshape((32, 96))(layers.Rescaling(1 / 255)(image))
    model = keras.Model(image, make(x))
    trunk = Trunk(tmp_path / "trunk.keras", model)
    OpenVINOEngine.prepare(trunk, lambda: pixels)
    some = np.concatenate([pixels[:3], np.full_like(pixels[:1], 7)])  # the last without any variance
    engine = OpenVINOEngine(trunk.path, 1)
    np.testing.assert_allclose(engine.run(some), model.predict(some, verbose=0), atol=2e-5)
    assert kinds(engine)["MVN"] == fused


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

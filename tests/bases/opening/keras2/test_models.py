"""Models of keras.applications and of tutorials, made by Keras 2: equal, cut at the same places."""

import numpy as np
import pytest

from fastcls import graph
from fastcls.backend import import_keras
from fastcls.bases.loader import load_base
from fastcls.cutter import cut, cut_points
from fastcls.specs import BaseSpec

keras = import_keras()
legacy = pytest.importorskip("tf_keras")
layers = legacy.layers


def application(name, side=32, **options):
    make = getattr(legacy.applications, name)
    return make(weights=None, include_top=False, input_shape=(side, side, 3), **options)


def small():
    return application("MobileNetV2", alpha=0.35)


def teachable_machine():
    """Sequential models in one, as Teachable Machine exports them."""
    base = small()
    features = legacy.Model(base.input, base.get_layer("out_relu").output)
    scores = [layers.Dense(100, "relu", input_shape=(1280,)), layers.Dense(3, "softmax", use_bias=False)]
    pooled = legacy.Sequential([features, layers.GlobalAveragePooling2D()])
    return legacy.Sequential([pooled, legacy.Sequential(scores)])


def tutorial():
    """https://www.tensorflow.org/tutorials/images/transfer_learning"""
    augmentation = legacy.Sequential([layers.RandomFlip("horizontal"), layers.RandomRotation(0.2)])
    base = small()
    base.trainable = False
    image = legacy.Input((32, 32, 3))
    x = legacy.applications.mobilenet_v2.preprocess_input(augmentation(image))
    x = layers.GlobalAveragePooling2D()(base(x, training=False))
    return legacy.Model(image, layers.Dense(1)(layers.Dropout(0.2)(x)))


def operations():
    """Operations of TensorFlow that Keras 2 makes layers of."""
    import tensorflow as tf

    image = legacy.Input((16, 16, 3))
    x = tf.image.resize((255 - tf.cast(image, tf.float32)[..., ::-1]) / 127.5, (12, 12))
    a, b = tf.split(layers.Conv2D(4, 3)(x), 2, -1)
    x = tf.pad(tf.nn.relu6(tf.concat([b, a], -1) * 3 - 1), [[0, 0], [1, 1], [0, 0], [0, 0]])
    x = tf.squeeze(tf.reduce_mean(x, axis=[1, 2], keepdims=True), [1, 2])
    x = tf.math.l2_normalize(tf.reshape(tf.stack([x, x + x], 1), [-1, 8]), -1)
    return legacy.Model(image, tf.nn.softmax(layers.Dense(3)(x)))


def mixture():
    """Layers with weights inside, and activations that are layers."""
    image = legacy.Input((16, 16, 3))
    x = layers.Conv2D(6, 3, activation=layers.LeakyReLU(0.2))(layers.Rescaling(1 / 255)(image))
    x = layers.PReLU(shared_axes=[1, 2])(layers.SeparableConv2D(4, 3, activation="swish")(x))
    x = layers.GroupNormalization(2)(layers.Conv2DTranspose(4, 2, strides=2)(x))
    x = layers.Reshape((-1, 4))(layers.AveragePooling2D(3)(x))
    x = layers.Add()([x, layers.MultiHeadAttention(2, 3)(x, x)])
    x = layers.LSTM(4)(layers.TimeDistributed(layers.Dense(5, activation="hard_sigmoid"))(x))
    return legacy.Model(image, layers.Dense(3)(x))


def gray():
    """Of tutorials on digits and on faces; many are saved as NAME.model, which is HDF5."""
    model = legacy.Sequential([layers.Conv2D(4, 3, activation="relu", input_shape=(16, 16, 1))])
    model.add(layers.MaxPooling2D())
    model.add(layers.Flatten())
    model.add(layers.Dense(10, "softmax"))
    return model


def scramble(model):
    random = np.random.default_rng(0)
    for weight in model.weights:
        if not any(word in weight.name for word in ("kernel", "normalization/")):
            weight.assign(random.uniform(0.5, 1.5, weight.shape))


MODELS = {
    "MobileNetV2": (lambda: application("MobileNetV2"), ("m.h5", "m.keras")),
    "MobileNetV3Small": (lambda: application("MobileNetV3Small"), ("m.h5",)),
    "EfficientNetB0": (lambda: application("EfficientNetB0"), ("m.h5",)),
    "Xception": (lambda: application("Xception", 71), ("m.h5",)),
    "teachable machine": (teachable_machine, ("m.h5", "m.keras")),
    "tutorial": (tutorial, ("m.keras",)),
    "operations": (operations, ("m.h5", "saved")),
    "gray": (gray, ("m.h5", "m.keras", "m.model", "saved")),
    "mixture": (mixture, ("m.h5", "m.keras", "saved")),
}


@pytest.mark.parametrize("name", MODELS)
def test_load_base__equals_keras_2(name, tmp_path):
    make, forms = MODELS[name]
    legacy.utils.set_random_seed(0)
    model = make()
    scramble(model)
    *size, channels = model.input_shape[1:]
    pixels = np.random.default_rng(1).uniform(0, 255, (2, *size, 3)).astype("float32")
    luma = pixels @ np.float32([[0.299], [0.587], [0.114]])
    expected = model(pixels if channels == 3 else luma, training=False).numpy()
    found = []
    for form in forms:
        path = tmp_path / form
        model.save(path, save_format={"": "tf", ".model": "h5"}.get(path.suffix))
        base = load_base(BaseSpec(str(path), normalize="none"))
        require_equal(base.model(pixels).numpy(), expected)
        found.append([(point.layer, point.shape) for point in cut_points(base.model)])
        assert graph.weights_digest(base.model)
    assert all(points == found[0] for points in found)
    halves = cut(base, found[0][len(found[0]) // 2][0], pool="none")
    require_equal(halves.tail(halves.trunk(pixels)).numpy(), expected)


def require_equal(scores, expected):
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5 * abs(expected).max())


@pytest.mark.parametrize("name", ["MobileNetV2", "MobileNetV3Small"])
def test_load_base__is_cut_where_keras_3_is(name, tmp_path):
    application(name).save(tmp_path / "m.h5")
    ours = keras.applications.__dict__[name](weights=None, include_top=False, input_shape=(32, 32, 3))
    shapes = [
        [point.shape for point in cut_points(model)]
        for model in (load_base(BaseSpec(str(tmp_path / "m.h5"), normalize="none")).model, ours)
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("make", [teachable_machine, tutorial])
def test_load_base__nested_models_are_cut_inside(make, tmp_path):
    points = {}
    for name, model in (("base", small()), ("whole", make())):
        model.save(tmp_path / f"{name}.h5")
        base = load_base(BaseSpec(str(tmp_path / f"{name}.h5"), normalize="none"))
        points[name] = [(point.layer, point.shape) for point in cut_points(base.model)]
    assert set(points["base"]) < set(points["whole"]) and len(points["base"]) > 60

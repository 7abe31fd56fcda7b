import numpy as np
import pytest

from fastcls.backend import import_keras
from fastcls.bases.loader import Base
from fastcls.errors import OptionError
from fastcls.specs import FinetuneSpec, HeadSpec
from fastcls.training.networks import build_network, trainee_of

keras = import_keras()
layers = keras.layers
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)


@pytest.fixture
def base():
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="one")(image)
    x = layers.BatchNormalization(name="one_bn")(x)
    x = layers.Dropout(0.5, name="drop")(x)
    x = layers.Conv2D(4, 3, name="two")(x)
    x = layers.BatchNormalization(name="two_bn")(x)
    x = layers.ReLU(name="two_relu")(x)
    x = layers.Conv2D(5, 3, name="three")(x)
    return Base("mine", keras.Model(image, x), (8, 8), "caffe")


@pytest.mark.parametrize(
    ("train", "batch_norm", "trained"),
    [
        ("none", False, set()),
        ("1", False, {"three"}),
        ("2", False, {"two", "three"}),
        ("2", True, {"two", "two_bn", "three"}),
        ("from two_relu", True, {"three"}),
        ("from drop", False, {"two", "three"}),
        ("all", False, {"one", "two", "three"}),
        ("all", True, {"one", "one_bn", "two", "two_bn", "three"}),
    ],
)
def test_trainee_of__a_step_changes_what_is_trained_and_nothing_else(base, train, batch_norm, trained):
    model = build_network(base, HeadSpec(), 3)
    before = {layer.name: layer.get_weights() for layer in model.layers}
    trainee = trainee_of(model, FinetuneSpec(train), batch_norm=batch_norm)
    trainee.compile("sgd", "sparse_categorical_crossentropy")
    trainee.train_on_batch(PIXELS, np.array([0, 1, 2, 0]))
    changed = {
        layer.name
        for layer in model.layers
        if any((old != new).any() for old, new in zip(before[layer.name], layer.get_weights(), strict=True))
    }
    assert changed == trained | {"head_probabilities"}


def test_trainee_of__what_is_not_trained_runs_as_in_inference(base):
    model = build_network(base, HeadSpec(), 3)
    frozen = trainee_of(model, FinetuneSpec("from two"), batch_norm=False)
    np.testing.assert_array_equal(frozen(PIXELS, training=True), model(PIXELS, training=False))
    trained = trainee_of(model, FinetuneSpec("all"), batch_norm=False)
    assert not np.array_equal(trained(PIXELS, training=True), trained(PIXELS, training=True))
    np.testing.assert_array_equal(trained(PIXELS), model(PIXELS))


@pytest.mark.parametrize(
    ("train", "words"),
    [
        ("4", "3 layers with weights"),
        ("from tow", "no layer 'tow' .* closest are two"),
        ("0", "Unknown layers"),
    ],
)
def test_trainee_of__refuses_what_is_not_there(base, train, words):
    model = build_network(base, HeadSpec(), 3)
    with pytest.raises(OptionError, match=words):
        trainee_of(model, FinetuneSpec(train), batch_norm=False)


def test_build_network__a_front_begins_as_the_mean_of_pixels(base):
    keras.utils.set_random_seed(1)
    small = build_network(base, HeadSpec(), 3)
    large = build_network(base, HeadSpec(), 3, downscale=3)
    large.get_layer("head_probabilities").set_weights(small.get_layer("head_probabilities").get_weights())
    assert large.inputs[0].shape == (None, 24, 24, 3)
    repeated = PIXELS.repeat(3, axis=1).repeat(3, axis=2)
    np.testing.assert_allclose(large(repeated), small(PIXELS), atol=1e-5)
    trainee = trainee_of(large, FinetuneSpec("none"), batch_norm=False)
    trained = {layer.name for layer in trainee.layers if layer.trainable_weights}
    assert trained == {"downscale", "head_probabilities"}


def test_trainee_of__batch_normalization_of_the_head_is_trained(base):
    model = build_network(base, HeadSpec(bottleneck_norm="batch"), 3)
    before = model.get_layer("head_normalized").get_weights()
    trainee = trainee_of(model, FinetuneSpec("none"), batch_norm=False)
    trainee.compile("sgd", "sparse_categorical_crossentropy")
    trainee.train_on_batch(PIXELS, np.array([0, 1, 2, 0]))
    assert not any(map(np.array_equal, before, model.get_layer("head_normalized").get_weights()))

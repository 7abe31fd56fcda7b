import numpy as np
import pytest

from fastcls import graph
from fastcls.backend import import_keras
from fastcls.bases.registry import ARCHITECTURES, build

keras = import_keras()
layers, ops = keras.layers, keras.ops


def model_of(make, shape=(8, 8, 4)):
    keras.utils.set_random_seed(0)
    tensor = keras.Input(shape)
    return keras.Model(tensor, make(tensor))


def branches(*, name="a", strides=1, activation="relu", inserted=False, swapped=False, constant=2.0):
    def make(x):
        left = layers.Conv2D(4, 3, strides, "same", activation=activation, name=f"{name}_left")(x)
        right = layers.Conv2D(4, 3, strides, "same", name=f"{name}_right")(x)
        left = layers.BatchNormalization(name=f"{name}_norm")(left)
        if inserted:
            left = ops.abs(left)
        pair = [right, left] if swapped else [left, right]
        return layers.Dropout(0.5, name=f"{name}_drop")(layers.Subtract(name=f"{name}_sub")(pair) * constant)

    return model_of(make)


def digests(model):
    return graph.architecture_digest(model), graph.weights_digest(model)


def test_digests__same_when_built_again_renamed_or_reloaded(tmp_path):
    model = branches()
    model.save(tmp_path / "m.keras")
    assert digests(branches()) == digests(model)
    assert digests(branches(name="b")) == digests(model)
    assert digests(keras.saving.load_model(tmp_path / "m.keras")) == digests(model)


@pytest.mark.parametrize(
    "change",
    [
        {"strides": 2},
        {"activation": "gelu"},
        {"inserted": True},
        {"swapped": True},
        {"constant": 3.0},
        {"constant": np.float32(2.5)},
    ],
    ids=str,
)
def test_architecture_digest__sees_each_change(change):
    assert graph.architecture_digest(branches(**change)) != graph.architecture_digest(branches())


def _large(value):
    constant = np.zeros((1, 8, 8, 64), np.float32)  # its repr has no middle
    constant[0, 4, 4, 32] = value
    return lambda x: ops.tile(x, (1, 1, 1, 16)) * constant


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda x: 2.0 - x, lambda x: x - 2.0),
        (_large(0), _large(1)),
        (lambda x: x[:, ::2], lambda x: x[:, 1::2]),
        (lambda x: ops.mean(x, axis=1), lambda x: ops.mean(x, axis=2)),
        (lambda x: ops.concatenate([x, x * 2.0]), lambda x: ops.concatenate([x * 2.0, x])),
    ],
    ids=["order", "large constant", "slice", "axis", "branches"],
)
def test_architecture_digest__sees_each_argument(one, other):
    assert graph.architecture_digest(model_of(one)) != graph.architecture_digest(model_of(other))


def test_weights_digest__sees_one_float_and_nothing_else():
    model = branches()
    before = digests(model)
    weight = model.weights[-1]
    values = weight.numpy()
    values[0] = np.nextafter(values[0], np.float32(np.inf))
    weight.assign(values)
    after = digests(model)
    assert after[0] == before[0] and after[1] != before[1]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda x: layers.Conv2D(6, 3, padding="same")(x), 8 * 8 * 9 * 4 * 6),
        (lambda x: layers.Conv2D(6, 3, strides=2, padding="valid")(x), 3 * 3 * 9 * 4 * 6),
        (lambda x: layers.Conv2D(6, 3, padding="same", groups=2)(x), 8 * 8 * 9 * 2 * 6),
        (lambda x: layers.Conv2D(6, 3, padding="same", dilation_rate=2)(x), 8 * 8 * 9 * 4 * 6),
        (lambda x: layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(x), 8 * 8 * 9 * 4 * 2),
        (lambda x: layers.DepthwiseConv2D(3, strides=2, padding="same")(x), 4 * 4 * 9 * 4),
        (lambda x: layers.SeparableConv2D(6, 3, strides=2, padding="same")(x), 4 * 4 * (9 * 4 + 4 * 6)),
        (lambda x: layers.Conv2DTranspose(6, 3, strides=2, padding="same")(x), 8 * 8 * 9 * 4 * 6),
        (lambda x: layers.Dense(6)(layers.Flatten()(x)), 8 * 8 * 4 * 6),
        (lambda x: layers.Dense(6)(x), 8 * 8 * 4 * 6),
        (lambda x: layers.BatchNormalization()(x), 0),
    ],
)
def test_multiply_adds__as_computed_by_hand(make, expected):
    assert sum(map(graph.multiply_adds, graph.nodes(model_of(make)))) == expected


def test_multiply_adds__of_resnet50():
    """At 224x224, with the stride in the first 1x1 of a block: 3.86 G, and 2048 x 1000 in the classifier."""
    model = build(ARCHITECTURES["resnet50"], (224, 224), None, include_top=True)
    counts = [graph.multiply_adds(node) for node in graph.nodes(model)]
    assert (sum(counts[:-1]), counts[-1]) == (3_855_925_248, 2_048_000)


def test_replay__opens_nested_models_of_any_shape():
    one, two = keras.Input((8, 8, 4)), keras.Input((8, 8, 4))
    pair = keras.Model([one, two], [one + two, layers.Subtract()([one, two])])
    single = keras.Sequential([keras.Input((8, 8, 4)), layers.Conv2D(4, 1), layers.BatchNormalization()])

    def make(x):
        added, subtracted = pair([single(x, training=False), x])
        return layers.Concatenate()([added, single(subtracted)])

    nested = model_of(make)
    image = keras.Input((8, 8, 4))
    flat = keras.Model(image, graph.replay(nested, image))
    assert not any(graph.is_functional(operation) for operation in flat.operations)
    values = np.random.default_rng(0).normal(size=(2, 8, 8, 4)).astype("float32")
    np.testing.assert_array_equal(flat(values).numpy(), nested(values).numpy())
    assert {id(w) for w in flat.weights} == {id(w) for w in nested.weights}


def test_rename_apart__numbers_later_names():
    named = [layers.ReLU(name=name) for name in ("a", "b", "a", "a_1")]
    graph.rename_apart(named, taken=["b"])
    assert [layer.name for layer in named] == ["a", "b_1", "a_1", "a_1_1"]

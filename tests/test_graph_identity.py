"""What is part of a model's digests: whatever can change a value, one factor at a time, and nothing else."""

import numpy as np
import pytest

from fastcls import graph
from fastcls.backend import import_keras

keras = import_keras()
layers, ops = keras.layers, keras.ops
MIXED = "mixed_bfloat16"


def model_of(make):
    """A model whose weights depend on their order and shapes alone."""
    tensor = keras.Input((8, 8, 4))
    model = keras.Model(tensor, make(tensor))
    random = np.random.default_rng(0)
    for weight in model.weights:
        if weight.dtype == "float32":
            weight.assign(random.uniform(0.1, 0.9, weight.shape))
    return model


def conv(x, **options):
    return layers.Conv2D(4, 3, padding="same", **options)(x)


def timed(inner):
    return lambda x: layers.TimeDistributed(inner)(x)


def recurrent(**options):
    return lambda x: layers.Bidirectional(layers.GRU(3, **options))(layers.Reshape((8, 32))(x))


def normalized(**options):
    return lambda x: layers.BatchNormalization(**options)(x)


def stack(**options):
    inner = keras.Sequential([keras.Input((8, 4)), layers.Dense(4, **options)])
    return lambda x: layers.TimeDistributed(inner)(x)


def mapped(name):
    policies = keras.dtype_policies.DTypePolicyMap(keras.DTypePolicy("float32"))
    policies["narrow"] = keras.DTypePolicy(MIXED)
    return lambda x: layers.Conv2D(4, 3, dtype=policies, name=name)(x)


def quantized(x):
    dense = layers.Dense(4)
    y = dense(x)
    dense.quantize("int8")
    return y


def distorted(seed):
    return lambda x: ops.image.elastic_transform(x, seed=seed)


def twice(x):
    dense = layers.Dense(4)
    return dense(dense(x))


def named(name):
    def make(x):
        y = ops.abs(x)
        graph.operation_of(y).name = name
        return y

    return make


def halves(first, second):
    return lambda x: ops.concatenate([x[:, first], x[:, second]], axis=1)


# What decides a value: the digests differ.
VALUES = {
    "policy": (conv, lambda x: conv(x, dtype=MIXED)),
    "policy float16": (conv, lambda x: conv(x, dtype="mixed_float16")),
    "policy of an inner layer": (recurrent(), recurrent(dtype=MIXED)),
    "policy in an inner model": (stack(), stack(dtype=MIXED)),
    "policy of a name": (mapped("wide"), mapped("narrow")),
    "quantized": (lambda x: layers.Dense(4)(x), quantized),
    "strides": (conv, lambda x: conv(x, strides=2)),
    "activation": (lambda x: conv(x, activation="relu"), lambda x: conv(x, activation="gelu")),
    "activation as a layer": (
        lambda x: conv(x * -1.0, activation=layers.LeakyReLU(0.1)),
        lambda x: conv(x * -1.0, activation=layers.LeakyReLU(0.2)),
    ),
    "inner activation": (timed(layers.Dense(4, "relu")), timed(layers.Dense(4, "tanh"))),
    "activation in an inner model": (stack(activation="relu"), stack(activation="tanh")),
    "activation of a cell": (recurrent(), recurrent(recurrent_activation="hard_sigmoid")),
    "reset of a cell": (recurrent(), recurrent(reset_after=False)),
    "epsilon": (normalized(), normalized(epsilon=0.1)),
    "statistics of the batch": (
        normalized(),
        lambda x: layers.BatchNormalization()(x, training=True),
    ),
    "given statistics": (
        lambda x: layers.Normalization(mean=[0.0] * 4, variance=[1.0] * 4)(x),
        lambda x: layers.Normalization(mean=[0.1] * 4, variance=[1.0] * 4)(x),
    ),
    "seed of an operation": (distorted(1), distorted(2)),
    "order of arguments": (lambda x: 2.0 - x, lambda x: x - 2.0),
    "keyword": (lambda x: ops.mean(x, axis=1), lambda x: ops.mean(x, axis=2)),
    "slices": (halves(slice(0, 4), slice(4, 8)), halves(slice(4, 8), slice(0, 4))),
    "stride of a slice": (lambda x: x[:, ::2], lambda x: x[:, 1::2]),
    "array": (lambda x: x * np.arange(4.0), lambda x: x * np.arange(4.0)[::-1]),
    "which tensor": (lambda x: layers.Subtract()([x, x * 2.0]), lambda x: layers.Subtract()([x * 2.0, x])),
    "two layers": (twice, lambda x: layers.Dense(4)(layers.Dense(4)(x))),
}

# What decides nothing at inference, and where it decides a training.
NO_VALUES = {
    "name": (lambda x: conv(x, name="a"), lambda x: conv(x, name="b"), False),
    "name of an operation": (named("a"), named("b"), False),
    "name of an inner layer": (
        timed(layers.Dense(4, name="a")),
        timed(layers.Dense(4, name="b")),
        False,
    ),
    "initializer": (conv, lambda x: conv(x, kernel_initializer="zeros"), False),
    "trainable": (conv, lambda x: conv(x, trainable=False), True),
    "trainable inside": (timed(layers.Dense(4)), timed(layers.Dense(4, trainable=False)), True),
    "regularizer": (conv, lambda x: conv(x, kernel_regularizer="l2"), True),
    "constraint": (conv, lambda x: conv(x, bias_constraint="non_neg"), True),
    "seed of a layer": (
        lambda x: layers.Dropout(0.5, seed=1)(x),
        lambda x: layers.Dropout(0.5, seed=2)(x),
        True,
    ),
}


def digest(model, **options):
    return graph.architecture_digest(model, **options), graph.weights_digest(model)


@pytest.mark.parametrize("factor", VALUES)
def test_digests__differ_where_a_value_may(factor):
    one, other = map(model_of, VALUES[factor])
    assert digest(one) != digest(other)
    pixels = np.random.default_rng(1).uniform(-1, 1, (2, 8, 8, 4)).astype("float32")
    with np.errstate(all="ignore"):
        values = [np.asarray(model(pixels)).astype("float32") for model in (one, other)]
    assert values[0].shape != values[1].shape or not np.array_equal(*values)  # else the factor is none


@pytest.mark.parametrize("factor", NO_VALUES)
def test_digests__are_the_same_where_no_value_differs(factor):
    one, other = map(model_of, NO_VALUES[factor][:2])
    assert digest(one) == digest(other)
    pixels = np.random.default_rng(1).uniform(-1, 1, (2, 8, 8, 4)).astype("float32")
    np.testing.assert_array_equal(one(pixels, training=False), other(pixels, training=False))
    assert (digest(one, trained=True) != digest(other, trained=True)) == NO_VALUES[factor][2]


def test_digests__of_a_layer_that_is_called_twice_and_two_with_its_weights():
    shared, apart = model_of(twice), model_of(lambda x: layers.Dense(4)(layers.Dense(4)(x)))
    apart.set_weights([*shared.get_weights(), *shared.get_weights()])
    assert digest(shared) == digest(apart)
    assert digest(shared, trained=True) != digest(apart, trained=True)


def test_weights_digest__sees_two_equal_layers_swapped():
    model = model_of(lambda x: layers.Dense(4, name="b")(layers.Dense(4, name="a")(x)))
    before = digest(model)
    weights = model.get_weights()
    model.set_weights([*weights[2:], *weights[:2]])
    assert graph.weights_digest(model) != before[1]


@pytest.mark.parametrize("factor", [*VALUES, *NO_VALUES])
def test_digests__survive_a_file(factor, tmp_path):
    model = model_of((VALUES | NO_VALUES)[factor][1])
    model.save(tmp_path / "m.keras")
    assert digest(keras.saving.load_model(tmp_path / "m.keras")) == digest(model)


def test_policies__are_those_of_all_layers():
    def make(x):
        x = layers.TimeDistributed(layers.Dense(4, dtype=MIXED))(conv(x))
        return layers.Dense(4, dtype="float64")(x)

    assert graph.policies(model_of(make)) == ("float32", "float64", MIXED)
    assert graph.policies(model_of(ops.abs)) == ()

"""The smallest weights become zero, and stay so whatever the optimizer does."""

import numpy as np
import pytest

from fastcls.backend import import_keras
from fastcls.training.loop.pruning import Pruner, count_zeros, share_of_zeros

keras = import_keras()


def variable(shape=(10, 20), seed=0):
    return keras.Variable(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


@pytest.mark.parametrize(("share", "steps"), [(0.8, 200), (0.5, 37), (0.9, 1), (0.3, 2), (0.99, 5000)])
def test_pruner__follows_the_cubic_schedule_and_keeps_the_largest(share, steps):
    kernel = variable()
    values, last = np.array(kernel), steps // 2
    pruner = Pruner({"one": kernel}, share, steps)
    with pruner.applied():
        before = 0.0
        for step in range(min(steps, last + 5)):
            pruner.before(step)
            expected = share * (1 - (1 - min(step / last, 1)) ** 3) if last else share
            found = pruner.sparsity
            assert before <= found <= expected + 0.5 / 200  # at most a hundred moves
            if step >= last or steps <= 200:
                assert found == round(200 * expected) / 200
            before = found
    kept = np.array(kernel)
    smallest = np.sort(np.abs(values), axis=None)[round(share * 200)]
    np.testing.assert_array_equal(kept, np.where(np.abs(values) >= smallest, values, 0))


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_pruner__zeros_stay_zero_and_the_rest_is_trained(optimizer):
    keras.utils.set_random_seed(0)
    image = keras.Input((6,))
    layer = keras.layers.Dense(8, name="pruned", kernel_constraint="non_neg")
    model = keras.Model(image, keras.layers.Dense(2, activation="softmax")(layer(image)))
    model.compile(getattr(keras.optimizers, optimizer)(0.1), "sparse_categorical_crossentropy")
    random = np.random.default_rng(1)
    rows, labels = random.normal(size=(64, 6)), random.integers(0, 2, 64)
    pruner = Pruner({"dense": layer.kernel}, 0.5, 2)
    with pruner.applied():
        pruner.before(1)
        zeros = np.array(layer.kernel) == 0
        before = np.array(layer.kernel)
        model.fit(rows, labels, batch_size=8, epochs=2, verbose=0)
        after = np.array(layer.kernel)
        assert zeros.sum() == 24 and (after[zeros] == 0).all()
        assert (after >= 0).all()  # its own constraint holds too
        assert (after[~zeros & (before > 0)] != before[~zeros & (before > 0)]).all()
    assert type(layer.kernel.constraint).__name__ == "NonNeg"
    model.fit(rows, labels, epochs=1, verbose=0)
    assert (np.array(layer.kernel)[zeros] != 0).any()  # no pruning any more


def test_pruner__goes_on_from_the_weights_alone():
    kernel, other = variable(), variable()
    whole = Pruner({"one": kernel}, 0.8, 20)
    with whole.applied():
        for step in range(20):
            whole.before(step)
            kernel.assign(kernel.constraint(kernel + 0.01 * step))
            if step == 7:
                other.assign(kernel)
    resumed = Pruner({"one": other}, 0.8, 20)
    with resumed.applied():
        for step in range(8, 20):
            resumed.before(step)
            other.assign(other.constraint(other + 0.01 * step))
    np.testing.assert_array_equal(np.array(kernel), np.array(other))


def test_count_zeros__what_is_sparser_already_stays_so():
    kernel = keras.Variable(np.eye(10, dtype=np.float32))
    pruner = Pruner({"one": kernel}, 0.5, 4)
    with pruner.applied():
        pruner.before(2)
    counts = count_zeros({"one": kernel, "two": variable((5, 20))})
    assert counts == {"one": {"weights": 100, "zeros": 90}, "two": {"weights": 100, "zeros": 0}}
    assert share_of_zeros(counts) == 0.45

"""Optimizers by name: their steps by hand, what each takes, and what is refused."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from fastcls.backend import import_keras
from fastcls.errors import OptionError
from fastcls.specs import OPTIMIZERS, OptimizerSpec, TrainConfig
from fastcls.training.head_trainer import train_head
from fastcls.training.loop.optimizers import build_optimizer


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_build_optimizer__by_its_name_in_letters_of_any_case(name):
    keras = import_keras()
    for written in (name, name.lower(), name.upper()):
        assert type(build_optimizer(OptimizerSpec(written), 0.1)) is getattr(keras.optimizers, name)


def test_build_optimizer__momentum_keeps_a_share_of_the_last_step():
    steps = _steps(OptimizerSpec("SGD", momentum=0.5), [[1.0], [1.0], [1.0]])
    np.testing.assert_allclose(steps, [[-0.1], [-0.15], [-0.175]], rtol=1e-5)


def test_build_optimizer__weight_decay_takes_its_share_times_the_rate():
    with_decay, without = (_steps(OptimizerSpec("AdamW", weight_decay=w), [[1.0]]) for w in (0.5, 0.0))
    # The weights begin at 1.
    np.testing.assert_allclose(with_decay - without, [[-0.1 * 0.5 * 1.0]], rtol=1e-5)


@pytest.mark.parametrize(("clip_norm", "expected"), [(1.0, [-0.06, -0.08]), (6.0, [-0.3, -0.4])])
def test_build_optimizer__clips_the_norm_over_all_weights(clip_norm, expected):
    steps = _steps(OptimizerSpec("SGD", clip_norm=clip_norm), [[3.0, 4.0]])
    np.testing.assert_allclose(steps, [expected], rtol=1e-5)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"name": "SDG"}, "Choose one of: SGD, Adam, AdamW, RMSprop, Adagrad, Adadelta, Adamax, Nadam"),
        ({"name": "Adam", "momentum": 0.9}, "--momentum has no effect with --optimizer Adam. Remove it"),
        ({"name": "Adam", "weight_decay": 0.1}, "--weight-decay has no effect with --optimizer Adam"),
        ({"name": "lbfgs"}, "Unknown optimizer: 'lbfgs'"),
        ({"name": "SGD", "momentum": 1.0}, "below 1. Received: 1.0"),
        ({"name": "SGD", "momentum": float("nan")}, "below 1. Received: nan"),
        ({"name": "AdamW", "weight_decay": -0.1}, "0 or more. Received: -0.1"),
        ({"clip_norm": 0.0}, "must be positive. Received: 0.0"),
    ],
)
def test_optimizer_spec__refuses(given, complaint):
    with pytest.raises(OptionError, match=complaint):
        OptimizerSpec(**given)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_train_config__refuses_a_rate_that_is_not_positive(rate):
    with pytest.raises(OptionError, match="learning_rate must be positive"):
        TrainConfig(learning_rate=rate)


def test_train_config__comes_back_from_a_dict():
    config = TrainConfig(OptimizerSpec("sgd", momentum=0.9, clip_norm=2.0), epochs=3)
    assert TrainConfig(**asdict(config)) == config


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_train_head__each_optimizer_lowers_the_loss(make_cache, name):
    rate = 1.0 if name == "Adadelta" else 0.05
    config = TrainConfig(OptimizerSpec(name, clip_norm=5.0), epochs=8, learning_rate=rate, val=0.0)
    losses = [row["loss"] for row in train_head(make_cache()[0], None, config).history]
    assert losses[-1] < losses[0]


def _steps(spec: OptimizerSpec, gradients: list[list[float]]) -> np.ndarray:
    """What each step at a rate of 0.1 adds to weights that begin at 1: (steps, weights)."""
    keras = import_keras()
    weights = [keras.Variable(1.0) for _ in gradients[0]]
    optimizer = build_optimizer(spec, 0.1)
    places = [[1.0] * len(weights)]
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(part) for part in gradient], weights)
        places.append([float(weight.numpy()) for weight in weights])
    return np.diff(places, axis=0)

"""Optimizers by name, and learning rates against formulas written down again here, step by step."""

from __future__ import annotations

from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import pytest

from fastcls.backend import import_keras
from fastcls.errors import OptionError
from fastcls.specs import OPTIMIZERS, HeadSpec, LossSpec, OptimizerSpec, ScheduleSpec, TrainConfig
from fastcls.training.head_trainer import train_head
from fastcls.training.heads.network import build_head
from fastcls.training.loop.optimization import Rate, build_optimizer
from fastcls.training.rows.cached import Feeder
from fastcls.training.rows.selection import select

STEPS, EPOCHS, RATE = 7, 12, 0.2
SPECS = [
    ScheduleSpec("constant"),
    ScheduleSpec("step", rate_factor=0.5, rate_interval=3),
    ScheduleSpec("exponential", rate_factor=0.5, rate_interval=3),
    ScheduleSpec("cosine", rate_minimum=0.01),
]


@pytest.mark.parametrize("warmup", [0, 2])
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_rate__of_each_step(spec, warmup):
    import_keras()
    spec = replace(spec, warmup=warmup)
    rate = Rate(TrainConfig(schedule=spec, epochs=EPOCHS, learning_rate=RATE), STEPS)
    ours = [float(rate.at(step)) for step in range(EPOCHS * STEPS)]
    expected = [_by_hand(spec, step, STEPS, EPOCHS) for step in range(EPOCHS * STEPS)]
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


@pytest.mark.parametrize("warmup", [0, 2])
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_train_head__takes_each_step_at_its_rate(make_cache, spec, warmup):
    cache, _, _ = make_cache(200)
    config = TrainConfig(OptimizerSpec("SGD"), 4, 32, RATE, replace(spec, warmup=warmup), val=0.0, seed=3)
    trained = train_head(cache, None, replace(config, loss=LossSpec(l2=0.0)))
    kernel, bias, rates = _descent(cache, config)
    np.testing.assert_allclose(trained.model.get_weights()[0], kernel, atol=1e-4)
    np.testing.assert_allclose(trained.model.get_weights()[1], bias, atol=1e-4)
    assert [row["learning_rate"] for row in trained.history] == pytest.approx(rates, rel=1e-5)


def test_train_head__a_plateau_lowers_the_rate_as_keras_does(make_cache):
    cache, _, _ = make_cache(60, spread=0.2)
    spec = ScheduleSpec("plateau", rate_factor=0.5, rate_patience=2, rate_minimum=0.01)
    config = TrainConfig(epochs=20, learning_rate=0.05, patience=0, schedule=spec)
    history = train_head(cache, HeadSpec(layers=(64,)), config).history
    rates = [row["learning_rate"] for row in history]
    assert rates == pytest.approx(_plateaus_of_keras(history, spec, 0.05), rel=1e-5)
    assert rates[0] == 0.05 and rates[-1] == pytest.approx(0.01)


def test_train_head__a_plateau_lowers_what_the_warmup_rises_to(make_cache):
    import_keras()
    spec = ScheduleSpec("plateau", warmup=2, rate_factor=0.5, rate_patience=1)
    rate = Rate(TrainConfig(learning_rate=RATE, schedule=spec), STEPS)
    for loss in (1.0, 1.0):
        rate.watch({"val_loss": loss})
    assert float(rate.at(0)) == pytest.approx(RATE / 2 / (2 * STEPS))
    assert float(rate.at(100)) == pytest.approx(RATE / 2)


def test_train_head__the_rate_is_in_no_saved_head(make_cache, tmp_path):
    keras = import_keras()
    trained = train_head(make_cache()[0], None, TrainConfig(epochs=2, schedule="cosine"))
    trained.model.save(tmp_path / "head.keras")
    loaded = keras.saving.load_model(tmp_path / "head.keras")
    assert getattr(loaded, "optimizer", None) is None


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"kind": "linear"}, "Choose one of: constant, step, exponential, cosine, plateau"),
        ({"rate_factor": 0.5}, "--rate-factor has no effect with --schedule constant"),
        (
            {"kind": "cosine", "rate_factor": 0.5, "rate_interval": 2},
            "--rate-factor, --rate-interval have no effect with --schedule cosine",
        ),
        ({"kind": "step", "rate_minimum": 0.1}, "--rate-minimum has no effect with --schedule step"),
        ({"kind": "step", "rate_factor": 1.0}, "below 1. Received: 1.0"),
        ({"kind": "step", "rate_interval": 0}, "rate_interval must be 1 or more"),
        ({"kind": "plateau", "rate_patience": 0}, "must be 1 or more"),
        ({"kind": "cosine", "rate_minimum": -0.1}, "rate_minimum must be 0 or more"),
        ({"warmup": -1}, "warmup must be 0 or more"),
    ],
)
def test_schedule_spec__refuses(given, complaint):
    with pytest.raises(OptionError, match=complaint):
        ScheduleSpec(**given)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"schedule": ScheduleSpec(warmup=5), "epochs": 5}, "warmup=5, epochs=5"),
        ({"schedule": ScheduleSpec("cosine", rate_minimum=0.1), "learning_rate": 0.1}, "must be below"),
        ({"schedule": "plateau", "val": 0.0}, "needs validation images"),
        ({"schedule": "plateau", "patience": 5}, "before --rate-patience 5 lowers"),
    ],
)
def test_train_config__refuses_a_schedule_that_cannot_be(given, complaint):
    with pytest.raises(OptionError, match=complaint):
        TrainConfig(**given)


def test_train_config__comes_back_with_its_schedule():
    config = TrainConfig("AdamW", schedule=ScheduleSpec("cosine", warmup=3, rate_minimum=1e-5))
    assert TrainConfig(**asdict(config)) == config


def _by_hand(spec: ScheduleSpec, step: int, steps: int, epochs: int) -> float:
    warmup = spec.warmup * steps
    if step < warmup:
        return RATE * (step + 1) / warmup
    past = (step - warmup) / steps  # epochs
    if spec.kind == "step":
        return RATE * spec.rate_factor ** int(past // spec.rate_interval)
    if spec.kind == "exponential":
        return RATE * spec.rate_factor ** (past / spec.rate_interval)
    if spec.kind == "cosine":
        share = (1 + np.cos(np.pi * past / (epochs - spec.warmup))) / 2
        return spec.rate_minimum + (RATE - spec.rate_minimum) * share
    return RATE


def _descent(cache, config):
    """Softmax regression by gradient descent: kernel, bias, and the rate that each epoch begins with."""
    import_keras().utils.set_random_seed(config.seed)
    train = select(cache, config).train
    kernel, bias = build_head(HeadSpec(), (16,), 3).get_weights()
    rows, labels = train.rows.read(), train.labels
    feeder = Feeder(train, config.batch_size, config.seed)
    step, rates = 0, []
    steps = -(-len(train) // config.batch_size)
    for epoch in range(1, config.epochs + 1):
        ((_, _, order),) = feeder.blocks(epoch)
        rates.append(_by_hand(config.schedule, step, steps, config.epochs))
        for start in range(0, len(order), config.batch_size):
            places = order[start : start + config.batch_size]
            scores = np.exp(rows[places] @ kernel + bias)
            slope = scores / scores.sum(1, keepdims=True) - np.eye(3)[labels[places]]
            rate = _by_hand(config.schedule, step, steps, config.epochs) / len(places)
            kernel, bias = kernel - rate * rows[places].T @ slope, bias - rate * slope.sum(0)
            step += 1
    return kernel, bias, rates


def _plateaus_of_keras(history, spec, rate):
    keras = import_keras()
    callback = keras.callbacks.ReduceLROnPlateau(
        factor=spec.rate_factor, patience=spec.rate_patience, min_lr=spec.rate_minimum, min_delta=0
    )
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate))
    callback.set_model(model)
    callback.on_train_begin()
    rates = [rate]
    for before, _ in pairwise(history):
        callback.on_epoch_end(int(before["epoch"]), {"val_loss": before["val_loss"]})
        rates.append(float(model.optimizer.learning_rate))
    return rates


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

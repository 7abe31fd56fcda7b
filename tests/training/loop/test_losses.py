"""The loss against NumPy, on random data and in the steps of a training."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from fastcls.backend import import_keras
from fastcls.errors import OptionError
from fastcls.specs import HeadSpec, LossSpec, OptimizerSpec, TrainConfig
from fastcls.training.head_trainer import train_head
from fastcls.training.heads.network import build_head
from fastcls.training.loop.losses import class_weights
from fastcls.training.loop.objectives import build_loss
from fastcls.training.rows.selection import select

LABELS = np.array([0] * 60 + [1] * 30 + [2] * 9 + [3])
SPECS = [
    LossSpec(label_smoothing=0.2, l2=0.0),
    LossSpec(l2=0.01),
    LossSpec(class_weight="balanced", l2=0.0),
    LossSpec(class_weight="log", l2=0.0),
    LossSpec(label_smoothing=0.1, l2=0.003, class_weight="balanced"),
]


def test_class_weights__are_those_of_the_formulas():
    expected = [1, 1, 1, np.log(0.15 * 100 / 1)]
    np.testing.assert_allclose(class_weights("log", LABELS), expected, rtol=1e-6)
    balanced = [100 / (4 * count) for count in (60, 30, 9, 1)]
    np.testing.assert_allclose(class_weights("balanced", LABELS), balanced, rtol=1e-6)
    np.testing.assert_array_equal(class_weights("none", LABELS), [1, 1, 1, 1])


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_build_loss__equals_numpy(spec):
    import_keras()
    head = build_head(HeadSpec(layers=(5,)), (16,), 4)
    rows = np.random.default_rng(1).normal(size=(100, 16)).astype(np.float32)
    probabilities = head(rows)
    ours = np.mean(build_loss(spec, head, LABELS)(LABELS, probabilities))
    first, _, last, _ = head.get_weights()
    assert ours == pytest.approx(
        _loss(spec, LABELS, LABELS, np.asarray(probabilities), [first, last]), rel=1e-5
    )


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_train_head__minimizes_it(make_cache, spec):
    cache, _, _ = make_cache(100)
    config = TrainConfig(OptimizerSpec("SGD"), epochs=1, batch_size=1000, learning_rate=0.5, loss=spec)
    trained = train_head(cache, None, config)
    import_keras().utils.set_random_seed(config.seed)
    kernel, bias = build_head(HeadSpec(), (16,), 3).get_weights()
    chosen = select(cache, config)
    rows, labels = chosen.train.rows.read(), chosen.train.labels
    before = _softmax(rows @ kernel + bias)
    assert trained.history[0]["loss"] == pytest.approx(
        _loss(spec, labels, labels, before, [kernel]), rel=1e-5
    )

    weights = _weights(spec, labels)[labels][:, None]
    slope = weights * (before - _targets(spec, labels, 3)) / len(labels)
    after = trained.model.get_weights()
    expected = kernel - 0.5 * (rows.T @ slope + 2 * spec.l2 * kernel)
    np.testing.assert_allclose(after[0], expected, atol=1e-5)
    np.testing.assert_allclose(after[1], bias - 0.5 * slope.sum(0), atol=1e-5)

    val = _softmax(chosen.val.rows.read() @ after[0] + after[1])
    plain = _loss(LossSpec(l2=0.0), labels, chosen.val.labels, val, [])
    assert trained.history[0]["val_loss"] == pytest.approx(plain, rel=1e-5)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"label_smoothing": 1.0}, "below 1. Received: 1.0"),
        ({"label_smoothing": float("nan")}, "below 1. Received: nan"),
        ({"l2": -1.0}, "0 or more. Received: -1.0"),
        ({"class_weight": "rare"}, "Choose one of: none, balanced, log"),
    ],
)
def test_loss_spec__refuses(given, complaint):
    with pytest.raises(OptionError, match=complaint):
        LossSpec(**given)


def test_train_config__comes_back_with_its_loss():
    config = TrainConfig(loss=LossSpec(0.1, 1e-4, "log"))
    assert TrainConfig(**asdict(config)) == config


def _loss(spec, all_labels, labels, probabilities, kernels) -> float:
    targets = _targets(spec, labels, probabilities.shape[1])
    entropies = -(targets * np.log(probabilities)).sum(axis=1) * _weights(spec, all_labels)[labels]
    return float(entropies.mean() + spec.l2 * sum((kernel**2).sum() for kernel in kernels))


def _targets(spec, labels, classes) -> np.ndarray:
    return np.eye(classes)[labels] * (1 - spec.label_smoothing) + spec.label_smoothing / classes


def _weights(spec, labels) -> np.ndarray:
    counts = np.unique(labels, return_counts=True)[1]
    if spec.class_weight == "none":
        return np.ones(len(counts))
    if spec.class_weight == "balanced":
        return len(labels) / len(counts) / counts
    return np.array([max(1.0, np.log(0.15 * len(labels) / count)) for count in counts])


def _softmax(scores: np.ndarray) -> np.ndarray:
    return np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)

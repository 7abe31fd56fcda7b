"""Bootstrap intervals are those of a plain loop, and nearly so where they are linearized."""

from __future__ import annotations

import numpy as np
import pytest

from fastcls.evaluation import intervals
from fastcls.evaluation.influence import CLASS_FIGURES, influences
from fastcls.evaluation.intervals import mean_interval
from fastcls.evaluation.one_label import evaluate


def drawn(images, classes, seed=0, decimals=8):
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, images)
    logits = random.normal(size=(images, classes))
    logits[np.arange(images), labels] += 1.5
    return labels, (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).round(decimals)


def figures(labels, probabilities):
    found = evaluate(labels, probabilities, [str(label) for label in range(probabilities.shape[1])])
    return found.intervals, found.to_dict()


def test_intervals__are_those_of_a_loop_over_resamples():
    labels, probabilities = drawn(150, 3)
    found, values = figures(labels, probabilities)
    random, samples = np.random.default_rng(1), []
    for _ in range(500):
        again = random.integers(0, 150, 150)
        samples.append(evaluate(labels[again], probabilities[again], "abc").scores())
    for name in found:
        low, high = np.quantile([sample[name] for sample in samples], [0.025, 0.975])
        assert found[name] == pytest.approx((low, high), abs=0.15 * (high - low)), name
        assert low <= values[name] <= high
    assert found == figures(labels, probabilities)[0]
    assert "ece" not in found and "top_k" not in found and found["balanced_accuracy"] == found["macro_recall"]


def test_intervals__linearized_are_nearly_those_of_the_draws(monkeypatch):
    labels, probabilities = drawn(800, 4)
    exact = figures(labels, probabilities)[0]
    monkeypatch.setattr(intervals, "_EXACT", 0)
    linear = figures(labels, probabilities)[0]
    assert list(exact) == list(linear)
    for name, (low, high) in exact.items():
        assert linear[name] == pytest.approx((low, high), abs=0.08 * (high - low) + 1e-9), name


def test_influences__are_the_derivatives_by_the_weight_of_an_image():
    labels, probabilities = drawn(40, 4, decimals=1)
    predicted = probabilities.argmax(axis=1)
    by_image = intervals.ByImage({}, lambda c: labels == c, lambda c: predicted == c, probabilities)
    weighted = intervals._exact(by_image)
    values, moves = influences(by_image.has, by_image.found, probabilities)
    step = 1e-5 * np.eye(40)
    lower, upper = weighted(1 - step), weighted(1 + step)
    for name, value, own in zip(CLASS_FIGURES, values, moves, strict=True):
        np.testing.assert_allclose((upper[name] - lower[name]) / 2e-5, own, atol=1e-8)
        assert weighted(np.ones((40, 1)))[name][0] == pytest.approx(value)


def test_intervals__where_nothing_can_vary_are_a_point():
    found, _ = figures(np.array([1]), np.array([[0.2, 0.8]]))
    assert found["accuracy"] == (1.0, 1.0) and "mean_auroc" not in found
    assert mean_interval(np.full(7, 0.5)) == (0.5, 0.5)


def test_mean_interval__has_the_width_of_the_standard_error():
    values = np.random.default_rng(0).normal(size=2000)
    low, high = mean_interval(values)
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 2000**0.5, rel=0.08)
    assert low < values.mean() < high

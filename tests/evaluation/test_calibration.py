"""Calibrations are at the minimum of the log loss, keep all decisions, and repair what was spoiled."""

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from fastcls.evaluation.calibration import cross_calibrate, fit_calibration, measure
from fastcls.tasks import ONE_LABEL, SEVERAL_LABELS


def sharpened(count=3000, classes=4, temperature=0.4, seed=0):
    """Labels that are drawn from true probabilities, and the same probabilities, too sure."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(count, classes)) * 2
    true = softmax(logits, axis=1)
    labels = (true.cumsum(axis=1) > random.random((count, 1))).argmax(axis=1)
    return softmax(logits / temperature, axis=1).astype(np.float32), labels


def test_one_label__the_temperature_that_spoiled_the_probabilities_is_found():
    spoiled, labels = sharpened()
    found = fit_calibration(spoiled, labels, ONE_LABEL)
    assert found.temperature == pytest.approx(1 / 0.4, rel=0.06)
    repaired = found.apply(spoiled, ONE_LABEL)
    assert (repaired.argmax(axis=1) == spoiled.argmax(axis=1)).all()
    assert measure(repaired, labels, ONE_LABEL).ece < 0.02 < measure(spoiled, labels, ONE_LABEL).ece
    assert measure(repaired, labels, ONE_LABEL).log_loss == pytest.approx(log_loss(labels, repaired))
    # No other temperature is better.
    for factor in (0.98, 1.02):
        other = softmax(np.log(spoiled) * found.scale * factor, axis=1)
        assert log_loss(labels, other) > log_loss(labels, repaired)


def test_several_labels__each_class_is_as_platt_has_it():
    random = np.random.default_rng(1)
    logits = random.normal(size=(500, 3))
    labels = (random.random((500, 3)) < expit(logits * [0.5, 2.0, 1.0] + [1.0, -1.0, 0.0])).astype(np.uint8)
    found = fit_calibration(expit(logits), labels, SEVERAL_LABELS)
    for label in range(3):
        positives = labels[:, label].sum()
        target = np.where(labels[:, label], (positives + 1) / (positives + 2), 1 / (502 - positives))
        both = np.repeat([1, 0], 500), np.concatenate([target, 1 - target])
        rows = np.tile(logits[:, label], 2)[:, None]
        platt = LogisticRegression(C=np.inf, tol=1e-8).fit(rows, both[0], sample_weight=both[1])
        assert found.scale[label] == pytest.approx(platt.coef_[0, 0], rel=1e-3)
        assert found.offset[label] == pytest.approx(platt.intercept_[0], abs=1e-3)


def test_several_labels__thresholds_move_with_the_probabilities():
    random = np.random.default_rng(2)
    probabilities = random.random((400, 3)).astype(np.float32)
    labels = (random.random((400, 3)) < probabilities**2).astype(np.uint8)
    thresholds = (0.3, 0.5, 1.0)
    found = fit_calibration(probabilities, labels, SEVERAL_LABELS)
    moved = found.move(thresholds)
    same = SEVERAL_LABELS.decide(found.apply(probabilities, SEVERAL_LABELS).astype(np.float32), moved)
    assert (same == SEVERAL_LABELS.decide(probabilities, thresholds)).all()
    assert moved[2] == 1


@pytest.mark.parametrize("share", [0, 1])
def test_several_labels__a_class_of_all_images_or_none_stays_as_it_is(share):
    labels = np.full((40, 2), share, np.uint8)
    labels[::2, 1] = 1 - share
    probabilities = np.full((40, 2), 0.4)
    found = fit_calibration(probabilities, labels, SEVERAL_LABELS)
    assert (found.scale[0], found.offset[0]) == (1, 0)
    assert np.isfinite(found.apply(probabilities, SEVERAL_LABELS)).all()


def test_certain_and_wrong_probabilities_stay_finite():
    certain = np.eye(3, dtype=np.float32)[[0, 1, 2] * 4]
    for labels in (np.array([0, 1, 2] * 4), np.array([1, 2, 0] * 4)):
        found = fit_calibration(certain, labels, ONE_LABEL)
        assert np.isfinite(found.apply(certain, ONE_LABEL)).all()
        assert np.isfinite(measure(certain, labels, ONE_LABEL).log_loss)


def test_ece__by_hand():
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]])
    found = measure(probabilities, np.array([0, 1, 0, 1]), ONE_LABEL)
    # Two of 0.9 of which one is right; two of 0.6 that are both right.
    assert found.ece == pytest.approx((2 * 0.4 + 2 * 0.4) / 4)
    several = measure(np.array([[0.9, 0.1]]), np.array([[1, 1]]), SEVERAL_LABELS)
    assert several.ece == pytest.approx((0.1 + 0.9) / 2)
    assert several.log_loss == pytest.approx(log_loss([1, 1], [0.9, 0.1], labels=[0, 1]))


def test_what_is_measured_after_is_of_images_that_were_not_fitted_to():
    spoiled, labels = sharpened(count=200)
    crossed = cross_calibrate(spoiled, labels, ONE_LABEL)
    own = fit_calibration(spoiled, labels, ONE_LABEL).apply(spoiled, ONE_LABEL)
    before, after, fitted = (measure(p, labels, ONE_LABEL).log_loss for p in (spoiled, crossed, own))
    assert fitted < after < before

"""The law of a learning curve, and what it says of twice the images."""

import numpy as np
import pytest
from scipy.optimize import curve_fit

from fastcls.evaluation.power_law import PowerLaw, _fit, estimate_gain, law_of

IMAGES = np.arange(1, 11) * 64


def fit_law(images, points):
    return PowerLaw(*(float(each[0]) for each in _fit(images, points[None], np.ones((1, len(images))))))


@pytest.mark.parametrize(("limit", "scale", "exponent"), [(0.95, 1.2, 0.5), (0.8, 3.0, 1.0), (1.0, 0.6, 0.2)])
def test_fit_law__finds_the_law_of_points_on_it(limit, scale, exponent):
    law = fit_law(IMAGES, limit - scale * IMAGES**-exponent)
    assert law(IMAGES) == pytest.approx(limit - scale * IMAGES**-exponent, abs=1e-3)
    assert float(law(1280)) == pytest.approx(limit - scale * 1280**-exponent, abs=3e-3)


@pytest.mark.parametrize("seed", range(5))
def test_fit_law__is_scipys_where_that_stays_within_bounds(seed):
    noise = np.random.default_rng(seed).normal(scale=0.004, size=10)
    points = 0.9 - 1.5 * IMAGES**-0.6 + noise
    bounds = ([0, 0, 0.05], [1, 100, 2])
    found, _ = curve_fit(lambda n, a, b, c: a - b * n**-c, IMAGES, points, (0.9, 1, 0.5), bounds=bounds)
    own, theirs = (
        np.sum((at - points) ** 2)
        for at in (fit_law(IMAGES, points)(IMAGES), None or found[0] - found[1] * IMAGES ** -found[2])
    )
    assert own == pytest.approx(theirs, rel=0.02)


@pytest.mark.parametrize("points", [np.full(10, 0.7), np.linspace(0.8, 0.7, 10), np.full(10, 1.0)])
def test_fit_law__no_rise_is_no_gain(points):
    gain = estimate_gain(IMAGES, np.tile(points, (5, 1)), 640, 1280)
    assert (gain.gain, gain.low, gain.high) == pytest.approx((0, 0, 0), abs=1e-9)
    assert float(fit_law(IMAGES, points)(1280)) == pytest.approx(points.mean())
    assert float(law_of(gain, IMAGES, points)(1280)) == pytest.approx(points.mean())


@pytest.mark.parametrize("seed", range(5))
def test_law_of__brings_the_gain_and_is_near_the_points(seed):
    random = np.random.default_rng(seed)
    curves = 0.9 - 1.5 * IMAGES**-0.6 + random.normal(scale=0.01, size=(5, 10))
    gain = estimate_gain(IMAGES, curves, 800, 1600)
    law = law_of(gain, IMAGES, curves.mean(axis=0))
    assert float(law(1600) - law(800)) == pytest.approx(gain.gain, abs=1e-9)
    assert law(IMAGES) == pytest.approx(curves.mean(axis=0), abs=0.025)


def test_fit_law__promises_no_more_than_everything():
    law = fit_law(IMAGES, np.linspace(0.5, 0.999, 10))
    assert law.limit <= 1 and float(law(10**9)) <= 1


def test_estimate_gain__the_interval_holds_the_truth_and_is_wider_of_noise():
    random = np.random.default_rng(0)
    true = 0.9 - 1.5 * IMAGES**-0.6
    gain = 1.5 * (640**-0.6 - 1280**-0.6)
    widths, held = [], []
    for noise in (0.01, 0.05):
        for _ in range(10):
            found = estimate_gain(IMAGES, true + random.normal(scale=noise, size=(15, 10)), 640, 1280)
            held.append(found.low <= gain <= found.high)
            widths.append(found.high - found.low)
    assert np.mean(widths[:10]) < np.mean(widths[10:]) and sum(held) >= 17

"""How a figure grows with the number of images: a power law, and what twice the images would bring.

The form a - b n^-c is that of Hestness et al., "Deep Learning Scaling is Predictable, Empirically" (2017).
It is among the best of those that Viering and Loog compare, who call it POW3 ("The Shape of Learning Curves:
a Review", 2021).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

_EXPONENTS = np.geomspace(0.05, 2, 60)
_RESAMPLES = 1000
_FEWEST = 4  # points that a law of three numbers is fitted to
_LEVEL = 0.95


@dataclass(frozen=True)
class PowerLaw:
    """The figure of n images is about limit - scale * n ** -exponent.

    Attributes:
        limit: Of endless images; at most 1.
        scale: 0 or more.
        exponent: How fast it gets there.
    """

    limit: float
    scale: float
    exponent: float

    def __call__(self, images: np.ndarray | float) -> np.ndarray:
        """The figure of so many images."""
        return np.asarray(self.limit - self.scale * np.asarray(images, np.float64) ** -self.exponent)


@dataclass(frozen=True)
class Gain:
    """What more images would bring.

    Attributes:
        images: How many there are.
        more: How many there would be.
        gain: The difference of the figure.
        low: Lower end of its 95 % interval.
        high: Upper end.
    """

    images: int
    more: int
    gain: float
    low: float
    high: float


def law_of(gain: Gain, images: np.ndarray, figures: np.ndarray) -> PowerLaw:
    """Of the laws by which more images bring a gain, the one of the least squared error.

    Args:
        gain: What they bring.
        images: (P,) numbers of images.
        figures: (P,).
    """
    powers = images.astype(np.float64) ** -_EXPONENTS[:, None]
    scales = gain.gain / (gain.images**-_EXPONENTS - gain.more**-_EXPONENTS)
    limits = np.minimum((figures + scales[:, None] * powers).mean(axis=1), 1)
    errors = ((figures - limits[:, None] + scales[:, None] * powers) ** 2).sum(axis=1)
    best = int(errors.argmin())
    return PowerLaw(float(limits[best]), float(scales[best]), float(_EXPONENTS[best]))


def estimate_gain(
    images: np.ndarray, curves: np.ndarray, now: int, more: int, *, drawn: int = 0, seed: int = 0
) -> Gain:
    """What more images would bring: the median of a bootstrap, and the interval that holds 95 % of it.

    The curves are drawn with replacement, and each time the law is fitted from another point on: small
    numbers of images need not follow it. Fitted to all of them it promises too much, with an interval that is
    too narrow, as if the law were certain.

    Args:
        images: (P,) numbers of images.
        curves: (S, P) figures, of one part of the test images each.
        now: How many images there are.
        more: How many there would be.
        drawn: How many curves to draw: as many as are of different test images; all by default.
        seed: Of the draws.
    """
    random = np.random.default_rng(seed)
    places = random.integers(len(curves), size=(_RESAMPLES, drawn or len(curves)))
    first = random.integers(max(1, len(images) - _FEWEST), size=(_RESAMPLES, 1))
    weights = (np.arange(len(images)) >= first).astype(np.float64)
    _, scale, exponent = _fit(images, curves[places].mean(axis=1), weights)
    gains = scale * (now**-exponent - more**-exponent)
    low, gain, high = np.quantile(gains, [(1 - _LEVEL) / 2, 0.5, (1 + _LEVEL) / 2]).tolist()
    return Gain(now, more, gain, low, high)


def _fit(
    images: np.ndarray, figures: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Limit, scale and exponent, (B,) each, of curves (B, P) whose points count (B, P)."""
    best = np.full(len(figures), np.inf)
    found = np.zeros((3, len(figures)))
    for law, error in _candidates(images, figures, weights):
        is_better = error < best
        best = np.where(is_better, error, best)
        found = np.where(is_better, law, found)
    limit, scale, exponent = found
    return limit, scale, exponent


def _candidates(
    images: np.ndarray, figures: np.ndarray, weights: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Of each exponent the best limit and scale, as (3, B), and the squared error (B,)."""
    total = weights.sum(axis=1)
    mean = (weights * figures).sum(axis=1) / total
    for exponent in _EXPONENTS:
        powers = images.astype(np.float64) ** -exponent
        center = (weights * powers).sum(axis=1) / total
        spread = (weights * (powers - center[:, None]) ** 2).sum(axis=1)
        slope = (weights * (powers - center[:, None]) * (figures - mean[:, None])).sum(axis=1)
        scale = np.maximum(-slope / np.maximum(spread, 1e-300), 0)
        limit = mean + scale * center
        # Above 1 there is no figure: then it is 1, and the scale is the best with that.
        capped = (weights * powers * (1 - figures)).sum(axis=1) / (weights * powers**2).sum(axis=1)
        scale = np.where(limit > 1, capped, scale)
        limit = np.minimum(limit, 1)
        errors = figures - limit[:, None] + scale[:, None] * powers
        yield np.stack([limit, scale, np.full(len(limit), exponent)]), (weights * errors**2).sum(axis=1)

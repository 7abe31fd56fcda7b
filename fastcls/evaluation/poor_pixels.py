"""Images whose pixels are poor: dark, bright, blurred, tiny, of an odd shape, or of one color."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fastcls.data.pixel_quality import COLUMNS

PLAIN, DARK, BRIGHT, BLURRED = "one_color", "dark", "bright", "blurred"
TINY, ODD_SHAPE = "tiny", "odd_shape"
KINDS = {
    PLAIN: "nothing but one color",
    DARK: "nothing in it is bright",
    BRIGHT: "nothing in it is dark",
    BLURRED: "much less detail than the others",
    TINY: "far smaller than what the network takes, and than the others",
    ODD_SHAPE: "very long and narrow",
}
# docs/audit.md says where these come from.
PLAIN_BELOW = 2.0
DARK_BELOW, BRIGHT_ABOVE = 64.0, 204.0
BLURRED_BELOW = 1 / 3
TINY_BELOW = 1 / 2
ODD_BELOW = 0.35
FENCE = 1.5


@dataclass(frozen=True, eq=False)
class Poor:
    """Images of one kind.

    Attributes:
        kind: One of `KINDS`.
        places: (M,) int, theirs.
        scores: (M,) 0 to 1, higher for worse.
    """

    kind: str
    places: np.ndarray
    scores: np.ndarray


def find_poor(quality: np.ndarray, size: tuple[int, int]) -> Iterator[Poor]:
    """Find the images that differ from the others of a data set, and are poor besides.

    Either alone says little: most photos of the night are dark, and the darkest photo of the day may be
    bright enough. So an image is listed if it is beyond a limit that is the same for all data sets and beyond
    what is usual in this one: outside of the fences of a box plot. An image of one color is always listed.
    What is small, dark, bright or of one color has little detail for that reason, and is not called blurred.

    Args:
        quality: (N, Q) float32, in the order of `pixel_quality.COLUMNS`; NaN where nothing is known.
        size: (height, width) of the pixels that the network takes.
    """
    known = np.flatnonzero(~np.isnan(quality).any(axis=1))
    if not len(known):
        return
    of = dict(zip(COLUMNS, quality[known].astype(np.float64).T, strict=True))
    plain = of["deviation"] < PLAIN_BELOW
    dark = ~plain & (of["brightest"] < DARK_BELOW) & _is_low(of["brightest"])
    bright = ~plain & (of["darkest"] > BRIGHT_ABOVE) & _is_low(-of["darkest"])
    shares = np.minimum(of["height"], of["width"]) / np.maximum(of["height"], of["width"])
    is_odd = (shares < ODD_BELOW) & _is_low(np.log(shares))
    sides, limit = np.sqrt(of["height"] * of["width"]), TINY_BELOW * math.sqrt(math.prod(size))
    tiny = ~is_odd & (sides < limit) & _is_low(np.log(sides))
    blurred, blur = _blurred(of["detail"], plain | dark | bright | tiny)
    found = {
        PLAIN: (plain, 1 - of["deviation"] / 255),
        DARK: (dark, 1 - of["brightest"] / 255),
        BRIGHT: (bright, of["darkest"] / 255),
        BLURRED: (blurred, blur),
        TINY: (tiny, 1 - sides / limit),
        ODD_SHAPE: (is_odd, 1 - shares),
    }
    for kind, (is_poor, scores) in found.items():
        yield Poor(kind, known[is_poor], scores[is_poor])


def _blurred(detail: np.ndarray, is_else: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which images have little detail, and how blurred each is, 0 to 1.

    Args:
        detail: (N,) of the images.
        is_else: (N,) bool, which of them have little for another reason.
    """
    if is_else.all():
        return ~is_else, np.zeros(len(detail))
    usual = max(np.median(detail[~is_else]), 1e-6)
    is_low = _is_low(np.log(np.maximum(detail, 1e-3)))
    return ~is_else & (detail < BLURRED_BELOW * usual) & is_low, 1 - detail / usual


def _is_low(values: np.ndarray) -> np.ndarray:
    """Which values are below the lower fence of a box plot (Tukey, "Exploratory Data Analysis", 1977)."""
    low, high = np.quantile(values, (0.25, 0.75))
    is_low: np.ndarray = values < low - FENCE * (high - low)
    return is_low

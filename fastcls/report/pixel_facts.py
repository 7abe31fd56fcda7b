"""What a report tells of the sizes and the brightness of the images, and which are poor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastcls.data.pixel_quality import COLUMNS
from fastcls.evaluation.poor_pixels import KINDS
from fastcls.report.material import Material
from fastcls.wording import count_of

_BARS = 32


@dataclass(frozen=True)
class Bars:
    """How a figure of the images is distributed.

    Attributes:
        name: Of the figure.
        heights: Of each bar, 0 to 1; the bars divide the range evenly.
        low: Where the first one begins, as text.
        median: As text.
        high: Where the last one ends, as text.
    """

    name: str
    heights: tuple[float, ...]
    low: str
    median: str
    high: str


def distributions(material: Material) -> list[Bars]:
    """Of the images of which the cache knows them."""
    of = _measured(material)
    if not len(of["mean"]):
        return []
    sides = np.sqrt(of["height"] * of["width"])
    return [
        _bars("Size (side of a square of that area, in pixels)", sides, sides.min(), sides.max()),
        _bars("Brightness (mean gray level)", of["mean"], 0, 255),
    ]


def _bars(name: str, values: np.ndarray, low: float, high: float) -> Bars:
    counts, edges = np.histogram(values, _BARS, (low, high))
    ends = (edges[0], np.median(values), edges[-1])
    return Bars(name, tuple((counts / counts.max()).round(3).tolist()), *(f"{value:,.0f}" for value in ends))


def poor_kinds(material: Material) -> list[tuple[str, str, str]]:
    """The kinds of poor images that there are: the kind, a title, and what it means."""
    counts = material.suspects.poor_counts
    return [
        (kind, kind.replace("_", " ").capitalize(), f"{count_of(counts[kind], 'image')}: {meaning}.")
        for kind, meaning in KINDS.items()
        if counts.get(kind)
    ]


def unmeasured(material: Material) -> int:
    """Of how many images the cache does not know the quality of their pixels."""
    return 0 if material.features is None else len(material.features) - len(_measured(material)["mean"])


def _measured(material: Material) -> dict[str, np.ndarray]:
    quality = np.empty((0, len(COLUMNS))) if material.features is None else material.features.quality
    known = quality[~np.isnan(quality).any(axis=1)]
    return dict(zip(COLUMNS, known.astype(np.float64).T, strict=True))

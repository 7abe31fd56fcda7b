"""What the scripts of a page read: columns of the images that it shows, and tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastcls.report.collection import SPLITS
from fastcls.report.counts import COUNTS, OWN
from fastcls.report.material import Material
from fastcls.report.projection import Points
from fastcls.report.selection import Selection
from fastcls.report.suspects import Suspect
from fastcls.report.tested import Table, TestResult
from fastcls.specs import step_of

_TOP = 5  # classes of an image whose probabilities are told
_CURVE_POINTS = 400


def payload(
    material: Material, selection: Selection, thumbnails: Sequence[str], points: Points
) -> dict[str, Any]:
    """All that the scripts of a page need, as JSON can hold it.

    Args:
        material: What the report is made of.
        selection: The images that it shows.
        thumbnails: Of these images.
        points: Places of these images on planes, by the name of the method.
    """
    result = material.result
    return {
        "classes": material.class_names,
        "splits": SPLITS,
        "images": {**_images(material, selection), "thumbnail": thumbnails},
        "points": points,
        "confusion": COUNTS[material.run.task](result, len(material.class_names)) if result else None,
        "thresholds": _thinned(result.thresholds) if result else {},
        "own": OWN[material.run.task](result, len(material.class_names)) if result else {},
        "own_thresholds": material.run.record.get("thresholds") or [],
        "reliability": result.reliability if result else {},
        "history": _history(material),
        "suspects": {
            name: _suspects(getattr(material.suspects, name), selection)
            for name in ("labels", "duplicates", "outliers", "poor")
        },
    }


def _images(material: Material, selection: Selection) -> dict[str, list[Any]]:
    images, result = material.images, material.result
    page_of = _page_places(selection)
    columns: dict[str, list[Any]] = {
        "path": [images.paths[place] for place in selection.places],
        "label": [images.labels[place] for place in selection.places],
        "split": [SPLITS.index(images.splits[place]) for place in selection.places],
        "near": [
            [[page_of[other], round(cosine, 3)] for other, cosine in selection.neighbors.get(int(place), ())]
            for place in selection.places
        ],
    }
    for name in ("predicted", "confidence", "correct", "top"):
        columns[name] = [None] * len(selection.places)
    if result:
        correct = result.correct
        for page, place in enumerate(selection.places.tolist()):
            if place < images.tested:
                columns["predicted"][page] = result.predicted[place]
                columns["confidence"][page] = _rounded(result.confidence[place])
                columns["correct"][page] = bool(correct[place])
                columns["top"][page] = _top(result, place)
    return columns


def _page_places(selection: Selection) -> dict[int, int]:
    return {place: page for page, place in enumerate(selection.places.tolist())}


def _top(result: TestResult, place: int) -> list[list[float]] | None:
    if result.probabilities is None:
        return None
    row = result.probabilities[place]
    return [[label, round(float(row[label]), 4)] for label in np.argsort(-row, kind="stable")[:_TOP].tolist()]


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)


def _thinned(table: Table) -> Table:
    rows = len(next(iter(table.values()), ()))
    places = np.unique(np.linspace(0, rows - 1, min(rows, _CURVE_POINTS)).round().astype(int)).tolist()
    return {name: [values[place] for place in places] for name, values in table.items()}


def _history(material: Material) -> dict[str, Any]:
    rows = material.run.history()
    if len(rows) < 2:
        return {}
    step = step_of(rows[0]).name
    return {"step": step, "rows": [dict(row) for row in rows]}


def _suspects(suspects: Sequence[Suspect], selection: Selection) -> list[dict[str, Any]]:
    page_of = _page_places(selection)
    return [
        {
            "image": page_of[each.place],
            "other": page_of.get(each.other, -1),
            "kind": each.kind,
            "score": round(each.score, 3),
            "given": each.given,
            "suggested": each.suggested,
        }
        for each in suspects
        if each.place in page_of
    ]

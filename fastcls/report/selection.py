"""Which images a page shows: all of a small data set, of a large one those that matter and a sample."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fastcls.report.material import Material
from fastcls.report.neighbors import nearest
from fastcls.used_images import REFIT, TRAIN

LARGEST = 6000  # images of a page
_NEIGHBORS = 5
_COMPARED = 2000  # images whose nearest training images are looked for

Neighbors = dict[int, list[tuple[int, float]]]


@dataclass(frozen=True, eq=False)
class Selection:
    """The images of a page.

    Attributes:
        places: (M,) int, places in the collection: the mistakes first, the most confident ones before others.
        neighbors: The five nearest training images of a tested one, with their cosines, by places.
        total: How many images there are.
    """

    places: np.ndarray
    total: int
    neighbors: Neighbors = field(default_factory=dict)


def select(material: Material, largest: int = LARGEST) -> Selection:
    """Choose the images of a page, in the order of their importance."""
    mistakes, right = _tested(material)
    suspects = [p for each in material.suspects.all for p in (each.place, each.other) if p >= 0]
    near = _neighbors(material, [*mistakes, *right][:_COMPARED])
    random = np.random.default_rng(0)
    rest = random.permutation(np.arange(material.images.tested, len(material.images))).tolist()
    first = [*mistakes, *suspects, *_neighbors_of(near, mistakes), *random.permutation(right).tolist(), *rest]
    places = np.array([*dict.fromkeys(first)][:largest], np.int64)
    shown = {*places.tolist()}
    kept = {
        place: [pair for pair in pairs if pair[0] in shown] for place, pairs in near.items() if place in shown
    }
    return Selection(places, len(material.images), kept)


def _tested(material: Material) -> tuple[list[int], list[int]]:
    """Places of the mistakes, the most confident first, and of the other tested images, the least first."""
    if material.result is None:
        return [], []
    confidence = np.nan_to_num(material.result.confidence)
    wrong, right = np.flatnonzero(~material.result.correct), np.flatnonzero(material.result.correct)
    wrong = wrong[np.argsort(-confidence[wrong], kind="stable")]
    return wrong.tolist(), right[np.argsort(confidence[right], kind="stable")].tolist()


def _neighbors(material: Material, places: list[int]) -> Neighbors:
    features, images = material.features, material.images
    places = [place for place in places if images.rows[place] >= 0]
    if features is None or not places:
        return {}
    trained = np.flatnonzero(np.isin(features.uses or [""], (TRAIN, REFIT)))
    if not len(trained):
        return {}
    found, cosines = nearest(features.rows[images.rows[places]], features.rows[trained], _NEIGHBORS + 1)
    place_of = images.place_of_row
    return {
        place: [
            (place_of[row], float(cosine))
            for row, cosine in zip(trained[own].tolist(), near, strict=True)
            if place_of[row] != place
        ][:_NEIGHBORS]
        for place, own, near in zip(places, found, cosines, strict=True)
    }


def _neighbors_of(near: Neighbors, places: list[int]) -> list[int]:
    return [other for place in places for other, _ in near.get(place, ())]

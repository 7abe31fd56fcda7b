"""How much of the evidence a map has found: deletion and insertion (Petsiuk et al., "RISE", 2018).

    python scripts/explain_curves.py RUN DATA [--images 100] [--layer NAME]

DATA is a folder of images. Pixels are taken out of each image (made gray), or put into a blurred copy, 5 %
at a time, the brightest of the map first; what counts is the mean probability of the class that the whole
image is predicted to have. A good map has a low mean when pixels go (deletion) and a high one when they come
(insertion). Beside the maps of each method: random maps that are as coarse, and the distance from the
center, as photographers put things there. In brackets: 95 % intervals of the mean over the images.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from fastcls.data.decoder import read_image
from fastcls.extraction.fidelity import evenly_spaced
from fastcls.inference.classifier import Classifier
from fastcls.inference.explainer import Explainer
from fastcls.inference.inputs import each
from fastcls.specs import METHODS, ExplainSpec

GRAY = 128
HEADER = "| map | deletion (lower is better) | insertion (higher is better) |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--layer")
    asked = parser.parse_args()
    paths = [Path(str(path)) for path in each(asked.data)]
    chosen = [paths[place] for place in evenly_spaced(len(paths), asked.images)]
    print(HEADER, "|---" * 3 + "|", sep="\n")
    for name, areas in measure(Classifier.load(asked.run), chosen, asked.layer).items():
        print(f"| {name} | {' | '.join(map(in_words, areas.T))} |")


def measure(
    classifier: Classifier, paths: list[Path], layer: str | None = None, steps: int = 20
) -> dict[str, np.ndarray]:
    """Areas under the curves of deletion and insertion, by what gave the map.

    Returns:
        {name: (images, 2) float64}.
    """
    random = np.random.default_rng(0)
    areas: dict[str, np.ndarray] = {}
    for method in METHODS:
        explainer = Explainer(classifier, ExplainSpec(method=method, layer=layer, top_k=1))
        shape = explainer.network.shape[:2]
        found = [one for one in explainer.stream(paths) if not one.reason]
        labels = [classifier.class_names.index(one.class_names[0]) for one in found]
        images = [read_image(one.path, classifier.size) for one in found if one.path]
        maps = {method: [one.maps[0] for one in found]}
        if not areas:
            maps["random"] = [_spread(random.random(shape), classifier.size) for _ in found]
            maps["center"] = [_center(classifier.size)] * len(found)
        for name, of_images in maps.items():
            triples = zip(images, of_images, labels, strict=True)
            areas[name] = np.array([list(_areas(classifier, *triple, steps)) for triple in triples])
    return areas


def _areas(
    classifier: Classifier, image: np.ndarray, heat: np.ndarray, label: int, steps: int
) -> Iterator[float]:
    gray, blurred = np.full_like(image, GRAY), cv2.GaussianBlur(image, (0, 0), 10)
    order = np.argsort(-heat, axis=None, kind="stable")
    for start, end in ((image, gray), (blurred, image)):
        images = np.stack(list(_steps(start, end, np.array_split(order, steps))))
        probabilities = classifier.predict(images, batch_size=len(images)).probabilities[:, label]
        yield float(np.trapezoid(probabilities, dx=1 / steps))


def _steps(start: np.ndarray, end: np.ndarray, parts: list[np.ndarray]) -> Iterator[np.ndarray]:
    """An image becoming another, one part of its pixels after the other."""
    flat, other = start.reshape(-1, 3).copy(), end.reshape(-1, 3)
    for part in (np.empty(0, int), *parts):
        flat[part] = other[part]
        yield flat.reshape(start.shape).copy()


def _spread(heat: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return cv2.resize(heat, size[::-1], interpolation=cv2.INTER_LINEAR)


def _center(size: tuple[int, int]) -> np.ndarray:
    down, across = (np.linspace(-1, 1, side) for side in size)
    return -(down[:, None] ** 2 + across[None] ** 2)


def in_words(areas: np.ndarray) -> str:
    """A mean with its interval."""
    half = 1.96 * areas.std(ddof=1) / len(areas) ** 0.5 if len(areas) > 1 else 0
    return f"{areas.mean():.3f} [{areas.mean() - half:.3f}, {areas.mean() + half:.3f}]"


if __name__ == "__main__":
    main()

"""The bottlenecks of images on a plane: by principal components, and by t-SNE where they are few."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypedDict

import numpy as np

from fastcls import files
from fastcls.records import Rule, made

FILE = "map.json"  # in a run: t-SNE takes seconds
LARGEST_TSNE = 2500  # images
LEAST = 5  # images that a map is drawn of
_COMPONENTS = 50
# In place of 1000 and 0.5, in a third of the time. Of 1,000 photos the trustworthiness (10 neighbors) is then
# 0.943 in place of 0.944.
_ITERATIONS, _ANGLE = 500, 0.8
Points = dict[str, list[list[float]]]


class _Kept(TypedDict):
    key: str
    points: dict[str, list[Annotated[list[float], Rule("a list of 2", lambda place: len(place) == 2)]]]


def project(rows: np.ndarray, digests: Sequence[str], run: Path) -> Points:
    """Places of images on a plane, from 0 to 1; computed once and kept in the run.

    The bottlenecks are normalized to length 1 first, so that directions count.

    Args:
        rows: (N, D) float32.
        digests: The identities of the N images.
        run: The run folder.

    Returns:
        "PCA", and "t-SNE" of at most `LARGEST_TSNE` images: [x, y] of each. Empty of fewer than `LEAST`.
    """
    if len(rows) < LEAST:
        return {}
    # In an order of their own: another test shows the same images in another order.
    order = np.argsort(np.asarray(digests), kind="stable")
    ordered = np.ascontiguousarray(rows[order])
    key = files.json_digest([np.asarray(digests)[order].tolist(), files.digest(ordered.tobytes())])
    points = _kept(run, key, len(rows))
    if points is None:
        points = {name: _scaled(found) for name, found in _project(ordered).items()}
        with contextlib.suppress(OSError):  # a run that is only to be read
            files.write_checked_json(run / FILE, {"key": key, "points": points})
    places = np.argsort(order).tolist()
    return {name: [found[place] for place in places] for name, found in points.items()}


def _kept(run: Path, key: str, count: int) -> Points | None:
    with contextlib.suppress(OSError, ValueError):
        kept = made(_Kept, files.read_checked_json(run / FILE))
        if kept["key"] == key and {*map(len, kept["points"].values())} == {count}:
            return kept["points"]
    return None


def _project(rows: np.ndarray) -> dict[str, np.ndarray]:
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    normalized = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    components = min(_COMPONENTS, *normalized.shape)
    reduced = PCA(components, svd_solver="randomized", random_state=0).fit_transform(normalized)
    plane = np.pad(reduced, [(0, 0), (0, 2)])[:, :2]
    if len(rows) > LARGEST_TSNE:
        return {"PCA": plane}
    if components < 2 or np.ptp(reduced) < 1e-6:  # images that are all the same have no neighbors
        return {"PCA": plane}
    perplexity = min(30.0, (len(rows) - 1) / 3)  # its default, unless there are few images
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=0, max_iter=_ITERATIONS, angle=_ANGLE)
    with threadpool_limits(1):  # on a busy machine its threads wait for each other: 54 s in place of 3
        return {"PCA": plane, "t-SNE": tsne.fit_transform(reduced)}


def _scaled(plane: np.ndarray) -> list[list[float]]:
    """Places in a square of side 1, both axes by the same factor."""
    low, high = plane.min(axis=0), plane.max(axis=0)
    side = max(float((high - low).max()), 1e-12)
    scaled: list[list[float]] = np.round(0.5 + (plane - (low + high) / 2) / side, 4).astype(float).tolist()
    return scaled

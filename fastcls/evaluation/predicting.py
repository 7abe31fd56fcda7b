"""The probabilities of the images of a test: from the cache of a run as far as it goes, else forwarded."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from fastcls.data.dataset import Dataset
from fastcls.evaluation.from_cache import CachedRun
from fastcls.evaluation.parity import Parity, choose, compare
from fastcls.evaluation.tested_on import FORWARDED

if TYPE_CHECKING:  # `Classifier.test` comes here
    from fastcls.inference.classifier import Classifier
    from fastcls.inference.results import ImageResult

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Forwarding:
    """How a classifier forwards images.

    Attributes:
        classifier: What it is.
        batch_size: Images per forward pass.
        max_pixels: See `Classifier.predict`.
        progress: Show a bar on stderr.
    """

    classifier: Classifier
    batch_size: int = 16
    max_pixels: int | None = None
    progress: bool = False

    def run(self, paths: Sequence[Path], *, progress: bool = False) -> list[ImageResult]:
        """What the classifier says of image files."""
        stream = self.classifier.stream(paths, batch_size=self.batch_size, max_pixels=self.max_pixels)
        shown = self.progress and progress
        return list(tqdm(stream, total=len(paths), unit="image", desc="test", disable=not shown))


@dataclass(frozen=True)
class Predicted:
    """What is said of N images.

    Attributes:
        probabilities: (N, C) float32; NaN in the rows of unreadable images.
        unreadable: The results of these.
        features: See `TestedOn`, as for the others.
        cached: How many.
        parity: The comparison.
        unfamiliarity: (N,) how unlike the training images they are, above 1 where they are unfamiliar, NaN of
            unreadable ones; None where that is not known.
    """

    probabilities: np.ndarray
    unreadable: tuple[ImageResult, ...]
    features: str = FORWARDED
    cached: int = 0
    parity: Parity | None = None
    unfamiliarity: np.ndarray | None = None

    @property
    def unfamiliar(self) -> int | None:
        """How many are unlike the training images."""
        return None if self.unfamiliarity is None else int((self.unfamiliarity > 1).sum())

    @property
    def readable(self) -> list[int]:
        """Places of the images with a prediction."""
        gone = {result.index for result in self.unreadable}
        return [place for place in range(len(self.probabilities)) if place not in gone]

    @property
    def told(self) -> dict[str, Any]:
        """What `TestedOn` says of it."""
        own = {name: getattr(self, name) for name in ("features", "cached", "parity", "unfamiliar")}
        return {**own, "unreadable": len(self.unreadable)}


def predict(
    tested: Dataset,
    labels: np.ndarray,
    digests: Sequence[str],
    source: CachedRun | None,
    how: Forwarding,
    *,
    gone: np.ndarray,
) -> Predicted:
    """Predict the images of a data set.

    Args:
        tested: The images.
        labels: Their label array.
        digests: Their identities.
        source: Where their bottlenecks may be.
        how: How the others are forwarded.
        gone: (N,) bool, images that cannot be read, while the cache may have them: they are not checked.
    """
    paths = [tested.locate(sample) for sample in tested.samples]
    rows = np.full((len(paths), len(how.classifier.class_names)), np.nan, np.float32)
    parity = None
    if source:
        rows = source.probabilities(digests, converts=how.classifier.is_of_file, skips_damage=True)
        there = np.flatnonzero(_present(rows) & ~gone)
        parity = _check(there, rows, labels, paths, source, how)
        if not (parity.holds if parity else _present(rows)[gone].any()):
            rows[:] = np.nan
    is_cached = _present(rows)
    cached = int(is_cached.sum())
    forwarded = _forward_others(rows, paths, how)
    features = source.features if source and cached else FORWARDED
    unreadable = tuple(result for result in forwarded if result.probabilities is None)
    scores = None
    if familiarity := how.classifier.familiarity:
        scores = np.full(len(paths), np.nan, np.float32)
        if source:
            known = [digest for digest, is_there in zip(digests, is_cached, strict=True) if is_there]
            scores[is_cached] = source.unfamiliarity(known, familiarity)
        for result in forwarded:
            scores[result.index] = np.nan if result.unfamiliarity is None else result.unfamiliarity
    return Predicted(rows, unreadable, features, cached, parity, scores)


def _check(
    present: np.ndarray,
    rows: np.ndarray,
    labels: np.ndarray,
    paths: Sequence[Path],
    source: CachedRun,
    how: Forwarding,
) -> Parity | None:
    """Compare some of the rows with what the classifier says of the images; None where there are none."""
    known = how.classifier
    if not len(present):
        return None
    known.keep()
    chosen = present[choose(labels[present], rows[present], known.task, known.thresholds)]
    found = [result.probabilities for result in how.run([paths[place] for place in chosen])]
    forwarded = {place: row for place, row in zip(chosen.tolist(), found, strict=True) if row is not None}
    if not forwarded:
        return None
    both = rows[[*forwarded]], np.stack([*forwarded.values()])
    parity = compare(*both, known.task, known.thresholds, source.types)
    if not parity.holds:
        logger.warning(
            "The bottlenecks in %s do not give what the classifier says: %s. All images are forwarded; train "
            "the head again if it should be of this cache",
            source.cache.folder,
            parity.broken,
        )
    return parity


def _forward_others(rows: np.ndarray, paths: Sequence[Path], how: Forwarding) -> list[ImageResult]:
    """Fill in the rows that are missing; returns the results of their images."""
    missing = np.flatnonzero(~_present(rows)).tolist()
    if not missing:
        return []
    found = how.run([paths[place] for place in missing], progress=True)
    results = [replace(result, index=place) for place, result in zip(missing, found, strict=True)]
    for result in results:
        if result.probabilities is not None:
            rows[result.index] = result.probabilities
    return results


def _present(rows: np.ndarray) -> np.ndarray:
    present: np.ndarray = np.isfinite(rows).all(axis=1)
    return present

"""The images of a report: those that were tested, and those of the data set in the cache."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastcls.data import image_bytes
from fastcls.evaluation.features import Features
from fastcls.parallel import spread
from fastcls.report.tested import TestResult
from fastcls.storage.paths import as_place
from fastcls.used_images import EARLIER, REFIT

TEST = "test"
SPLITS = ("train", "val", TEST, "other")
# A split by the part that an image had in the run.
_BY_USE = {REFIT: "val", EARLIER: "other"}


@dataclass(frozen=True, eq=False)
class Collection:
    """The images of a report, those that were tested first.

    Attributes:
        paths: As their data set has them.
        files: Where they are.
        labels: Indices of the classes of each.
        splits: One of `SPLITS` for each: the part that it had in the run, or else "test" or "other".
        tested: How many were tested; their places are 0 to `tested` - 1, as in the test.
        rows: (N,) int, places in the features; -1 of an image that is not in the cache.
    """

    paths: tuple[str, ...]
    files: tuple[Path, ...]
    labels: tuple[tuple[int, ...], ...]
    splits: tuple[str, ...]
    tested: int
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def place_of_row(self) -> dict[int, int]:
        """Where an image of the features is here."""
        return {int(row): place for place, row in enumerate(self.rows) if row >= 0}


def collect(class_names: Sequence[str], result: TestResult | None, features: Features | None) -> Collection:
    """All images that are known of a run.

    Args:
        class_names: Of the run.
        result: A test of it.
        features: Its rows in the cache.
    """
    index = {name: label for label, name in enumerate(class_names)}
    tested = () if result is None else result.paths
    rows = _rows_of_tested(result, features)
    known = {*rows}
    others = [] if features is None else [row for row in range(len(features)) if row not in known]
    paths, files = [*tested], [_file(result.root, path) for path in tested] if result else []
    labels = [*result.labels] if result else []
    splits = [_split(features, row, TEST) if features and row >= 0 else TEST for row in rows]
    if features is not None:
        paths += [features.paths[row] for row in others]
        files += [_file(features.root, features.paths[row]) for row in others]
        labels += [tuple(index[name] for name in features.names[row] if name in index) for row in others]
        splits += [_split(features, row, "other") for row in others]
    return Collection(
        *(tuple(paths), tuple(files), tuple(labels), tuple(splits), len(tested)),
        rows=np.array([*rows, *others], np.int64),
    )


def _file(root: str, path: str) -> Path:
    return as_place(image_bytes.located(root, path))


def _split(features: Features, row: int, otherwise: str) -> str:
    use = features.uses[row] if features.uses else ""
    return _BY_USE.get(use, use) or otherwise


def _rows_of_tested(result: TestResult | None, features: Features | None) -> list[int]:
    """The place of each tested image in the features: by path in the same folder, else by its bytes."""
    if result is None or features is None:
        return [-1] * len(result.paths if result else ())
    if os.path.normpath(result.root) == os.path.normpath(features.root):
        by_path = {path: row for row, path in enumerate(features.paths)}
        return [by_path.get(path, -1) for path in result.paths]
    by_digest = {digest: row for row, digest in enumerate(features.digests.tolist())}
    digests = spread(image_bytes.digest_or_blank, [_file(result.root, path) for path in result.paths])
    return _once([by_digest.get(digest, -1) for digest in digests])


def _once(rows: list[int]) -> list[int]:
    """The same places, but none of them twice."""
    seen: set[int] = set()
    return [-1 if row in seen or seen.add(row) else row for row in rows]  # type: ignore[func-returns-value]

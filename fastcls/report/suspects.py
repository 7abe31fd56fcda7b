"""What an audit doubts, as pairs of pictures."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from fastcls.errors import FastclsError
from fastcls.evaluation import poor_pixels
from fastcls.evaluation.auditing import (
    CONFLICT,
    DUPLICATE,
    NEAR_DUPLICATE,
    OUTLIER,
    UNLIKE_TRAINING,
    Issue,
    audit,
)
from fastcls.evaluation.features import Features
from fastcls.report.collection import Collection
from fastcls.report.neighbors import nearest

logger = logging.getLogger(__name__)
_LARGEST = 300  # of each sort, on a page


@dataclass(frozen=True)
class Suspect:
    """An image that something is the matter with, and one to compare it with.

    Attributes:
        place: In the collection.
        kind: One of `evaluation.auditing.KINDS`.
        score: How certain that is.
        given: Names of its classes.
        suggested: Names of the likelier ones.
        other: Place of the image to compare it with; -1 without one.
    """

    place: int
    kind: str
    score: float
    given: tuple[str, ...]
    suggested: tuple[str, ...] = ()
    other: int = -1


@dataclass(frozen=True)
class Suspects:
    """What an audit doubts.

    Attributes:
        labels: Images whose label may be wrong, beside the nearest one that has the suggested classes.
        duplicates: Images in different splits that are nearly the same.
        outliers: Images unlike those trained on.
        counts: How many there are of each, also where fewer are held here.
        poor: Images whose pixels are poor, by kind.
        poor_counts: How many there are of each such kind.
        unjudged: Why likely label errors were not looked for, a sentence; "" where they were.
    """

    labels: tuple[Suspect, ...] = ()
    duplicates: tuple[Suspect, ...] = ()
    outliers: tuple[Suspect, ...] = ()
    counts: tuple[int, int, int] = (0, 0, 0)
    poor: tuple[Suspect, ...] = ()
    poor_counts: Mapping[str, int] = field(default_factory=dict)
    unjudged: str = ""

    @property
    def all(self) -> tuple[Suspect, ...]:
        """All that are held."""
        return self.labels + self.duplicates + self.outliers + self.poor


def find_suspects(features: Features | None, images: Collection) -> Suspects:
    """Audit the data set of a run.

    Args:
        features: Its rows; None where the cache is gone.
        images: The images of the report.
    """
    if features is None:
        return Suspects()
    try:
        audited = audit(features)
    except FastclsError as error:
        logger.warning("The audit found nothing: %s", error)
        return Suspects()
    issues = audited.issues
    labels = [issue for issue in issues if issue.kind == CONFLICT or "label" in issue.kind]
    duplicates = [i for i in issues if i.kind in (DUPLICATE, NEAR_DUPLICATE) and i.is_across]
    outliers = [issue for issue in issues if issue.kind in (OUTLIER, UNLIKE_TRAINING)]
    labels.sort(key=lambda issue: -issue.score)
    outliers.sort(key=lambda issue: -issue.score)
    poor = [issue for issue in issues if issue.kind in poor_pixels.KINDS]
    counts = (len(labels), len(duplicates), len(outliers))
    held = [_suspects(own[:_LARGEST], features, images) for own in (labels, duplicates, outliers)]
    of_each = [[issue for issue in poor if issue.kind == kind] for kind in poor_pixels.KINDS]
    shown = [each for own in of_each for each in _suspects(own[:_LARGEST], features, images)]
    poor_counts = Counter(issue.kind for issue in poor)
    return Suspects(held[0], held[1], held[2], counts, tuple(shown), poor_counts, audited.unjudged)


def _suspects(issues: Sequence[Issue], features: Features, images: Collection) -> tuple[Suspect, ...]:
    rows = {path: row for row, path in enumerate(features.paths)}
    place_of = images.place_of_row
    found = []
    for issue in issues:
        row = rows[issue.path]
        other = rows[issue.other] if issue.other else _example(features, row, issue.suggested)
        known = place_of[row], issue.kind, issue.score, issue.given, issue.suggested
        found.append(Suspect(*known, place_of.get(other, -1)))
    return tuple(found)


def _example(features: Features, row: int, suggested: Iterable[str]) -> int:
    """The nearest other image with the suggested classes; -1 where there is none."""
    wanted = tuple(sorted(suggested))
    same = [place for place, names in enumerate(features.names) if names == wanted and place != row]
    if not wanted or not same:
        return -1
    found, _ = nearest(features.rows[row : row + 1], features.rows[same], 1)
    return same[int(found[0, 0])]

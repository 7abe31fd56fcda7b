"""What is doubtful about the images and labels of a data set, found in its features alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcls.cache.store import Cache
from fastcls.evaluation import poor_pixels
from fastcls.evaluation.features import Features
from fastcls.evaluation.label_errors import SUSPECTS
from fastcls.evaluation.neighbors import NEIGHBORS, Neighbors, find_neighbors, shorten
from fastcls.files import PathLike
from fastcls.machine import available_memory
from fastcls.training.heads.links import LINKS
from fastcls.training.out_of_fold import out_of_fold
from fastcls.wording import count_of

CONFLICT, DUPLICATE, NEAR_DUPLICATE = "conflict", "duplicate", "near_duplicate"
OUTLIER, UNLIKE_TRAINING = "outlier", "unlike_training"
# In the order in which they are told.
KINDS = {
    CONFLICT: "one photo under different labels",
    "label_error": "likely another label",
    "missing_label": "likely lacks a label",
    "superfluous_label": "likely has a label too many",
    DUPLICATE: "identical files",
    NEAR_DUPLICATE: "nearly the same photo",
    UNLIKE_TRAINING: "unlike the images to train on",
    OUTLIER: "unlike the other images",
    **poor_pixels.KINDS,
}
# docs/audit.md has what others find.
TEMPERATURE = 0.07
RATIO = 0.5
DEVIATIONS = 3.0
_DENSEST = 0.99
# Rows x features x classes, beyond which the neighbors alone say what is likely: the regressions take minutes
# there, and more of them where classes are many than where images are.
_LARGEST_FIT = 2_000_000_000
# Bytes for each image and class, and for each pair of classes, at the peak.
_BYTES_PER_CLASS, _BYTES_PER_PAIR = 24, 16


@dataclass(frozen=True)
class Issue:
    """What is doubtful about an image.

    Attributes:
        path: POSIX path relative to the root of the data set.
        kind: One of `KINDS`.
        score: 0 to 1; within a kind, higher is more certain.
        given: Names of its classes.
        suggested: Names of the classes that are likelier; () where there is nothing to suggest.
        other: Path of the other image of a pair; "" where there is none.
        split: Of the image.
        other_split: Of the other image.
        digest: The image's identity.
    """

    path: str
    kind: str
    score: float
    given: tuple[str, ...]
    suggested: tuple[str, ...] = ()
    other: str = ""
    split: str = ""
    other_split: str = ""
    digest: str = ""

    @property
    def is_across(self) -> bool:
        """Whether it is a pair of which one is trained on, and the other judges that."""
        return bool(self.other) and self.split != self.other_split


@dataclass(frozen=True, eq=False)
class Audit:
    """What is doubtful about a data set.

    Attributes:
        issues: By kind, the most certain first; pairs across splits before others.
        features: What was looked at.
        label_scores: (N,) float32, how likely the label of each of these images is wrong; NaN where that is
            not known.
        unjudged: Why likely label errors were not looked for, a sentence; "" where they were.
    """

    issues: tuple[Issue, ...]
    features: Features
    label_scores: np.ndarray
    unjudged: str = ""

    @property
    def unmeasured(self) -> int:
        """Of how many images the cache does not know the quality of their pixels."""
        return int(np.isnan(self.features.quality).any(axis=1).sum())

    @property
    def counts(self) -> dict[str, int]:
        """How many issues there are of each kind."""
        found = Counter(issue.kind for issue in self.issues)
        return {kind: found[kind] for kind in KINDS if found[kind]}

    def to_dict(self) -> dict[str, Any]:
        """What was found, in numbers."""
        features = self.features
        return {
            "data": features.name,
            "root": features.root,
            "images": len(features),
            "classes": len(features.class_names),
            "task": features.task.name,
            "unreadable": len(features.failures),
            "missing": features.missing,
            "unmeasured": self.unmeasured,
            "unjudged": self.unjudged,
            "issues": self.counts,
            "across_splits": sum(issue.is_across for issue in self.issues),
            "settings": {"neighbors": NEIGHBORS, "near_duplicate_ratio": RATIO, "deviations": DEVIATIONS},
        }


def audit(data: Features | Cache | PathLike, name: str | None = None) -> Audit:
    """Look for likely label errors, duplicates, outliers and poor images; no image is read.

    Args:
        data: The features, or the cache that they are in.
        name: The data set in the cache; None for the only one.

    Raises:
        CacheError: As `Features.of`.
    """
    features = data if isinstance(data, Features) else Features.of(data, name)
    _, first = np.unique(features.digests, return_index=True)
    first.sort()
    unique = features if len(first) == len(features) else features.take(first)
    short = shorten(unique.rows)
    near = find_neighbors(unique.rows, short)
    unjudged = _unjudged(unique)
    probabilities = None if unjudged else _probabilities(unique, short, near)
    scores = np.full(len(features), np.nan, np.float32)
    issues = []
    if probabilities is not None:
        suspects = SUSPECTS[features.task](probabilities, unique.labels, features.class_names)
        scores[first] = suspects.scores
        issues += [
            _issue(unique, place, kind, suspects.scores[place], suggested=suspects.suggested[place])
            for place, kind in suspects.kinds.items()
        ]
    issues += [*_copies(features, unique, probabilities), *_near_duplicates(unique, near)]
    issues += [*_outliers(unique, short, near), *_poor(unique)]
    kinds = [*KINDS]
    issues.sort(key=lambda each: (kinds.index(each.kind), not each.is_across, -each.score, each.path))
    return Audit(tuple(issues), features, scores, unjudged)


def _unjudged(features: Features) -> str:
    """Why the label of an image cannot be weighed against all classes; "" where it can."""
    images, classes = len(features), len(features.class_names)
    needed, room = classes * (images * _BYTES_PER_CLASS + classes * _BYTES_PER_PAIR), available_memory() // 2
    if needed <= room:
        return ""
    return (
        f"Likely label errors were not looked for: {images:,} images of {classes:,} classes take "
        f"{needed / 2**30:.1f} GiB, more than the {room / 2**30:.1f} GiB that may be used."
    )


def _probabilities(features: Features, short: np.ndarray, near: Neighbors) -> np.ndarray | None:
    """What a head that was not fitted on an image, and its neighbors, say of it: the mean of both, (N, C)."""
    classes = len(features.class_names)
    if classes < 2 or near.places.shape[1] < 1:
        return None
    votes = near.vote(LINKS[features.task].targets(features.labels, classes), TEMPERATURE)
    if short.size * classes > _LARGEST_FIT:
        return votes
    held = out_of_fold(
        features.rows if short.shape == features.rows.shape else short,
        features.labels,
        features.task,
        classes,
        groups=features.groups,
    )
    return (held.probabilities + votes) / 2


def _issue(features: Features, place: int, kind: str, score: float, **more: Any) -> Issue:
    return Issue(
        features.paths[place],
        kind,
        round(float(np.clip(score, 0, 1)), 4),
        features.names[place],
        split=features.splits[place],
        digest=str(features.digests[place]),
        **more,
    )


def _pair(features: Features, one: int, other: int, kind: str, score: float, **more: Any) -> Issue:
    """A pair; what may be done about it is done to the image that is trained on."""
    if (features.splits[one] in ("train", ""), one) < (features.splits[other] in ("train", ""), other):
        one, other = other, one
    more |= {"other": features.paths[other], "other_split": features.splits[other]}
    return _issue(features, one, kind, score, **more)


def _copies(features: Features, unique: Features, probabilities: np.ndarray | None) -> Iterator[Issue]:
    """Identical files, each with the first of them."""
    place_of = {digest: place for place, digest in enumerate(unique.digests.tolist())}
    firsts: dict[str, int] = {}
    for place, digest in enumerate(features.digests.tolist()):
        first = firsts.setdefault(digest, place)
        if first == place:
            continue
        if features.names[first] == features.names[place]:
            yield _pair(features, place, first, DUPLICATE, 1.0)
            continue
        pair, suggested = (place, first), None
        if probabilities is not None:
            pair = _likelier_last(features, pair, probabilities[place_of[digest]])
            suggested = features.names[pair[1]]
        one, other = pair
        more = {"other": features.paths[other], "other_split": features.splits[other]}
        yield _issue(features, one, CONFLICT, 1.0, suggested=suggested or (), **more)


def _likelier_last(features: Features, places: tuple[int, int], probabilities: np.ndarray) -> tuple[int, int]:
    """Two places of an image, that whose label agrees more with its probabilities (C,) last."""
    targets = LINKS[features.task].targets(features.labels[[*places]], len(features.class_names))
    agreement = (targets * probabilities + (1 - targets) * (1 - probabilities)).sum(axis=1)
    return places if agreement[1] >= agreement[0] else places[::-1]


def _near_duplicates(features: Features, near: Neighbors) -> Iterator[Issue]:
    """Pairs that are much nearer to each other than either is to its other neighbors.

    A test by ratio, as Lowe has for keypoints ("Distinctive Image Features from Scale-Invariant Keypoints",
    2004): how similar two photos of one kind of thing are differs by data set. The last of the neighbors
    stands for the others; where very many frames are alike, what 99 of 100 images have stands for it.
    """
    if near.places.shape[1] < 2:
        return
    usual = np.minimum(near.last, np.quantile(near.last, _DENSEST))
    background = np.maximum(usual[:, None], usual[near.places])
    ratios = (1 - near.similarities) / np.maximum(1 - background, 1e-6)
    seen = set()
    for place, number in zip(*(found.tolist() for found in np.nonzero(ratios <= RATIO)), strict=True):
        other = int(near.places[place, number])
        pair = (min(place, other), max(place, other))
        if pair not in seen:
            seen.add(pair)
            yield _pair(features, *pair, NEAR_DUPLICATE, 1 - ratios[place, number])


def _outliers(features: Features, short: np.ndarray, near: Neighbors) -> Iterator[Issue]:
    """Images far from all that is trained on, by the distance of their last neighbor there.

    Sun et al., "Out-of-Distribution Detection with Deep Nearest Neighbors", 2022. Far is more than so many
    deviations above the median of the images to train on, in units of their median absolute deviation.
    """
    trained = np.flatnonzero([split in ("train", "") for split in features.splits])
    if not len(trained):
        trained = np.arange(len(features))
    if len(trained) < len(features):
        near = find_neighbors(features.rows, short, trained)
    if near.places.shape[1] < 1:
        return
    distances = 1 - near.last
    usual = np.median(distances[trained])
    spread = 1.4826 * np.median(abs(distances[trained] - usual))
    is_trained = np.zeros(len(features), bool)
    is_trained[trained] = True
    for place in np.flatnonzero(distances > usual + DEVIATIONS * max(spread, 1e-6)).tolist():
        yield _issue(features, place, OUTLIER if is_trained[place] else UNLIKE_TRAINING, distances[place])


def _poor(features: Features) -> Iterator[Issue]:
    """Images whose pixels are poor, as far as the cache knows of them."""
    for poor in poor_pixels.find_poor(features.quality, features.size):
        for place, score in zip(poor.places.tolist(), poor.scores.tolist(), strict=True):
            yield _issue(features, place, poor.kind, score)


def describe(found: Audit, worst: int = 3) -> str:
    """What an audit has found, in words: for each kind how many, and the most certain ones."""
    features = found.features
    lines = [f"{features.name}: {count_of(len(features), 'image')}, {count_of(len(found.issues), 'issue')}"]
    if features.missing or features.failures:
        lines.append(
            f"Not looked at: {features.missing:,} without a bottleneck yet, {len(features.failures):,} "
            "unreadable"
        )
    if found.unmeasured:
        lines.append(
            f"Dark, bright, blurred, tiny or odd: not known of {count_of(found.unmeasured, 'image')}, whose "
            "pixels an earlier version did not measure. Extract into a new cache to have it"
        )
    lines += filter(None, [found.unjudged])
    for kind, count in found.counts.items():
        own = [issue for issue in found.issues if issue.kind == kind]
        across = sum(issue.is_across for issue in own)
        lines.append(f"{kind}: {count:,} ({KINDS[kind]}{f'; {across:,} across splits' if across else ''})")
        lines += [f"  {_told(issue)}" for issue in own[:worst]]
    return "\n".join(lines)


def _told(issue: Issue) -> str:
    given, suggested = (", ".join(names) or "no label" for names in (issue.given, issue.suggested))
    label = f": {given}, likely {suggested}" if issue.suggested or "label" in issue.kind else ""
    other = f" and {issue.other!r}" if issue.other else ""
    return f"{issue.score:.2f} {issue.path!r}{other}{label}"

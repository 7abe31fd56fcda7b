"""Whether what the head of a run says of bottlenecks in a cache is what its classifier says of the images."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastcls.tasks import Task
from fastcls.wording import count_of

IMAGES = 32
# What storing or computing bottlenecks in a type may cost: the mean, over the compared images, of the largest
# difference of a probability; the margin of the classifier up to which another prediction is due to rounding;
# and how many other predictions there may be above that. Measured on flowers with MobileNetV2 and seven
# heads: float32 gives 0.000001, int8 up to 0.06, bfloat16 up to 0.075 and one other prediction above the
# margin. Half the range of normalization gives 0.11 to 0.2 and margins of 0.76, swapped channels or classes
# 0.16 to 0.4 and margins above 0.65.
BOUNDS = {
    "float32": (0.001, 0.01, 0),
    "float16": (0.03, 0.2, 0),
    "bfloat16": (0.1, 0.5, 1),
    "int8": (0.1, 0.5, 1),
}


@dataclass(frozen=True)
class Parity:
    """How near predictions from a cache come to those of the classifier, over some of the images.

    Attributes:
        images: How many images were forwarded to be compared.
        agreeing: How many of them have the same prediction.
        largest_difference: Of any of their probabilities.
        mean_difference: Mean over images of the largest difference of a probability.
        overturned: How many have another prediction, although the margin of the classifier is above
            `allowed_margin`.
        allowed_difference: The largest `mean_difference` that rounding explains.
        allowed_margin: The largest margin within which rounding explains another prediction: of one label the
            difference of the two most probable classes, of several labels twice the distance of a
            probability from its threshold.
        allowed_overturned: The largest `overturned` that rounding explains.
    """

    images: int
    agreeing: int
    largest_difference: float
    mean_difference: float
    overturned: int
    allowed_difference: float
    allowed_margin: float
    allowed_overturned: int

    @property
    def holds(self) -> bool:
        """Whether the predictions from the cache can stand for those of the classifier."""
        return self.overturned <= self.allowed_overturned and self.mean_difference <= self.allowed_difference

    def __str__(self) -> str:
        return (
            f"Checked on {count_of(self.images, 'image')} through the whole classifier: {self.agreeing} of "
            f"the predictions agree, probabilities differ by {self.mean_difference:.2g} on average (allowed: "
            f"{self.allowed_difference:g})"
        )

    @property
    def broken(self) -> str:
        """What of it does not hold, for a warning."""
        return (
            f"of {count_of(self.images, 'image')} {self.overturned} have clearly another prediction, and "
            f"probabilities differ by {self.mean_difference:.2g} on average (allowed are "
            f"{self.allowed_overturned} and {self.allowed_difference:g})"
        )


def choose(
    labels: np.ndarray, probabilities: np.ndarray, task: Task, thresholds: Sequence[float] | None
) -> list[int]:
    """The images to compare: half of them drawn from all classes in turn, half those of the smallest margins.

    The same ones each time. Where there are more classes than half of the images, each class has one, as long
    as there are enough.

    Args:
        labels: The label array of N images.
        probabilities: (N, C), from the cache.
        task: What is asked of an image.
        thresholds: Of the classes.

    Returns:
        Places of at most `IMAGES` of them.
    """
    random = np.random.default_rng(0)
    pools = [random.permutation(pool).tolist() for pool in task.pools(labels)]
    in_turn = (place for turn in itertools.zip_longest(*pools) for place in turn if place is not None)
    drawn = len(pools) if IMAGES // 2 < len(pools) <= IMAGES else IMAGES // 2
    chosen = list(itertools.islice(dict.fromkeys(in_turn), drawn))
    margins = task.margins(probabilities, thresholds).min(axis=1)
    nearest = np.argsort(margins, kind="stable").tolist()
    return list(dict.fromkeys([*chosen, *nearest]))[:IMAGES]


def compare(
    cached: np.ndarray,
    forwarded: np.ndarray,
    task: Task,
    thresholds: Sequence[float] | None,
    types: Sequence[str],
) -> Parity:
    """Compare probabilities from a cache with those of the classifier.

    Args:
        cached: (N, C).
        forwarded: (N, C), of the same images.
        task: What is asked of an image.
        thresholds: Of the classes.
        types: In which bottlenecks are computed and stored; the coarsest decides the bounds.
    """
    differences = np.abs(cached.astype(np.float64) - forwarded).max(axis=1)
    changed = task.decide(cached, thresholds) != task.decide(forwarded, thresholds)
    difference, margin, most = np.max([BOUNDS[name] for name in types], axis=0).tolist()
    clear = task.margins(forwarded, thresholds) > margin
    return Parity(
        images=len(cached),
        agreeing=int((~changed.any(axis=1)).sum()),
        largest_difference=float(differences.max()),
        mean_difference=float(differences.mean()),
        overturned=int((changed & clear).any(axis=1).sum()),
        allowed_difference=difference,
        allowed_margin=margin,
        allowed_overturned=int(most),
    )

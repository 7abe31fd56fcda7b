"""Whether an export does what its classifier does: statistics over images, and their bounds.

Measured on 12 classifiers with 100 photos each. Float32 conversions differ by 5.4e-6 at most, float16 by
0.028; RGB for BGR, a missing scale, transposed or mirrored images, a shift of one pixel, other statistics and
swapped classes are all above 1e-4 with 4 images. The noise of int8 overlaps them: it is reported as a loss,
and only its float32 path is proof.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fastcls.errors import ExportError
from fastcls.evaluation.parity import Parity, compare
from fastcls.tasks import Task

MAX_DIFFERENCE = 1e-4  # of the float32 path
LEAST_SPREAD = 1e-3
# Of heads that count votes, whose probabilities jump: so many images may differ by more than rounding.
_JUMPING = 0.1
_SAME_DOCUMENT = ("class_names", "task", "thresholds", "pixels")
_FLOAT32 = "float32"


@dataclass(frozen=True)
class Bounds:
    """What a precision may cost.

    Attributes:
        max_difference: Of any probability; None where it tells nothing.
        relative_error: See `Figures`.
        agreement: The least share of the same decisions; None where that tells nothing more.
        is_proof: Whether an export within them is verified by itself.
    """

    max_difference: float | None
    relative_error: float
    agreement: float | None = None
    is_proof: bool = True


BOUNDS: dict[str, Bounds | None] = {
    _FLOAT32: None,  # it is its own float32 path
    "float16": Bounds(0.1, 0.1),
    "int8": Bounds(None, 0.5, 0.85, is_proof=False),
}


@dataclass(frozen=True, eq=False)
class Reference:
    """What an export is compared with.

    Attributes:
        images: (N, H, W, 3) uint8 RGB.
        probabilities: What the stitched Keras model makes of them, (N, C) float32.
        described: What travels with the classifier, or with the export.
        task: What is asked of an image.
        bottlenecks: (N, D) at unit length, of a head that counts votes: its float32 path gives them beside
            the probabilities. None of other heads.
        cached: What the head makes of bottlenecks in the cache, (N, C); None where they are not there.
        cached_types: In which those were computed and stored.
        labels: The label array of the images; None where their classes are not known.
    """

    images: np.ndarray
    probabilities: np.ndarray
    described: Mapping[str, Any]
    task: Task
    bottlenecks: np.ndarray | None = None
    cached: np.ndarray | None = None
    cached_types: tuple[str, ...] = ()
    labels: np.ndarray | None = None

    @property
    def thresholds(self) -> Sequence[float] | None:
        """Of the classes."""
        return self.described.get("thresholds")

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """What is predicted, (N, K)."""
        return self.task.decide(probabilities, self.thresholds)


@dataclass(frozen=True)
class Figures:
    """How probabilities q of an export differ from those of its classifier, p.

    Attributes:
        images: How many there are.
        max_difference: Of any probability.
        relative_error: R = rms(q - p) / rms(p - mean over images of p).
        agreeing: How many decisions are the same: the most probable class, or whether each is predicted.
        decisions: How many there are.
        spread: rms(p - mean over images of p): what there is to tell images apart by.
    """

    images: int
    max_difference: float
    relative_error: float
    agreeing: int
    decisions: int
    spread: float

    @classmethod
    def of(cls, found: np.ndarray, reference: Reference) -> Figures:
        """Compare what an export gives, (N, C), with the reference."""
        found, expected = found.astype(np.float64), reference.probabilities.astype(np.float64)
        difference, spread = found - expected, _rms(expected - expected.mean(axis=0))
        error = _rms(difference)
        same = reference.decide(found) == reference.decide(expected)
        return cls(
            images=len(expected),
            max_difference=float(np.abs(difference).max()),
            relative_error=error / spread if spread else float(error and np.inf),
            agreeing=int(same.sum()),
            decisions=same.size,
            spread=spread,
        )


@dataclass(frozen=True)
class Check:
    """A statistic and its bound.

    Attributes:
        statistic: What it is.
        value: What was found.
        bound: What it is compared with.
        relation: How: "at most" or "at least".
    """

    statistic: str
    value: float
    bound: float
    relation: str = "at most"

    @property
    def holds(self) -> bool:
        """Whether the value is within the bound; no number is not."""
        return bool(self.value <= self.bound if self.relation == "at most" else self.value >= self.bound)

    def __str__(self) -> str:
        value, bound = (f"{n:.2g}" if isinstance(n, float) else str(n) for n in (self.value, self.bound))
        return f"{self.statistic} is {value}, expected is {self.relation} {bound}"


@dataclass(frozen=True)
class Checked:
    """What the check of an export gave.

    Attributes:
        precision: Of the export.
        figures: Of the export.
        path: Of the float32 conversion of the same path; those of the export where it is one.
        checks: What was to hold.
        parity: How the float32 path compares with the head on cached bottlenecks; None without any.
        accuracy: The share of right decisions, of the classifier and of the export; None without labels.
        ms_per_image: Median time of a batch of one image; NaN where that was not measured.
    """

    precision: str
    figures: Figures
    path: Figures
    checks: tuple[Check, ...]
    parity: Parity | None = None
    accuracy: tuple[float, float] | None = None
    ms_per_image: float = float("nan")

    @property
    def failed(self) -> tuple[Check, ...]:
        """What does not hold."""
        return tuple(check for check in self.checks if not check.holds)

    @property
    def has_power(self) -> bool:
        """Whether outputs vary enough for the check to tell a wrong export."""
        return self.figures.spread >= LEAST_SPREAD

    @property
    def status(self) -> str:
        """ "failed", "no power", "verified", or, where the precision is no proof, "float32 path verified"."""
        if self.failed:
            return "failed"
        bounds = BOUNDS[self.precision]
        verified = "verified" if bounds is None or bounds.is_proof else "float32 path verified"
        return verified if self.has_power else "no power"

    @property
    def told(self) -> str:
        """The status in a table."""
        is_path = BOUNDS[self.precision] is None
        path = "" if is_path else f" (float32 path: {self.path.max_difference:.1e})"
        if self.failed:
            return f"failed: {self.failed[0]}{path}"
        return f"ok{path}" if self.has_power else "no power: outputs hardly depend on the image"

    def require(self, name: str) -> None:
        """Refuse an export that failed.

        Args:
            name: What the message calls it.

        Raises:
            ExportError: It failed; the message names each statistic.
        """
        if self.failed:
            reasons = "; ".join(map(str, self.failed))
            raise ExportError(
                f"{name} does not do what its classifier does on {self.figures.images} images: {reasons}. "
                "Use another format or precision"
            )

    def to_dict(self) -> dict[str, Any]:
        """For export.json."""
        before, after = self.accuracy or (None, None)
        return {
            "status": self.status,
            **asdict(self.figures),
            "ms_per_image": None if np.isnan(self.ms_per_image) else round(self.ms_per_image, 3),
            "accuracy": None if self.accuracy is None else {"before": before, "after": after},
            "float32_path": asdict(self.path),
            "cache": asdict(self.parity) if self.parity else None,
            "checks": [{**asdict(check), "holds": check.holds} for check in self.checks],
        }


def judge(
    found: np.ndarray,
    path: np.ndarray | None,
    described: Mapping[str, Any],
    reference: Reference,
    ms_per_image: float = float("nan"),
) -> Checked:
    """Compare what an export gives with what its classifier gives.

    Args:
        found: Its probabilities, (N, C).
        path: What the float32 conversion of the same path gives: probabilities (N, C), or (N, C + D) with
            bottlenecks beside them where the reference has some; None if `found` is of that conversion.
        described: What travels with the export.
        reference: What the classifier gives, and what travels with it.
        ms_per_image: The time of an image.
    """
    classes, precision = reference.probabilities.shape[1], described["export"]["precision"]
    along, beside = np.split(found if path is None else path, [classes], axis=1)
    figures, of_path = Figures.of(found, reference), Figures.of(along, reference)
    checks = [*_of_document(described, reference), *_of_path(along, beside, of_path, reference)]
    parity = None
    if reference.cached is not None:
        types = reference.cached_types
        parity = compare(reference.cached, along, reference.task, reference.thresholds, types)
        checks += _of_cache(parity, types)
    if bounds := BOUNDS[precision]:
        checks += _of_precision(figures, bounds, reference)
    accuracy = _accuracy(found, reference) if reference.labels is not None else None
    return Checked(precision, figures, of_path, tuple(checks), parity, accuracy, ms_per_image)


def _of_document(described: Mapping[str, Any], reference: Reference) -> list[Check]:
    expected = json.loads(json.dumps(reference.described))  # as it travels: tuples are lists
    checks = []
    for name in _SAME_DOCUMENT:
        pairs = itertools.zip_longest(_items(described.get(name)), _items(expected.get(name)))
        other = [pair for pair in pairs if pair[0] != pair[1]]
        first = f" (first: {other[0][0]!r}, not {other[0][1]!r})" if other else ""
        checks.append(Check(f"number of embedded {name} that are not those of the run{first}", len(other), 0))
    return checks


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else list(value.items()) if isinstance(value, dict) else [value]


def _of_path(along: np.ndarray, beside: np.ndarray, figures: Figures, reference: Reference) -> list[Check]:
    """The float32 path, by its probabilities; of a head that counts votes, by its bottlenecks before all."""
    if reference.bottlenecks is None:
        largest = "max difference of probabilities in float32"
        return [Check(largest, figures.max_difference, MAX_DIFFERENCE)]
    if beside.shape == reference.bottlenecks.shape:
        difference = float(np.abs(beside - reference.bottlenecks).max())
    else:
        difference = float("nan")
    apart = np.abs(along - reference.probabilities).max(axis=1) > MAX_DIFFERENCE
    jumping = f"share of images with probabilities in float32 that differ by more than {MAX_DIFFERENCE:g}"
    return [
        Check("max difference of bottlenecks in float32", difference, MAX_DIFFERENCE),
        Check(jumping, float(apart.mean()), _JUMPING),
    ]


def _of_cache(parity: Parity, types: Sequence[str]) -> list[Check]:
    """Where bottlenecks are kept in float32, the head on them is a bound; elsewhere it is reported."""
    if set(types) != {_FLOAT32}:
        return []
    what = "difference to the head on cached bottlenecks"
    return [
        Check(f"mean {what}", parity.mean_difference, parity.allowed_difference),
        Check(f"clear {what}, in images", parity.overturned, parity.allowed_overturned),
    ]


def _of_precision(figures: Figures, bounds: Bounds, reference: Reference) -> list[Check]:
    checks = []
    if bounds.max_difference is not None and reference.bottlenecks is None:  # one vote is more
        checks.append(Check("max difference of probabilities", figures.max_difference, bounds.max_difference))
    if figures.spread >= LEAST_SPREAD:
        error = "R, the difference of probabilities relative to their spread,"
        checks.append(Check(error, figures.relative_error, bounds.relative_error))
        if bounds.agreement is not None:
            share = figures.agreeing / figures.decisions
            checks.append(Check("share of the same decisions", share, bounds.agreement, "at least"))
    return checks


def _accuracy(found: np.ndarray, reference: Reference) -> tuple[float, float]:
    labels = np.asarray(reference.labels).reshape(len(found), -1)
    before, after = (
        float((reference.decide(each) == labels).mean()) for each in (reference.probabilities, found)
    )
    return before, after


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))

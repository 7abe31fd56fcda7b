"""Split samples into train, val and test: exact counts per class, and images split earlier stay."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

from fastcls import files
from fastcls.data import image_bytes
from fastcls.data.dataset import SPLITS, Dataset
from fastcls.errors import DataError
from fastcls.files import PathLike
from fastcls.parallel import spread
from fastcls.specs import SplitSpec
from fastcls.specs.options import as_spec
from fastcls.wording import count_of, some_of

# Images without any label are split as if that were a class.
_NO_LABEL = ""
Label = str | int
Labels = tuple[Label, ...]
logger = logging.getLogger(__name__)


def split(
    dataset: Dataset | PathLike,
    spec: SplitSpec | None = None,
    *,
    fixed: Mapping[str, str] | None = None,
    digests: Sequence[str] | None = None,
    allow_small: bool = False,
) -> Dataset:
    """Give each sample of a dataset its split, by the bytes of its file.

    Args:
        dataset: A dataset without splits, or its path.
        spec: How to split it; 0.2 for validation and 0.2 for the test by default.
        fixed: The split of images assigned earlier, by digest.
        digests: Of the files, in the order of the samples; None to read them.
        allow_small: Accept classes too small to give every split an image.

    Raises:
        DataError: A file cannot be read, a class is too small, or the dataset has splits already.
    """
    dataset = Dataset.of(dataset)
    require_unsplit(dataset)
    splits = assign_splits(
        digests or file_digests([dataset.locate(sample) for sample in dataset.samples]),
        [dataset.names_of(sample) for sample in dataset.samples],
        as_spec(SplitSpec, spec, "spec"),
        groups=[sample.group for sample in dataset.samples],
        fixed=fixed,
        allow_small=allow_small,
    )
    pairs = zip(dataset.samples, splits, strict=True)
    return replace(dataset, samples=tuple(replace(sample, split=split) for sample, split in pairs))


def carve(dataset: Dataset, spec: SplitSpec) -> Dataset:
    """Take parts out of the training images of a data set whose other parts stay as they are.

    Args:
        dataset: A dataset with splits; samples without one are training images.
        spec: How to divide the training images.

    Raises:
        DataError: A file cannot be read, a class is too small, or there are no training images.
    """
    parts = [sample.split or "train" for sample in dataset.samples]
    require_train_part(dataset.given, parts)
    own = [sample for sample, part in zip(dataset.samples, parts, strict=True) if part == "train"]
    plain = replace(dataset, samples=tuple(replace(sample, split="") for sample in own))
    divided = iter(split(plain, spec).samples)
    pairs = zip(dataset.samples, parts, strict=True)
    return replace(
        dataset, samples=tuple(next(divided) if part == "train" else sample for sample, part in pairs)
    )


def assign_splits(
    keys: Sequence[str],
    labels: Sequence[Label | Labels],
    spec: SplitSpec,
    *,
    groups: Sequence[str] | None = None,
    fixed: Mapping[str, str] | None = None,
    allow_small: bool = False,
) -> list[str]:
    """Choose a split for each sample, from digests, labels and groups alone.

    Of a class of n images, val gets n * val and test n * test, rounded half up; each wanted split gets
    at least one. The counts are exact where every image may be placed on its own, and as near as a
    greedy choice comes where identical images or groups stay together or earlier images stay in place.
    The choice depends on the seed and the keys, not on the order of the samples.

    Samples of several classes are placed by iterative stratification (Sechidis, Tsoumakas and Vlahavas, "On
    the Stratification of Multi-label Data", 2011): those of the rarest class first, each where that class
    lacks most, then the next. Counts of classes come near, and those of images nearly so.

    Args:
        keys: Digest of each sample; samples of equal key stay in one split.
        labels: Class of each sample, as a label or (better to read in errors) as a class name; a tuple of
            these for a sample of any number of classes.
        spec: How to split each class.
        groups: Group of each sample; samples of one non-empty group stay in one split.
        fixed: The split of samples assigned earlier, by key. They stay; new ones fill the gaps.
        allow_small: Log a warning for a class too small to give every split an image.

    Returns:
        "train", "val" or "test" for each sample.

    Raises:
        DataError: A class is too small, and `allow_small` is false.
    """
    fixed = fixed or {}
    splits = [fixed.get(key, "") for key in keys]
    units = group_units(keys, groups or [""] * len(keys))
    balance = _Balance([_as_tuple(given) for given in labels], splits, units, spec)
    for unit in _ranked(units, keys, splits, spec.seed, balance):
        free = [index for index in unit if not splits[index]]
        home = _home(unit, splits) or balance.best_split(free)
        balance.add(free, home)
        for index in free:
            splits[index] = home
    balance.check(allow_small=allow_small)
    return splits


def _as_tuple(given: Label | Labels) -> Labels:
    return given or (_NO_LABEL,) if isinstance(given, tuple) else (given,)


def group_units(keys: Sequence[str], groups: Sequence[str]) -> list[list[int]]:
    """Indices of the samples that belong together: a union-find over keys and groups."""
    parents = list(range(len(keys)))

    def find(index: int) -> int:
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = parents[index]
        return index

    of_key: dict[str, int] = {}
    of_group: dict[str, int] = {}
    for index, (key, group) in enumerate(zip(keys, groups, strict=True)):
        parents[find(index)] = find(of_key.setdefault(key, index))
        if group:
            parents[find(index)] = find(of_group.setdefault(group, index))
    units = defaultdict(list)
    for index in range(len(keys)):
        units[find(index)].append(index)
    return list(units.values())


def _ranked(
    units: Iterable[list[int]], keys: Sequence[str], splits: Sequence[str], seed: int, balance: _Balance
) -> list[list[int]]:
    """Units with a place first, then large ones, whose excess small ones can even out, then rare; by hash."""

    def rank(unit: list[int]) -> tuple[bool, int, int, str]:
        is_free = not any(splits[index] for index in unit)
        key = min(keys[index] for index in unit)
        return is_free, -len(unit), balance.rarest(unit), files.digest(f"{seed}:{key}".encode())

    return sorted(units, key=rank)


def _home(unit: Iterable[int], splits: Sequence[str]) -> str:
    """The split of most members that have one, or ""."""
    counts = Counter(splits[index] for index in unit if splits[index])
    return max(SPLITS, key=counts.__getitem__) if counts else ""


class _Balance:
    """What each class has and lacks in each split, while units get their places.

    A unit may span several classes: a sample of several, the same photo in two class folders, or a group.
    """

    def __init__(
        self, labels: Sequence[Labels], splits: Sequence[str], units: Sequence[Sequence[int]], spec: SplitSpec
    ) -> None:
        self._labels = labels
        self._units = units
        self._wanted = spec.wanted
        self._totals = Counter(label for given in labels for label in given)
        self._lacks = {label: _exact_counts(total, spec) for label, total in self._totals.items()}
        self._holds = {label: Counter[str]() for label in self._totals}
        self._waiting: Counter[Label] = Counter()  # Units that still need a place, by class.
        for unit in units:
            self._waiting.update(set(self._counts(index for index in unit if not splits[index])))
        for index, split in enumerate(splits):
            if split:
                self._count(index, split)

    def add(self, unit: Sequence[int], split: str) -> None:
        """Note that the samples of a unit went to a split."""
        for index in unit:
            self._count(index, split)
        self._waiting.subtract(set(self._counts(unit)))

    def rarest(self, unit: Iterable[int]) -> int:
        """Samples of the rarest class of a unit."""
        return min(self._totals[label] for label in self._counts(unit))

    def best_split(self, unit: Iterable[int]) -> str:
        """The split that lacks most of the class of which the unit has most, as a share; then of the next."""
        counts = self._counts(unit)
        labels = sorted(counts, key=lambda label: (-counts[label] / self._totals[label], str(label)))
        return max(self._choices(counts), key=lambda split: [self._lacks[label][split] for label in labels])

    def check(self, *, allow_small: bool) -> None:
        """Raise or warn when a class has no image in a wanted split."""
        short = [
            label
            for label, held in self._holds.items()
            if label != _NO_LABEL and not all(held[s] for s in self._wanted)
        ]
        if not short:
            return
        units = Counter(label for unit in self._units for label in set(self._counts(unit)))
        described = some_of(
            [
                f"{label!r} (images: {self._totals[label]}, separable: {units[label]})"
                for label in sorted(short, key=str)
            ]
        )
        fact = f"Classes without an image in each of {', '.join(self._wanted)}: {described}."
        if not allow_small and any(units[label] < len(self._wanted) for label in short):
            raise DataError(
                f"{fact} Identical images and those of one group stay together. Add images, remove these "
                "classes, set the fraction of val or test to 0, or split the data with `fastcls split-data "
                "--allow-small` (allow_small=True)."
            )
        logger.warning(fact)

    def _counts(self, indices: Iterable[int]) -> Counter[Label]:
        return Counter(label for index in indices for label in self._labels[index])

    def _count(self, index: int, split: str) -> None:
        for label in self._labels[index]:
            self._lacks[label][split] -= 1
            self._holds[label][split] += 1

    def _choices(self, labels: Iterable[Label]) -> Sequence[str]:
        """All wanted splits, unless a class has no more units left than it has empty splits."""
        for label in sorted(labels, key=lambda label: (self._totals[label], str(label))):
            empty = [split for split in self._wanted if not self._holds[label][split]]
            if self._waiting[label] <= len(empty):
                return empty
        return self._wanted


def _exact_counts(total: int, spec: SplitSpec) -> dict[str, int]:
    """Images of a class of `total` by split; a class too small fills train first."""
    counts = dict.fromkeys(SPLITS, 0)
    if total < len(spec.wanted):
        return counts | dict.fromkeys(spec.wanted[:total], 1)
    for split, fraction in spec.fractions.items():
        counts[split] = max(1, _round_half_up(total, fraction))
    while counts["val"] + counts["test"] >= total:
        counts[max(spec.fractions, key=counts.__getitem__)] -= 1
    return counts | {"train": total - counts["val"] - counts["test"]}


def _round_half_up(total: int, fraction: float) -> int:
    # Decimal: in binary, 50 * 0.29 is 14.499...
    return int((total * Decimal(str(fraction))).to_integral_value(ROUND_HALF_UP))


def file_digests(paths: Sequence[Path]) -> list[str]:
    """The identity of each image; raises DataError for one that cannot be read."""
    return list(spread(_readable_digest, paths))  # Reading and hashing release the GIL.


def _readable_digest(path: Path) -> str:
    try:
        return image_bytes.digest(path)
    except OSError as error:
        raise DataError(
            f"{str(path)!r} cannot be read: {error.strerror or error}. Check its permissions, or remove it."
        ) from error


def require_train_part(source: object, parts: Iterable[str]) -> None:
    """Raise DataError for data without training images.

    Args:
        source: What the data is called.
        parts: Of each image; "" and "train" are trained on.
    """
    counts = Counter(part or "train" for part in parts)
    if not counts["train"]:
        received = ", ".join(f"{part} ({count_of(count, 'image')})" for part, count in counts.items())
        raise DataError(
            f"{source} has no training part. Received: {received or 'no images'}. Add images to train on (a "
            "folder train, or rows of the split train). To train on these images, give them without their "
            "parts: the folder of the part itself, or a table without a column of splits."
        )


def require_unsplit(dataset: Dataset) -> None:
    """Raise DataError for a data set that is already split."""
    if dataset.splits:
        raise DataError(
            f"{dataset.given} is already split into {', '.join(dataset.splits)}. "
            "Use it as it is, or split one of its parts."
        )

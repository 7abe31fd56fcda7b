"""Which images of a data set `run` trains, validates and tests on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from fastcls.data.dataset import Dataset
from fastcls.data.splitter import carve, split
from fastcls.errors import OptionError
from fastcls.specs import SplitSpec, TrainConfig
from fastcls.wording import count_of


@dataclass(frozen=True)
class Parts:
    """A data set with its parts.

    Attributes:
        dataset: Each sample has its split.
        notes: What was done about a part that the data set lacks, in words.
        untested: Why there is no test, in words; "" if there is one.
    """

    dataset: Dataset
    notes: tuple[str, ...] = ()
    untested: str = ""

    def __str__(self) -> str:
        counts = Counter(sample.split or "train" for sample in self.dataset.samples)
        parts = ", ".join(f"{split} {counts[split]:,}" for split in ("train", "val", "test"))
        return f"{self.dataset.given}: {self.dataset.counted}; {parts}"


def choose_shares(dataset: Dataset, config: TrainConfig, test: float | None = None) -> SplitSpec | None:
    """How a data set is to be split.

    Args:
        dataset: The images. Parts that it has stay as they are.
        config: Its `val` is the share to validate on: None for the validation part of the data, or 0.2 where
            there is none; 0 for none.
        test: The share to test on, of data that is not split; None for 0.2. 0 leaves out the test.

    Returns:
        The shares of the images, or of the train part where there is no validation part; None where all
        parts are kept.

    Raises:
        OptionError: A fraction is given for data that is already split.
    """
    val = SplitSpec.val if config.val is None else config.val
    if not dataset.splits:
        return SplitSpec(val, SplitSpec.test if test is None else test, config.seed)
    for option, share in (("val", config.val), ("test", test)):
        if share and option in dataset.splits:
            raise OptionError(
                f"{dataset.given} is already split and has a {option} part. Remove --{option}, or use images "
                "that are not split"
            )
    if test:
        raise OptionError(
            f"{dataset.given} is already split, without a test part. Remove --test to train without a test; "
            "`fastcls test` can test the classifier on other images"
        )
    return SplitSpec(val, 0.0, config.seed) if val and "val" not in dataset.splits else None


def make_parts(dataset: Dataset, shares: SplitSpec | None, *, tests: bool) -> Parts:
    """Split a data set, by the bytes of its images.

    Args:
        dataset: The images.
        shares: As `choose_shares` has chosen them.
        tests: Whether a test is wanted.

    Raises:
        DataError: An image cannot be read, or a class is too small to be split.
    """
    notes: tuple[str, ...] = ()
    if shares and dataset.splits:
        dataset = carve(dataset, shares)
        count = len(dataset.subset("val").samples)
        notes = (
            f"{dataset.given} has no validation part: using {count_of(count, 'image')} "
            f"of its train part for validation "
            f"({shares.val:g} of each class; --val sets another fraction, --val 0 trains without validation)",
        )
    elif shares:
        dataset = split(dataset, shares)
    has_test = "test" in dataset.splits
    why = "" if has_test and tests else f"{dataset.given} has no test part" if tests else "--test 0"
    return Parts(dataset, notes, f"No test: {why}" if why else "")

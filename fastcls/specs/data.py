"""How a data set is split."""

from __future__ import annotations

from dataclasses import dataclass

from fastcls.errors import OptionError
from fastcls.specs.option import option
from fastcls.specs.options import described, settle
from fastcls.specs.outputs import without_validation


@described
@dataclass(frozen=True)
class SplitSpec:
    """How to split the images of each class; train gets the rest."""

    val: float = option(
        0.2, "Fraction of each class for validation.", low=0, below=1, silences=without_validation
    )
    test: float = option(0.2, "Fraction of each class for testing.", low=0, below=1)
    seed: int = option(0, "Random seed of the split.")

    def __post_init__(self) -> None:
        settle(self)
        if self.val + self.test >= 1:
            raise OptionError(
                "The fractions for val and test must add up to less than 1, to leave images for train. "
                f"Received: val={self.val}, test={self.test}. Choose smaller ones, such as 0.2 and 0.1."
            )

    @property
    def fractions(self) -> dict[str, float]:
        """The fractions of val and test, where they are wanted."""
        return {split: part for split, part in (("val", self.val), ("test", self.test)) if part}

    @property
    def wanted(self) -> tuple[str, ...]:
        """The splits that get images."""
        return ("train", *self.fractions)

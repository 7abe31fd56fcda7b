"""How a data set is divided."""

from __future__ import annotations

from dataclasses import dataclass

from fastcls.errors import OptionError
from fastcls.specs.options import described, option, settle
from fastcls.specs.records import without_validation


@described
@dataclass(frozen=True)
class SplitSpec:
    """How to split the images of each class; train gets the rest."""

    val: float = option(
        0.2, "Fraction of each class for validation.", low=0, below=1, silences=without_validation
    )
    test: float = option(0.2, "Fraction of each class for the test.", low=0, below=1)
    seed: int = option(0, "Random seed: another seed, another split.")

    def __post_init__(self) -> None:
        settle(self)
        if self.val + self.test >= 1:
            raise OptionError(
                "The fractions for val and test must leave something for train. "
                f"Received: val={self.val}, test={self.test}. Choose a sum below 1, such as 0.2 and 0.1."
            )

    @property
    def fractions(self) -> dict[str, float]:
        """The fractions of val and test, where they are wanted."""
        return {split: part for split, part in (("val", self.val), ("test", self.test)) if part}

    @property
    def wanted(self) -> tuple[str, ...]:
        """The splits that are to have images."""
        return ("train", *self.fractions)

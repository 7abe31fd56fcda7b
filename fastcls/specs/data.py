"""How a data set is divided."""

from __future__ import annotations

from dataclasses import dataclass

from fastcls.errors import OptionError


@dataclass(frozen=True)
class SplitSpec:
    """How to divide the images of each class.

    Attributes:
        val: Fraction for validation; 0 for none.
        test: Fraction for the test; 0 for none. Train gets the rest.
        seed: Another seed, another division.
    """

    val: float = 0.2
    test: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.val >= 0 and self.test >= 0 and self.val + self.test < 1):
            raise OptionError(
                "The fractions for val and test must be 0 or more and leave something for train. "
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

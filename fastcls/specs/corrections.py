"""What a person has corrected in a data set."""

from __future__ import annotations

from dataclasses import dataclass

from fastcls.specs.option import option
from fastcls.specs.options import described, settle


@described
@dataclass(frozen=True)
class CorrectionSpec:
    """What is other in a training than in the data set of the cache."""

    corrections: str | None = option(
        None,
        "The issues.csv of `fastcls audit` with your decisions in its column action: relabel, drop, "
        "split:train, split:val or split:test. Images are found by their content, also under other names.",
        metavar="PATH",
    )

    def __post_init__(self) -> None:
        settle(self)

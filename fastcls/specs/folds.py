"""How a head is cross-validated."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fastcls.errors import OptionError
from fastcls.specs.option import option
from fastcls.specs.options import described, settle


def _silenced(folds: Any) -> list[str]:
    return ["repeats", "group"] if folds is None else ["StartSpec.start"]


@described
@dataclass(frozen=True)
class FoldSpec:
    """How a head is cross-validated: on training and validation images, never on those of the test part."""

    folds: int | None = option(
        None,
        "Cross-validate the head too: fit it N times, each time without one fold of the images, which it "
        "predicts.",
        metavar="N",
        low=2,
        shown="no cross-validation",
        silences=_silenced,
    )
    repeats: int = option(1, "How often the images are dealt into folds anew.", low=1)
    group: str | None = option(
        None,
        "Regular expression, such as 'patient[0-9]+': images in whose paths it finds the same text (in the "
        "first parentheses, if there are any) stay in one fold.",
        metavar="REGEX",
        shown="the groups of the data",
    )

    def __post_init__(self) -> None:
        settle(self)
        try:
            re.compile(self.group or "")
        except re.error as error:
            raise OptionError(
                f"--group is not a regular expression: {error}. Received: {self.group!r}"
            ) from error

    def groups(self, paths: Iterable[str], known: Iterable[str]) -> list[str]:
        """The group of each image, "" for one of none.

        Args:
            paths: Of the images.
            known: Their groups in the data.

        Raises:
            OptionError: No path has what `group` looks for.
        """
        if self.group is None:
            return [*known]
        paths = [*paths]
        found = [re.search(self.group, path) for path in paths]
        if not any(found):
            raise OptionError(
                f"--group {self.group} is found in no path of an image. The first is {paths[0]!r}"
            )
        return [(match.group(match.re.groups and 1) or "") if match else "" for match in found]

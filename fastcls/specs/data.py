"""How a data set is read, and how it is split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastcls.errors import OptionError
from fastcls.specs.option import option
from fastcls.specs.options import described, options_of, settle
from fastcls.specs.outputs import without_validation

CONFLICTS = ("keep", "drop", "error")
_DELIMITERS = {"tab": "\t", "\\t": "\t", "space": " "}


def _read_delimiter(value: Any) -> Any:
    return _DELIMITERS.get(value, value)


@described
@dataclass(frozen=True)
class ReadSpec:
    """How the images of a data set are found, and their labels: most options are for tables."""

    label_separator: str | None = option(
        None,
        "Separator of the labels of an image in a table, such as '|' or '$'. Images can then have any number "
        "of labels.",
        metavar="TEXT",
        shown="one label per image",
    )
    image_root: str | None = option(
        None,
        "Folder, or URL, that the paths in a table are relative to.",
        metavar="DIRECTORY",
        shown="the folder of the table",
    )
    path_column: str | None = option(
        None,
        "Column of the paths: its name, or its number from 1.",
        metavar="COLUMN",
        shown="path, filename, image_id or the like",
    )
    label_column: str | None = option(
        None,
        "Column of the labels: its name, or its number from 1.",
        metavar="COLUMN",
        shown="label, class, category, target or the only other one",
    )
    split_column: str | None = option(
        None,
        "Column that says train, val or test: its name, or its number from 1.",
        metavar="COLUMN",
        shown="split",
    )
    path_suffix: str | None = option(
        None,
        "What to append to the paths in a table, such as .jpg.",
        metavar="TEXT",
        shown="the suffix of the files, where no path has one",
    )
    delimiter: str | None = option(
        None,
        "What separates the cells of a table: a character, tab or space.",
        metavar="CHARACTER",
        shown="found in its first line",
        read=_read_delimiter,
    )
    image_key: str | None = option(
        None,
        "Key of the image file in the records of TFRecord files.",
        metavar="KEY",
        shown="image/encoded, image, image_bytes or image_raw",
    )
    label_key: str | None = option(
        None,
        "Key of the class in the records of TFRecord files, a name or a number.",
        metavar="KEY",
        shown="image/class/text, image/class/label, label, class or the like",
    )
    folders_are_classes: bool = option(
        False, "The folders in DATA are classes, even if they are called train, val or test."
    )
    conflicts: str = option(
        "keep",
        "What to do with identical images under different labels: keep them with a warning, drop all of "
        "them, or stop.",
        choices=CONFLICTS,
    )

    def __post_init__(self) -> None:
        settle(self)
        separator = self.label_separator
        if separator is not None and (not separator.strip() or set(separator) & {"\n", "\r", '"'}):
            raise OptionError(
                "The label separator must be one or more characters such as '|': not only spaces, and no "
                f"quotes. Received: {separator!r}"
            )
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '\r\n"\0'):
            raise OptionError(
                f"The delimiter must be one character, such as ';', or tab. Received: {self.delimiter!r}"
            )

    @property
    def of_tables(self) -> tuple[str, ...]:
        """Flags of the options that are given and that only tables take."""
        other = {"image_key", "label_key", "folders_are_classes", "conflicts"}
        known = options_of(type(self)).values()
        return tuple(o.flag for o in known if o.name not in other and getattr(self, o.name) is not None)


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

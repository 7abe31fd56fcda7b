"""The classes of a record of a TFRecord file: what they are called, and by which keys they are found."""

from __future__ import annotations

import re
from pathlib import Path

from fastcls.data.tf_example import Example
from fastcls.errors import DataError

TEXT, LABEL = "image/class/text", "image/class/label"
OBJECT_TEXT, OBJECT_LABEL = "image/object/class/text", "image/object/class/label"
# Where the classes of a record are, unless --label-key says so, in this order: TensorFlow's image scripts;
# the objects of a detection data set (Roboflow); TFDS and FiftyOne; Kaggle.
LABEL_KEYS = (TEXT, LABEL, OBJECT_TEXT, OBJECT_LABEL, "label", "class")
LABELS_FILE = "labels.txt"
_LABEL_LINE = re.compile(r"(\d+):(.+)")


def label_keys(key: str | None) -> tuple[str, ...]:
    """The keys under which a record may have its classes: the one that is named, or those that are known."""
    return (key,) if key else LABEL_KEYS


class ClassNames:
    """Names of the classes of the records of one folder.

    Args:
        folder: Where the records are, and the files that name the numbers of classes.
        key: The key of the classes; None for those that are known.
    """

    def __init__(self, folder: Path, key: str | None = None) -> None:
        self._folder, self._keys = folder, label_keys(key)
        self._by_number: dict[str, dict[int, str]] = {}

    def of(self, features: Example, record: str) -> tuple[str, list[str]] | None:
        """The key of the classes of one image and their names; None where no key has whatever it may hold.

        Args:
            features: Those under the keys.
            record: What messages call it.

        Raises:
            DataError: A number has no name.
        """
        texts, numbers = features.bytes_lists, features.int64_lists
        present = [key for key in self._keys if key in texts or key in numbers]
        for key in present:
            named = [bytes(text).decode("utf-8", "replace") for text in texts.get(key, []) if text]
            named = named or [self._name(key, number, record) for number in numbers.get(key, [])]
            if named:
                return key, named
        return (present[0], []) if present else None

    def _name(self, key: str, number: int, record: str) -> str:
        if key not in self._by_number:
            self._by_number[key] = self._read(key)
        if number not in self._by_number[key]:
            raise DataError(
                f"The {record} has class number {number} without a name ({key}). Name the classes in "
                f"{self._folder / LABELS_FILE}, one line per class such as 0:daisy"
            )
        return self._by_number[key][number]

    def _read(self, key: str) -> dict[int, str]:
        table = self._folder / LABELS_FILE
        if table.is_file():
            return _read_labels(table)
        listed = self._folder / f"{key.replace('/', '-')}.labels.txt"  # as TFDS calls it: a name per line
        return dict(enumerate(_lines(listed))) if listed.is_file() else {}


def _read_labels(path: Path) -> dict[int, str]:
    matches = [_LABEL_LINE.fullmatch(line.strip()) for line in _lines(path) if line.strip()]
    if not all(matches):
        raise DataError(f"{path} has a line that is not of the form NUMBER:NAME. Fix it")
    return {int(match[1]): match[2].strip() for match in matches if match}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error}. Save it as UTF-8") from error

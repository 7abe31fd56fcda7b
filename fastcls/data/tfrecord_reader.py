"""Data sets in TFRecord files: `tf.train.Example` with the keys of TensorFlow's own image scripts.

image/encoded      bytes of the image file
image/class/text   names of its classes: what counts
image/class/label  their numbers, for files without names; `labels.txt` beside them names numbers (`0:daisy`)
image/group        a group that stays in one split; fastcls alone writes it
"""

from __future__ import annotations

import contextlib
import glob
import logging
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from fastcls.data.csv_reader import SPLIT_NAMES, Entry, Table, some
from fastcls.data.example import Example, parse_example
from fastcls.data.tfrecord import DamagedRecordError, is_tfrecord, join_address, scan
from fastcls.errors import DataError
from fastcls.tasks import task_of

TEXT, LABEL, GROUP = "image/class/text", "image/class/label", "image/group"
LABELS_FILE = "labels.txt"
_NUMBERED = re.compile(r"(?P<before>.*)\d{5}-of-(?P<count>\d{5})(?P<after>.*)")  # as TensorFlow numbers
_LABEL_LINE = re.compile(r"(\d+):(.+)")
logger = logging.getLogger(__name__)


def find_tfrecords(path: Path) -> list[Path]:
    """The TFRecord files that a path names, sorted: itself, those in a folder, or those of a pattern.

    A folder that holds visible folders is one of images.

    Raises:
        DataError: Of files numbered 00000-of-00004 and so on, a folder lacks some.
    """
    if path.is_file():
        return [path] if is_tfrecord(path.name) else []
    if path.is_dir():
        inside = [entry for entry in _entries(path) if not entry.name.startswith(".")]
        if any(entry.is_dir() for entry in inside):
            return []
        found = sorted(entry for entry in inside if is_tfrecord(entry.name))
        _require_all_numbers(path, found)
        return found
    named = glob.glob(str(path)) if glob.has_magic(str(path)) else []  # noqa: PTH207 (patterns may be absolute)
    return sorted(Path(name) for name in named if is_tfrecord(name) and Path(name).is_file())


def _require_all_numbers(folder: Path, found: Sequence[Path]) -> None:
    names = {file.name for file in found}
    numbered = [match for name in sorted(names) if (match := _NUMBERED.fullmatch(name))]
    sets = {(match["before"], match["count"], match["after"]) for match in numbered}
    wanted = {
        f"{before}{number:05}-of-{count}{after}"
        for before, count, after in sets
        for number in range(int(count))
    }
    if missing := sorted(wanted - names):
        raise DataError(
            f"{folder} lacks {len(missing)} of its numbered TFRecord files: {some(missing)}. Bring them "
            "back, or name those that you mean with a pattern in quotes"
        )


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:  # Who lists it as a folder of images says so.
        return []


def common_folder(files: Sequence[Path]) -> Path:
    """The folder that sample paths are relative to."""
    return Path(os.path.commonpath([file.parent for file in files]))


def read_tfrecords(files: Sequence[Path]) -> Table:
    """List the images in TFRecord files.

    A file belongs to the split that is a part of its name (`train-00000-of-00004`, `flowers_validation_...`).
    The data set is multi-label when an image has several classes or none.

    Args:
        files: The files.

    Returns:
        Entries with the addresses of their records, relative to `common_folder`.

    Raises:
        DataError: A file is damaged, an image has no class, a number no name, or some files alone name a
            split.
    """
    splits = [_split_of(file.name) for file in files]
    if len({bool(split) for split in splits}) > 1:
        unnamed = [file.name for file, split in zip(files, splits, strict=True) if not split]
        raise DataError(
            f"{len(unnamed)} of {len(files)} TFRecord files name no split: {some(unnamed)}. Give each file "
            "train, validation or test as a part of its name, or none of them"
        )
    root = common_folder(files)
    listed = []
    numbers: dict[str, set[int]] = defaultdict(set)
    for file, split in zip(files, splits, strict=True):
        names = _Names(file.parent / LABELS_FILE)
        for place, features in _examples(file):
            address = join_address(file.relative_to(root).as_posix(), place)
            classes = names.of(features, f"record at {place} of {file}")
            listed.append(Entry(address, tuple(sorted(set(classes))), split, _group(features)))
            for name, number in zip(classes, features.int64_lists.get(LABEL, []), strict=False):
                numbers[name].add(number)
    _warn_of_numbers(numbers)
    found = {name for entry in listed for name in entry.class_names}
    return Table(tuple(listed), tuple(sorted(found)), task_of(entry.class_names for entry in listed))


def _split_of(name: str) -> str:
    parts = re.split(r"[-_.]", name.lower())
    return next((SPLIT_NAMES[part] for part in parts if part in SPLIT_NAMES), "")


def record_addresses(file: Path) -> Iterator[Path]:
    """Addresses of all records of a file.

    Raises:
        DataError: The file is damaged.
    """
    with _explained(file):
        for place, _ in scan(file):
            yield Path(join_address(file, place))


def _examples(file: Path) -> Iterator[tuple[int, Example]]:
    """Place and labels of each record."""
    with _explained(file):
        for place, record in scan(file):
            try:
                yield place, parse_example(record, (TEXT, LABEL, GROUP))
            except ValueError as error:
                raise DataError(
                    f"The record at {place} of {file} is no tf.train.Example: {error}. Write the file again"
                ) from error


@contextlib.contextmanager
def _explained(file: Path) -> Iterator[None]:
    try:
        yield
    except DamagedRecordError as error:
        raise DataError(f"{error}. Write the file again, or leave it out") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}). Correct its permissions") from error


class _Names:
    """Names of the classes of the records of one file."""

    def __init__(self, table: Path) -> None:
        self._table = table
        self._by_number: dict[int, str] | None = None

    def of(self, features: Example, record: str) -> list[str]:
        """The names of the classes of one image."""
        texts = [_as_text(text) for text in features.bytes_lists.get(TEXT, []) if text]
        if texts:
            return texts
        if TEXT not in features.bytes_lists and LABEL not in features.int64_lists:
            raise DataError(f"The {record} has neither {TEXT} nor {LABEL}")
        return [self._name(number, record) for number in features.int64_lists.get(LABEL, [])]

    def _name(self, number: int, record: str) -> str:
        if self._by_number is None:
            self._by_number = _read_labels(self._table)
        if number not in self._by_number:
            raise DataError(
                f"The {record} has the class {number} and no name of it. Name the classes "
                f"in {self._table}, a line such as 0:daisy for each"
            )
        return self._by_number[number]


def _read_labels(path: Path) -> dict[int, str]:
    if not path.is_file():
        return {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 ({error}). Save it as UTF-8") from error
    matches = [_LABEL_LINE.fullmatch(line.strip()) for line in lines if line.strip()]
    if not all(matches):
        raise DataError(f"{path} has a line that is not of the form NUMBER:NAME. Correct it")
    return {int(match[1]): match[2].strip() for match in matches if match}


def _group(features: Example) -> str:
    groups = features.bytes_lists.get(GROUP, [])
    return _as_text(groups[0]) if groups else ""


def _as_text(value: memoryview) -> str:
    return bytes(value).decode("utf-8", "replace")


def _warn_of_numbers(numbers: dict[str, set[int]]) -> None:
    several = {name: sorted(found) for name, found in numbers.items() if len(found) > 1}
    if several:
        name, found = min(several.items())
        logger.warning(
            "%d classes have several numbers, such as %r with %s: they are told apart by their names alone",
            len(several),
            name,
            ", ".join(map(str, found)),
        )

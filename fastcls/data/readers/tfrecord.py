"""Data sets in TFRecord files: `tf.train.Example` with the keys of TensorFlow's own image scripts.

image/encoded      bytes of the image file
image/class/text   names of its classes: what counts
image/class/label  their numbers, for files without names; `labels.txt` beside them names numbers (`0:daisy`)
image/group        a group that stays in one split; only fastcls writes it

Those of other tools are in `image_bytes.IMAGE_KEYS` and `record_classes.LABEL_KEYS`.
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

from fastcls.data.image_bytes import image_keys
from fastcls.data.readers.entries import Entry, Table, some, split_named
from fastcls.data.readers.record_classes import (
    LABEL,
    OBJECT_LABEL,
    OBJECT_TEXT,
    TEXT,
    ClassNames,
    label_keys,
)
from fastcls.data.tf_example import Example, feature_kinds, parse_example
from fastcls.data.tfrecord import DamagedRecordError, is_tfrecord, join_address, scan
from fastcls.errors import DataError
from fastcls.storage.paths import UrlPath
from fastcls.tasks import task_of
from fastcls.wording import count_of

GROUP = "image/group"
_NUMBERED = re.compile(r"(?P<before>.*)\d{5}-of-(?P<count>\d{5})(?P<after>.*)")  # as TensorFlow numbers
logger = logging.getLogger(__name__)


def find_tfrecords(path: Path) -> list[Path]:
    """The TFRecord files of a path, sorted: itself, those in a folder, or those matching a pattern.

    A folder with visible subfolders is a folder of images, unless these are called like splits and hold
    TFRecord files (Roboflow, Kaggle).

    Raises:
        DataError: Some of the files numbered 00000-of-00004 and so on are missing.
    """
    if isinstance(path, UrlPath):
        return _refuse_urls(path)
    if path.is_file():
        return [path] if is_tfrecord(path.name) else []
    if path.is_dir():
        inside = [entry for entry in _entries(path) if not entry.name.startswith(".")]
        if any(entry.is_dir() for entry in inside):
            return _in_splits([entry for entry in inside if entry.is_dir()])
        found = sorted(entry for entry in inside if is_tfrecord(entry.name))
        _require_all_numbers(path, found)
        return found
    named = glob.glob(str(path)) if glob.has_magic(str(path)) else []  # noqa: PTH207 (patterns may be absolute)
    return sorted(Path(name) for name in named if is_tfrecord(name) and Path(name).is_file())


def _refuse_urls(path: UrlPath) -> list[Path]:
    if is_tfrecord(path.name):
        raise DataError(
            f"TFRecord files are mapped into memory, which takes a disk. Copy {path} to one, or write "
            "the images as WebDataset or Parquet files"
        )
    return []


def _in_splits(folders: Sequence[Path]) -> list[Path]:
    """The TFRecord files in folders that are called like splits."""
    if not all(split_named(folder.name) for folder in folders):
        return []
    return [file for folder in sorted(folders) for file in find_tfrecords(folder)]


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
            f"{folder} lacks {len(missing)} of its numbered TFRecord files: {some(missing)}. Restore them, "
            "or select files with a quoted pattern"
        )


def is_one_of(file: Path) -> bool:
    """Whether a file is named as one of several TFRecord files."""
    numbered = _NUMBERED.fullmatch(file.name)
    return numbered is not None and int(numbered["count"]) > 1


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:  # reported when it is listed as a folder of images
        return []


def common_folder(files: Sequence[Path]) -> Path:
    """The folder that sample paths are relative to."""
    return Path(os.path.commonpath([file.parent for file in files]))


def read_tfrecords(
    files: Sequence[Path], *, image_key: str | None = None, label_key: str | None = None
) -> Table:
    """List the images in TFRecord files.

    A file belongs to the split that its name contains (`train-00000-of-00004`, `flowers_validation_...`), or
    else to that which its folder is called. The data set is multi-label when an image has several classes or
    none. The classes of an image are those of its objects where there are no others.

    Args:
        files: The files.
        image_key: The key of the images; None for those that are known.
        label_key: The key of the classes, names or numbers; None for those that are known.

    Returns:
        Entries with the addresses of their records, relative to `common_folder`.

    Raises:
        DataError: A file is damaged, a record has nothing under the keys, a number has no name, or only some
            files name a split.
    """
    root = common_folder(files)
    listed = []
    numbers: dict[str, set[int]] = defaultdict(set)
    used = set()
    for file, split in zip(files, splits_of(files, root), strict=True):
        for place, key, classes, features in _classified(file, image_key, label_key):
            used.add(key)
            address = join_address(file.relative_to(root).as_posix(), place, image_key)
            listed.append(Entry(address, tuple(sorted(set(classes))), split, _group(features)))
            of_image = features.int64_lists.get(LABEL, []) if key == TEXT else []
            for name, number in zip(classes, of_image, strict=False):
                numbers[name].add(number)
    _warn_of_numbers(numbers)
    _warn_of_objects(used)
    names = {name for entry in listed for name in entry.class_names}
    return Table(tuple(listed), tuple(sorted(names)), task_of(entry.class_names for entry in listed))


def _classified(
    file: Path, image_key: str | None, label_key: str | None
) -> Iterator[tuple[int, str, list[str], Example]]:
    """Place, key of the classes, their names, and features of each record."""
    names = ClassNames(file.parent, label_key)
    for place, record, features in _examples(file, image_key, label_key):
        found = names.of(features, f"record at {place} of {file}")
        if not found or not any(key in features.bytes_lists for key in image_keys(image_key)):
            raise _lacks_keys(file, place, record, image_key, label_key)
        yield place, *found, features


def splits_of(files: Sequence[Path], root: Path, kind: str = "TFRecord") -> list[str]:
    """The split that each file, or its folder, is named after.

    Args:
        files: The files.
        root: Their common folder.
        kind: What a message calls them.

    Raises:
        DataError: Only some of them name a split.
    """
    splits = [_split_of(file.name) or _split_of_folder(file.parent, root) for file in files]
    if len({bool(split) for split in splits}) > 1:
        unnamed = [file.name for file, split in zip(files, splits, strict=True) if not split]
        raise DataError(
            f"{len(unnamed)} of {len(files)} {kind} files name no split: {some(unnamed)}. Put train, "
            "validation or test into the name of every file, or of none"
        )
    return splits


def _split_of(name: str) -> str:
    parts = re.split(r"[-_.]", name)
    return next(filter(None, map(split_named, parts)), "")


def _split_of_folder(folder: Path, root: Path) -> str:
    return split_named(folder.name) if folder != root else ""


def record_addresses(file: Path, image_key: str | None = None) -> Iterator[Path]:
    """Addresses of all records of a file, with the key of their images if one is given.

    Raises:
        DataError: The file is damaged.
    """
    with _explained(file):
        for place, _ in scan(file):
            yield Path(join_address(file, place, image_key))


def _examples(
    file: Path, image_key: str | None, label_key: str | None
) -> Iterator[tuple[int, memoryview, Example]]:
    """Place, data, and labels and image of each record."""
    wanted = (*image_keys(image_key), *label_keys(label_key), LABEL, GROUP)
    with _explained(file):
        for place, record in scan(file):
            try:
                yield place, record, parse_example(record, wanted)
            except ValueError as error:
                raise DataError(
                    f"The record at {place} of {file} is not a tf.train.Example: {error}. Write the file "
                    "again"
                ) from error


def _lacks_keys(
    file: Path, place: int, record: memoryview, image_key: str | None, label_key: str | None
) -> DataError:
    kinds = feature_kinds(record)
    found = ", ".join(f"{name} ({kind})" for name, kind in kinds.items()) or "none"
    lacking = [
        f"{what} in {', '.join(keys)}"
        for what, keys, fit in (
            ("image", image_keys(image_key), ("bytes",)),
            ("class", label_keys(label_key), ("bytes", "whole numbers")),
        )
        if not any(kinds.get(key) in (*fit, "empty") for key in keys)
    ]
    return DataError(
        f"The record at {place} of {file} has no {' and no '.join(lacking)}. Its keys: {found}. Name "
        "those of the image file and of its class with --image-key and --label-key"
    )


@contextlib.contextmanager
def _explained(file: Path) -> Iterator[None]:
    try:
        yield
    except DamagedRecordError as error:
        raise DataError(f"{error}. Write the file again, or remove it") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}. Check its permissions") from error


def _group(features: Example) -> str:
    groups = features.bytes_lists.get(GROUP, [])
    return bytes(groups[0]).decode("utf-8", "replace") if groups else ""


def _warn_of_objects(keys: set[str]) -> None:
    if keys & {OBJECT_TEXT, OBJECT_LABEL}:
        logger.warning("The classes of an image are those of the objects in it (%s)", ", ".join(sorted(keys)))


def _warn_of_numbers(numbers: dict[str, set[int]]) -> None:
    several = {name: sorted(found) for name, found in numbers.items() if len(found) > 1}
    if several:
        name, found = min(several.items())
        logger.warning(
            "%s with several numbers, such as %r with %s: only the names are used",
            count_of(len(several), "class"),
            name,
            ", ".join(map(str, found)),
        )

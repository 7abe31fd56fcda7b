"""Tables of samples: what images there are, which class each has, which split it belongs to."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from fastcls.errors import DataError

SPLITS = ("train", "val", "test")
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"})
SPLIT_TABLE = "split.csv"  # Lies in a split folder that is complete.
SPLIT_PLAN = ".split-plan.csv"  # Lies there as long as some of its files may be missing.
_SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Sample:
    """One image.

    Attributes:
        path: POSIX path relative to the dataset's root (absolute when a CSV says so).
        label: Index into the dataset's class names.
        split: "train", "val", "test", or "" when the data is not split.
        group: Samples of one non-empty group must stay in one split.
    """

    path: str
    label: int
    split: str = ""
    group: str = ""


@dataclass(frozen=True)
class Dataset:
    """A table of samples with its ordered class names.

    Attributes:
        root: Folder that sample paths are relative to.
        class_names: Sorted names; a sample's label is an index into them.
        samples: Sorted by path.
        left_out: How many files the folder holds besides: hidden, no image, or in no class folder.
            A hidden folder counts once.
    """

    root: Path
    class_names: tuple[str, ...]
    samples: tuple[Sample, ...]
    left_out: int = 0

    @classmethod
    def open(cls, path: Path) -> Dataset:
        """Read a CSV file or a folder, whichever `path` is.

        Raises:
            DataError: As in `from_csv` and `from_folder`.
        """
        return cls.from_csv(path) if path.is_file() else cls.from_folder(path)

    @classmethod
    def from_folder(cls, root: Path) -> Dataset:
        """List a folder that holds a folder per class, or train, val and test folders of such.

        Folders inside a class folder may be nested and may be symbolic links.

        Raises:
            DataError: The folder is missing, cannot be listed, or was left unfinished by split-data; a
                class has no image; there are fewer than two classes; a name is not UTF-8.
        """
        _require_finished_folder(root)
        folders = _visible_folders(root)
        is_split = _is_split(root, folders)
        listed, left_out = list_images(root)
        _require_utf8(listed)
        entries = [entry for entry in map(_split_entry if is_split else _class_entry, listed) if entry]
        left_out += len(listed) - len(entries)
        if is_split:
            left_out -= (root / SPLIT_TABLE).is_file()
            folders = [name for split in folders for name in _visible_folders(root / split)]
        _require_images(root, folders, entries)
        return _build(root, entries, source=root, left_out=left_out)

    @classmethod
    def from_csv(cls, path: Path) -> Dataset:
        """Read a CSV with the columns `path` and `label`, and `group` and `split` where it has them.

        Paths are relative to the CSV's folder, or absolute. A row that is there twice is one sample.

        Raises:
            DataError: The CSV cannot be read; a column, a label or a file is missing; two rows
                contradict each other; a split is unknown; there are fewer than two classes.
        """
        entries: dict[str, _Entry] = {}
        for line, row in _read_rows(path):
            entry = _csv_entry(path, line, row)
            if entries.setdefault(entry.path, entry) != entry:
                raise DataError(
                    f"{path}, line {line}: {entry.path!r} has another label, split or group before. "
                    f"Received: {entry[1:]}, before: {entries[entry.path][1:]}. Remove one of the rows."
                )
        _require_files(path, entries)
        return _build(path.parent, entries.values(), source=path)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that occur, in the order train, val, test."""
        found = {sample.split for sample in self.samples}
        return tuple(split for split in SPLITS if split in found)

    def subset(self, split: str) -> Dataset:
        """The samples of one split, with all class names.

        Raises:
            DataError: There is no split of that name.
        """
        if split not in SPLITS:
            raise DataError(f"Unknown split. Received: {split!r}. Choose one of: {', '.join(SPLITS)}.")
        return replace(self, samples=tuple(sample for sample in self.samples if sample.split == split))

    def counts(self) -> dict[str, dict[str, int]]:
        """Number of images by class name and split ("" stands for images that are not split)."""
        found = {sample.split for sample in self.samples}
        splits = [split for split in (*SPLITS, "") if split in found]
        table = {name: dict.fromkeys(splits, 0) for name in self.class_names}
        for sample in self.samples:
            table[self.class_names[sample.label]][sample.split] += 1
        return table

    def locate(self, sample: Sample) -> Path:
        """The file of a sample."""
        return self.root / sample.path


def is_image(name: str) -> bool:
    """Whether a file name has one of `IMAGE_SUFFIXES`, in any case."""
    return Path(name).suffix.lower() in IMAGE_SUFFIXES


def list_images(folder: Path) -> tuple[list[str], int]:
    """Find the visible images below a folder, through symbolic links.

    Returns:
        Their sorted POSIX paths relative to the folder, and how many other entries there are.

    Raises:
        DataError: A folder cannot be listed.
    """
    images: list[str] = []
    left_out = _scan(folder, "", frozenset(), images)
    return sorted(images), left_out


class _Entry(NamedTuple):
    """A sample that knows its class by name."""

    path: str
    class_name: str
    split: str = ""
    group: str = ""


def _build(root: Path, entries: Iterable[_Entry], *, source: Path, left_out: int = 0) -> Dataset:
    class_names = tuple(sorted({entry.class_name for entry in entries}))
    if len(class_names) < 2:
        found = f"one class, {class_names[0]!r}" if class_names else "no class"
        raise DataError(
            f"{source} holds {found}. A classifier needs at least two: add a folder or label per class."
        )
    labels = {name: label for label, name in enumerate(class_names)}
    samples = (
        Sample(entry.path, labels[entry.class_name], entry.split, entry.group) for entry in sorted(entries)
    )
    return Dataset(root, class_names, tuple(samples), left_out)


# Folders


def _scan(
    folder: Path | os.DirEntry[str], prefix: str, above: frozenset[tuple[int, int]], images: list[str]
) -> int:
    above = above | {_identity(folder)}
    left_out = 0
    for entry in _list(folder):
        if entry.name.startswith("."):
            left_out += 1
        elif _is_folder(entry):
            # A link to a folder above would lead around for ever.
            looping = entry.is_symlink() and _identity(entry) in above
            left_out += 1 if looping else _scan(entry, f"{prefix}{entry.name}/", above, images)
        elif is_image(entry.name):
            images.append(prefix + entry.name)
        else:
            left_out += 1
    return left_out


def _list(folder: Path | os.DirEntry[str]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise DataError(
            f"{os.fspath(folder)} cannot be listed ({error.strerror}). Correct its permissions."
        ) from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # A link that points to itself.
        return False


def _identity(folder: Path | os.DirEntry[str]) -> tuple[int, int]:
    status = os.stat(folder)  # noqa: PTH116 (an entry is no Path)
    return status.st_dev, status.st_ino


def _visible_folders(folder: Path) -> list[str]:
    return sorted(
        entry.name for entry in _list(folder) if _is_folder(entry) and not entry.name.startswith(".")
    )


def _is_split(root: Path, folders: Sequence[str]) -> bool:
    """Whether the folders are splits, not classes: "train" with images in it could be a class of vehicles."""
    named = "train" in folders and all(name in _SPLIT_NAMES for name in folders)
    return named and bool(_visible_folders(root / "train"))


def _class_entry(path: str) -> _Entry | None:
    class_name, _, inner = path.partition("/")
    return _Entry(path, class_name) if inner else None


def _split_entry(path: str) -> _Entry | None:
    split, _, rest = path.partition("/")
    class_name, _, inner = rest.partition("/")
    return _Entry(path, class_name, _SPLIT_NAMES[split]) if inner else None


def _require_finished_folder(root: Path) -> None:
    if not root.is_dir():
        fact = "is not a folder" if root.exists() else "does not exist"
        raise DataError(
            f"{root} {fact}. Give a folder that holds a folder of images per class, or a CSV file."
        )
    if (root / SPLIT_PLAN).exists():
        raise DataError(f"{root} is incomplete: split-data was interrupted. Run the same split-data again.")


def _require_utf8(paths: Iterable[str]) -> None:
    bad = [os.fsencode(path) for path in paths if not _is_utf8(path)]
    if bad:
        raise DataError(f"{len(bad)} file names are not UTF-8: {_some(bad)}. Rename them.")


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _require_images(root: Path, folders: Iterable[str], entries: Iterable[_Entry]) -> None:
    empty = sorted(set(folders) - {entry.class_name for entry in entries})
    if empty:
        raise DataError(
            f"{root} has class folders without an image (empty class): {_some(empty)}. "
            f"Put images into them or remove them. Images are: {' '.join(sorted(IMAGE_SUFFIXES))}"
        )


# CSV files


def _read_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield each row by stripped column name, with its line number."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            _require_columns(path, header)
            for row in reader:
                if row:
                    yield reader.line_num, dict(zip(header, row, strict=False))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV ({error}). Save it as UTF-8 with commas.") from error


def _require_columns(path: Path, header: Sequence[str]) -> None:
    missing = [name for name in ("path", "label") if name not in header]
    if missing:
        raise DataError(
            f"{path} has no column {' and no column '.join(missing)}. Received: {', '.join(header)}. "
            "Its first line must be: path,label (and group, split where wanted), separated by commas."
        )


def _csv_entry(path: Path, line: int, row: dict[str, str]) -> _Entry:
    for column in ("path", "label"):
        if not row.get(column, "").strip():
            raise DataError(f"{path}, line {line}: the {column} is empty. Fill it in or remove the line.")
    split = row.get("split", "").strip()
    if split and split not in _SPLIT_NAMES:
        raise DataError(
            f"{path}, line {line}: unknown split {split!r}. Write one of: {', '.join(SPLITS)}, or nothing."
        )
    image = Path(row["path"]).as_posix()
    return _Entry(image, row["label"].strip(), _SPLIT_NAMES.get(split, ""), row.get("group", "").strip())


def _require_files(table: Path, paths: Iterable[str]) -> None:
    # Path.is_file raises for a name that is too long.
    missing = [path for path in paths if not os.path.isfile(table.parent / path)]  # noqa: PTH113
    if missing:
        raise DataError(
            f"{table} lists {len(missing)} files that do not exist: {_some(missing)}. "
            f"Paths must be absolute or relative to {table.parent}."
        )


def _some(names: Sequence[str] | Sequence[bytes]) -> str:
    """The first few names, as text for an error message."""
    return ", ".join(map(repr, names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")

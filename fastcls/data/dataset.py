"""Tables of samples: which images there are, and the classes and split of each."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fastcls.data.names import safe_name
from fastcls.data.readers.csv import is_split_table, read_csv
from fastcls.data.readers.entries import SPLIT_NAMES, SPLITS, Entry, some
from fastcls.data.readers.folder import (
    FolderContent,
    LeftOut,
    Reason,
    image_suffixes,
    list_images,
    visible_folders,
    warn_of_left_out,
)
from fastcls.data.readers.given import refuse_other_file, refuse_other_folder
from fastcls.data.readers.tfrecord import common_folder, find_tfrecords, is_one_of, read_tfrecords
from fastcls.data.split_table import (
    SPLIT_PLAN,
    SPLIT_TABLE,
    has_split_rows,
    missing_rows,
    read_split_rows,
    require_named,
)
from fastcls.errors import DataError, shown
from fastcls.files import PathLike, as_path
from fastcls.optional import frame
from fastcls.specs import as_list, check_type
from fastcls.tasks import ONE_LABEL, Task

if TYPE_CHECKING:
    import pandas

_NAME_BYTES = 100  # of the 255 that file systems allow
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sample:
    """One image.

    Attributes:
        path: POSIX path relative to the dataset's root (absolute when a CSV says so).
        labels: Sorted indices into the dataset's class names: one, or any number if its task has several.
        split: "train", "val", "test", or "" when the data is not split.
        group: Samples of one non-empty group must stay in one split.
    """

    path: str
    labels: tuple[int, ...]
    split: str = ""
    group: str = ""

    @property
    def label(self) -> int:
        """The label of a sample that has exactly one."""
        (label,) = self.labels
        return label


@dataclass(frozen=True)
class Dataset:
    """A table of samples with its ordered class names.

    Attributes:
        root: Folder that sample paths are relative to.
        class_names: Sorted names; a sample's labels are indices into them.
        samples: Sorted by path.
        left_out: Number of other files in the folder: hidden, not an image, or outside class folders.
            A hidden folder counts once.
        task: What is asked of an image: one label, or any number of them.
        source: The folder, file or pattern that it was read from; None for the root.
    """

    root: Path
    class_names: tuple[str, ...]
    samples: tuple[Sample, ...]
    left_out: int = 0
    task: Task = ONE_LABEL
    source: Path | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        sizes = Counter(sample.split for sample in self.samples)
        parts = ", ".join(f"{sizes[name]} {name}" for name in self.splits if name)
        shown = f"{len(self.samples)} images of {len(self.class_names)} classes"
        return f"<Dataset {self.name}: {shown}{f' ({parts})' if parts else ''}>"

    @classmethod
    def of(cls, data: Dataset | PathLike) -> Dataset:
        """A data set itself, or that of a path.

        Raises:
            OptionError: It is neither.
            DataError: As in `open`.
        """
        return data if isinstance(data, Dataset) else cls.open(as_path(data, "dataset", "a Dataset"))

    @classmethod
    def open(
        cls,
        path: PathLike,
        *,
        label_separator: str | None = None,
        image_root: PathLike | None = None,
        image_key: str | None = None,
        label_key: str | None = None,
    ) -> Dataset:
        """Read a CSV file, a folder or TFRecord files, whichever `path` is.

        Args:
            path: A CSV, a folder as `from_folder` takes it, or one that split-data made for several labels
                per image: it holds only a table. Or a TFRecord file, a folder of such, or a pattern.
            label_separator: As in `from_csv`; nothing else takes it.
            image_root: As in `from_csv`; nothing else takes it.
            image_key: As in `from_tfrecords`; nothing else takes it.
            label_key: As in `from_tfrecords`; nothing else takes it.

        Raises:
            DataError: As in `from_csv`, `from_folder` and `from_tfrecords`.
        """
        path = as_path(path, "path")
        records = find_tfrecords(path)
        if not records and (image_key is not None or label_key is not None):
            raise DataError(
                f"{path} is not a TFRecord file or a folder of such: --image-key and --label-key apply only "
                "to these. Remove them."
            )
        if path.is_file() and not records:
            refuse_other_file(path)
            return cls.from_csv(path, label_separator=label_separator, image_root=image_root)
        if label_separator is not None or image_root is not None:
            raise DataError(
                f"{path} is not a CSV: --label-separator and --image-root apply only to a CSV of paths and "
                "labels. Remove them."
            )
        if records:
            made = cls.from_tfrecords(records, image_key=image_key, label_key=label_key)
            return replace(made, source=path)
        if (path / SPLIT_TABLE).is_file() and is_split_table(path / SPLIT_TABLE):
            return cls.from_csv(path / SPLIT_TABLE)
        return cls.from_folder(path)

    @classmethod
    def from_folder(cls, root: PathLike) -> Dataset:
        """List a folder that holds a folder per class, or train, val and test folders of such.

        Folders inside a class folder may be nested and may be symbolic links. Of a folder that split-data
        made, images are what its table names; those that are no longer there are left out with a warning.

        Raises:
            DataError: The folder is missing, cannot be listed, or was left unfinished by split-data; a
                class has no image; there are fewer than two classes; a name is not UTF-8; split-data made
                it, and it holds images that the table does not name, or the table is damaged.
        """
        root = as_path(root, "root")
        _require_finished_folder(root)
        content = list_images(root)
        has_table = has_split_rows(root / SPLIT_TABLE)
        folders = visible_folders(root)
        is_split = has_table or _is_split(root, folders)
        entries = _table_entries(root, content) if has_table else _entries(root, content, is_split=is_split)
        taken = {entry.path for entry in entries}
        loose = [LeftOut(path, Reason.LOOSE) for path in content.images if path not in taken]
        left_out = [*content.left_out, *loose]
        if is_split:
            left_out = [each for each in left_out if each.path != SPLIT_TABLE]
            splits = [name for name in folders if name in SPLIT_NAMES]
            folders = [name for split in splits for name in visible_folders(root / split)]
        refuse_other_folder(root, folders, content)
        warn_of_left_out(root, left_out)
        _require_images(root, folders, entries)
        class_names = tuple(sorted({name for entry in entries for name in entry.class_names}))
        return _build(root, entries, class_names, source=root, left_out=len(left_out))

    @classmethod
    def from_csv(
        cls, path: PathLike, *, label_separator: str | None = None, image_root: PathLike | None = None
    ) -> Dataset:
        """Read a CSV with the columns `path` and `label`, and `group` and `split` where it has them.

        With a separator, or with a column of 0 and 1 per class in place of `label`, the data set is
        multi-label. A duplicate row is one sample.

        Args:
            path: The CSV.
            label_separator: What separates the labels of an image, such as "|"; None for one label.
            image_root: Folder that the paths are relative to, unless they are absolute; None for the CSV's.

        Raises:
            DataError: The CSV cannot be read; a column, a label or a file is missing; two rows
                contradict each other; a split is unknown; there are fewer than two classes.
            OptionError: The separator is invalid.
        """
        path = as_path(path, "path")
        image_root = None if image_root is None else as_path(image_root, "image_root")
        if label_separator is not None:
            check_type("label_separator", label_separator, str)
        table = read_csv(path, label_separator=label_separator, image_root=image_root)
        made = _build(image_root or path.parent, table.entries, table.class_names, source=path)
        source = path.parent if path.name == SPLIT_TABLE else path
        return replace(made, task=table.task, source=source)

    @classmethod
    def from_tfrecords(
        cls,
        files: Sequence[PathLike] | PathLike,
        *,
        image_key: str | None = None,
        label_key: str | None = None,
    ) -> Dataset:
        """List the images in TFRecord files; the path of each is the address of its record, `FILE#PLACE`.

        Args:
            files: The files.
            image_key: The feature that holds the image file; None for those of known tools.
            label_key: The feature that holds the classes, as names or as numbers; None for those of known
                tools.

        Raises:
            DataError: As in `read_tfrecords`, or there are fewer than two classes.
        """
        paths = [as_path(file, "files") for file in as_list(files, "files", str, os.PathLike)]
        table, root = read_tfrecords(paths, image_key=image_key, label_key=label_key), common_folder(paths)
        source = root if len(paths) > 1 else paths[0]
        made = _build(root, table.entries, table.class_names, source=source)
        return replace(made, task=table.task, source=root)

    @property
    def given(self) -> Path:
        """Path that it was read from, as it was given."""
        return self.source or self.root

    @property
    def origin(self) -> Path:
        """Absolute path that it was read from."""
        return Path(os.path.abspath(self.given))  # noqa: PTH100 (a link stays what it is called)

    @property
    def name(self) -> str:
        """Its name, after its folder or file, safe as a file name."""
        given = self.origin.name if os.path.isdir(self.origin) else self.origin.stem  # noqa: PTH112 (any text)
        named = safe_name(given).strip("._-") or safe_name(self.root.absolute().name).strip("._-")
        return named.encode()[:_NAME_BYTES].decode(errors="ignore") or "data"

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
            raise DataError(f"Unknown split. Received: {shown(split)}. Choose one of: {', '.join(SPLITS)}.")
        return replace(self, samples=tuple(sample for sample in self.samples if sample.split == split))

    def counts(self) -> dict[str, dict[str, int]]:
        """Number of images by class name and split ("" for images that are not split).

        In multi-label data an image counts for each of its classes.
        """
        found = {sample.split for sample in self.samples}
        splits = [split for split in (*SPLITS, "") if split in found]
        table = {name: dict.fromkeys(splits, 0) for name in self.class_names}
        for sample in self.samples:
            for label in sample.labels:
                table[self.class_names[label]][sample.split] += 1
        return table

    @property
    def found_classes(self) -> tuple[str, ...]:
        """Names of the classes that images have, sorted: a table may name others too."""
        labels = {label for sample in self.samples for label in sample.labels}
        return tuple(self.class_names[label] for label in sorted(labels))

    def names_of(self, sample: Sample) -> tuple[str, ...]:
        """Names of the classes of a sample, sorted."""
        return tuple(self.class_names[label] for label in sample.labels)

    def locate(self, sample: Sample) -> Path:
        """The file of a sample."""
        return self.root / sample.path

    def to_frame(self) -> pandas.DataFrame:
        """A row per sample: path, label (with several labels per image `labels`, a tuple), split and group.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        rows = ((s.path, self.task.value(self.names_of(s)), s.split, s.group) for s in self.samples)
        return frame(rows, ("path", self.task.column, "split", "group"))


def _build(
    root: Path, entries: Iterable[Entry], class_names: tuple[str, ...], *, source: Path, left_out: int = 0
) -> Dataset:
    if len(class_names) < 2:
        found = f"only one class, {class_names[0]!r}" if class_names else "no class"
        more = (
            f" It is one of several files: name their folder, {source.parent}." if is_one_of(source) else ""
        )
        raise DataError(
            f"{source} has {found}. A classifier needs at least two: add a folder or label per class.{more}"
        )
    index = {name: label for label, name in enumerate(class_names)}
    samples = (
        Sample(entry.path, tuple(index[name] for name in entry.class_names), entry.split, entry.group)
        for entry in sorted(entries)
    )
    return Dataset(root, class_names, tuple(samples), left_out)


# Folders


def _is_split(root: Path, folders: Sequence[str]) -> bool:
    """Whether the folders are splits, not classes: "train" with images in it could be a class of vehicles."""
    named = "train" in folders and all(name in SPLIT_NAMES for name in folders)
    return named and bool(visible_folders(root / "train"))


def _table_entries(root: Path, content: FolderContent) -> list[Entry]:
    """The images of a split folder: those that its table names and that are there."""
    rows = read_split_rows(root / SPLIT_TABLE)
    require_named(root, rows, content.images)
    missing = missing_rows(rows, content.images)
    if missing:
        logger.warning(
            "%s: %d images listed in %s no longer exist and are left out: %s. split-data restores them if "
            "its source still has them",
            root,
            len(missing),
            SPLIT_TABLE,
            some([row.path for row in missing]),
        )
    gone = set(missing)
    return [Entry(row.path, (row.class_name,), row.split, row.group) for row in rows if row not in gone]


def _entries(root: Path, content: FolderContent, *, is_split: bool) -> list[Entry]:
    """The images of a folder of classes, or of splits: those in a class folder."""
    _require_utf8(content.images)
    made = map(_split_entry if is_split else _class_entry, content.images)
    return [entry for entry in made if entry]


def _class_entry(path: str) -> Entry | None:
    class_name, _, inner = path.partition("/")
    return Entry(path, (class_name,)) if inner else None


def _split_entry(path: str) -> Entry | None:
    split, _, rest = path.partition("/")
    class_name, _, inner = rest.partition("/")
    return Entry(path, (class_name,), SPLIT_NAMES[split]) if inner else None


def _require_finished_folder(root: Path) -> None:
    if not root.is_dir():
        fact = "is not a folder" if root.exists() else "does not exist"
        raise DataError(
            f"{root} {fact}. Pass a folder with one subfolder of images per class, a CSV file, or TFRecord "
            "files."
        )
    if (root / SPLIT_PLAN).exists():
        raise DataError(
            f"{root} is incomplete: split-data was interrupted or is still running. "
            "Run the same split-data again."
        )


def _require_utf8(paths: Iterable[str]) -> None:
    bad = [os.fsencode(path) for path in paths if not _is_utf8(path)]
    if bad:
        raise DataError(f"{len(bad)} file names are not UTF-8: {some(bad)}. Rename them.")


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _require_images(root: Path, folders: Iterable[str], entries: Iterable[Entry]) -> None:
    empty = sorted(set(folders) - {name for entry in entries for name in entry.class_names})
    if empty:
        raise DataError(
            f"{root} has class folders without images (empty class): {some(empty)}. Add images or remove "
            f"them. Image suffixes: {' '.join(image_suffixes())}"
        )

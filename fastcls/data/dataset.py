"""Tables of samples: which images there are, and the classes and split of each."""

from __future__ import annotations

import functools
import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastcls.data import image_bytes
from fastcls.data.conflicts import Claim, describe_conflicts, find_conflicts, require_classes
from fastcls.data.names import nfc, safe_name
from fastcls.data.readers.class_folders import read_folder
from fastcls.data.readers.csv import is_split_table
from fastcls.data.readers.entries import SPLITS, Entry, Table, some
from fastcls.data.readers.given import require_effect
from fastcls.data.readers.tables import count_unlisted, find_tables, read_tables
from fastcls.data.readers.tfrecord import common_folder, find_tfrecords, is_one_of, read_tfrecords
from fastcls.data.readers.webdataset import find_tars, read_webdataset
from fastcls.data.split_table import SPLIT_TABLE
from fastcls.errors import DataError, shown
from fastcls.files import PathLike, as_path
from fastcls.garbage import uncollected
from fastcls.optional import frame
from fastcls.specs import as_list
from fastcls.specs.data import ReadSpec
from fastcls.specs.options import as_spec
from fastcls.storage.paths import absolute, as_place, data_place
from fastcls.tasks import ONE_LABEL, Task
from fastcls.wording import count_of

if TYPE_CHECKING:
    import numpy as np
    import pandas

_NAME_BYTES = 100  # of the 255 that file systems allow
_UNLABELED = "-unlabeled"
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
        left_out: Number of other files in the folder: hidden, not an image, or outside class folders
            or metadata. A hidden folder counts once.
        task: What is asked of an image: one label, or any number of them.
        source: The folder, file or pattern that it was read from; None for the root.
        reading: How its table was read, where that had to be found out; "" for a plain one.
    """

    root: Path
    class_names: tuple[str, ...]
    samples: tuple[Sample, ...]
    left_out: int = 0
    task: Task = ONE_LABEL
    source: Path | None = field(default=None, compare=False)
    reading: str = field(default="", compare=False)

    def __repr__(self) -> str:
        sizes = Counter(sample.split for sample in self.samples)
        parts = ", ".join(f"{sizes[name]:,} {name}" for name in self.splits if name)
        return f"<Dataset {self.name}: {self.counted}{f' ({parts})' if parts else ''}>"

    @property
    def counted(self) -> str:
        """How many images and classes there are, in words."""
        classes = count_of(len(self.class_names), "class")
        return f"{count_of(len(self.samples), 'image')} of {classes}"

    @classmethod
    def of(cls, data: Dataset | PathLike) -> Dataset:
        """A data set itself, or that of a path.

        Raises:
            OptionError: It is neither.
            DataError: As in `open`.
        """
        return data if isinstance(data, Dataset) else cls.open(data_place(data, "dataset", "a Dataset"))

    @classmethod
    def open(
        cls, path: PathLike, spec: ReadSpec | None = None, *, for_test: bool = False, **options: Any
    ) -> Dataset:
        """Read a folder, a table or TFRecord files, whichever `path` is.

        Args:
            path: A folder as `from_folder` takes it, a table as `from_csv` takes it, or a folder that
                split-data made for several labels per image: it holds only a table. Or a TFRecord file, a
                folder of such, or a pattern.
            spec: How it is read.
            for_test: It is to be tested by a classifier that knows the classes: it may have one class alone,
                and class folders may be empty.
            options: Fields of `ReadSpec` by name, such as `label_column="diagnosis"`.

        Raises:
            DataError: As in `from_csv`, `from_folder` and `from_tfrecords`; or identical images have
                different labels, and `conflicts` is "error".
            OptionError: An option is invalid, or has no effect on what `path` is.
        """
        path, spec = data_place(path, "path"), replace(as_spec(ReadSpec, spec, "spec"), **options)
        dataset = cls._open(path, spec, for_test=for_test)
        return dataset if spec.conflicts == "keep" else dataset.without_conflicts(spec.conflicts)

    @classmethod
    @uncollected()
    def _open(cls, path: Path, spec: ReadSpec, *, for_test: bool) -> Dataset:
        records, tars = find_tfrecords(path), find_tars(path)
        tables = [] if records or tars else find_tables(path, spec)
        require_effect(path, spec, is_table=bool(tables), has_records=bool(records or tars))
        keys = spec.image_key, spec.label_key
        if tars:
            table, root = read_webdataset(tars, image_key=keys[0], label_key=keys[1])
            made = _build(root, table.entries, table.class_names, source=path, for_test=for_test)
            return replace(made, source=path)
        if records:
            made = cls.from_tfrecords(records, image_key=keys[0], label_key=keys[1], for_test=for_test)
            return replace(made, source=path)
        if (path / SPLIT_TABLE).is_file() and is_split_table(path / SPLIT_TABLE):
            return cls.from_csv(path / SPLIT_TABLE)
        if not tables:
            return cls.from_folder(path, folders_are_classes=spec.folders_are_classes, for_test=for_test)
        table, root = read_tables(tables, path, spec)
        left_out = 0 if spec.image_root else count_unlisted(tables, path, table)
        listed = root, table.entries, table.class_names
        made = _build(*listed, source=path, left_out=left_out, for_test=for_test)
        return replace(made, task=table.task, source=path, reading=_in_words(path, table))

    @classmethod
    @uncollected()
    def from_folder(
        cls, root: PathLike, *, folders_are_classes: bool = False, for_test: bool = False
    ) -> Dataset:
        """List a folder that holds a folder per class, or train, val and test folders of such.

        Folders inside a class folder may be nested and may be symbolic links. Of a folder that split-data
        made, images are what its table names; those that are no longer there are left out with a warning.

        Args:
            root: The folder.
            folders_are_classes: Do not take folders that are named like parts (train, val, test) as such.
            for_test: See `open`.

        Raises:
            DataError: See `read_folder`; or there are fewer than two classes.
        """
        root = data_place(root, "root")
        entries, left_out = read_folder(root, folders_are_classes=folders_are_classes, may_be_empty=for_test)
        class_names = tuple(sorted({name for entry in entries for name in entry.class_names}))
        return _build(root, entries, class_names, source=root, left_out=left_out, for_test=for_test)

    @classmethod
    def from_csv(cls, path: PathLike, spec: ReadSpec | None = None, **options: Any) -> Dataset:
        """Read a table of paths and labels, and of groups and splits where it has them: a CSV or the like.

        With a separator, lists in the cells, or a column of 0 and 1 per class in place of `label`, the data
        set is multi-label. A duplicate row is one sample.

        Args:
            path: The table.
            spec: How it is read.
            options: Fields of `ReadSpec` by name.

        Raises:
            DataError: The table cannot be read; a column, a label or a file is missing; two rows
                contradict each other; a split is unknown; there are fewer than two classes.
            OptionError: An option is invalid.
        """
        path, spec = data_place(path, "path"), replace(as_spec(ReadSpec, spec, "spec"), **options)
        table, root = read_tables([path], path, spec)
        made = _build(root, table.entries, table.class_names, source=path)
        source = path.parent if path.name == SPLIT_TABLE else path
        return replace(made, task=table.task, source=source, reading=_in_words(path, table))

    @classmethod
    def from_tfrecords(
        cls,
        files: Sequence[PathLike] | PathLike,
        *,
        image_key: str | None = None,
        label_key: str | None = None,
        for_test: bool = False,
    ) -> Dataset:
        """List the images in TFRecord files; the path of each is the address of its record, `FILE#PLACE`.

        Args:
            files: The files.
            image_key: The feature that holds the image file; None for those of known tools.
            label_key: The feature that holds the classes, as names or as numbers; None for those of known
                tools.
            for_test: See `open`.

        Raises:
            DataError: As in `read_tfrecords`, or there are fewer than two classes.
        """
        paths = [as_path(file, "files") for file in as_list(files, "files", str, os.PathLike)]
        table, root = read_tfrecords(paths, image_key=image_key, label_key=label_key), common_folder(paths)
        source = root if len(paths) > 1 else paths[0]
        made = _build(root, table.entries, table.class_names, source=source, for_test=for_test)
        return replace(made, task=table.task, source=root)

    @property
    def given(self) -> Path:
        """Path that it was read from, as it was given."""
        return self.source or self.root

    @property
    def origin(self) -> Path:
        """Absolute path that it was read from."""
        return absolute(self.given)

    @property
    def name(self) -> str:
        """Its name, after its folder or file, safe as a file name; images without classes have their own."""
        given = self.origin.name if os.path.isdir(self.origin) else self.origin.stem  # noqa: PTH112 (any text)
        named = safe_name(given).strip("._-") or safe_name(self.root.absolute().name).strip("._-")
        named = named.encode()[:_NAME_BYTES].decode(errors="ignore") or "data"
        return named if self.class_names else f"{named}{_UNLABELED}"

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
        if not isinstance(split, str) or split not in SPLITS:
            raise DataError(f"Unknown split. Received: {shown(split)}. Choose one of: {', '.join(SPLITS)}.")
        return replace(self, samples=tuple(sample for sample in self.samples if sample.split == split))

    def without_conflicts(self, conflicts: str = "drop") -> Dataset:
        """The data set without identical images that have different labels; only files of one size are read.

        Args:
            conflicts: "drop" leaves out all of them, with a warning.

        Raises:
            DataError: There are such images, and `conflicts` is "error"; or a class has no others.
        """
        groups = self._conflicts()
        if not groups:
            return self
        fact = self._describe(groups)
        if conflicts == "error":
            raise DataError(f"{fact}. Keep one of each, or leave them all out with --conflicts drop.")
        logger.warning("%s. All of them are left out", fact)
        dropped = {place for group in groups for place in group}
        kept = tuple(sample for place, sample in enumerate(self.samples) if place not in dropped)
        made = replace(self, samples=kept)
        require_classes(self.given, self.found_classes, made.found_classes)
        return made

    def warn_of_conflicts(self, digests: Sequence[str] | np.ndarray | None = None) -> None:
        """Name and count identical images that have different labels; only files of one size are read.

        Args:
            digests: Of the images, as far as they are known: "" for others.
        """
        if groups := self._conflicts(digests):
            told = self._describe(groups)
            logger.warning("%s. All copies are kept; --conflicts drop leaves them out", told)

    def _conflicts(self, digests: Sequence[str] | np.ndarray | None = None) -> list[list[int]]:
        paths, labels = [s.path for s in self.samples], [s.labels for s in self.samples]
        return find_conflicts(self.root, paths, labels, digests)

    def _describe(self, conflicts: Iterable[Iterable[int]]) -> str:
        samples = [[self.samples[place] for place in group] for group in conflicts]
        return describe_conflicts(
            self.given, [[Claim(sample.path, self.names_of(sample)) for sample in group] for group in samples]
        )

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
        return as_place(image_bytes.located(self.root, sample.path))

    def to_frame(self) -> pandas.DataFrame:
        """A row per sample: path, label (with several labels per image `labels`, a tuple), split and group.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        rows = ((s.path, self.task.value(self.names_of(s)), s.split, s.group) for s in self.samples)
        return frame(rows, ("path", self.task.column, "split", "group"))


def _build(
    root: Path,
    entries: Iterable[Entry],
    class_names: tuple[str, ...],
    *,
    source: Path,
    left_out: int = 0,
    for_test: bool = False,
) -> Dataset:
    class_names = tuple(sorted({nfc(name) for name in class_names}))
    if len(class_names) < (1 if for_test else 2):
        found = f"only one class, {class_names[0]!r}" if class_names else "no class"
        more = (
            f" It is one of several files: name their folder, {source.parent}." if is_one_of(source) else ""
        )
        raise DataError(
            f"{source} has {found}. A classifier needs at least two: add a folder or label per class.{more}"
        )
    _warn_of_case(source, class_names)
    index = {name: label for label, name in enumerate(class_names)}
    labels = functools.cache(lambda names: _labels(names, index))  # one tuple for images of the same classes
    samples = (Sample(path, labels(names), split, group) for path, names, split, group in sorted(entries))
    return Dataset(root, class_names, tuple(samples), left_out)


def _labels(names: Iterable[str], index: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(sorted({index[nfc(name)] for name in names}))


def _warn_of_case(source: Path, class_names: Iterable[str]) -> None:
    alike: dict[str, list[str]] = {}
    for name in class_names:
        alike.setdefault(name.casefold(), []).append(name)
    same = [name for names in alike.values() if len(names) > 1 for name in names]
    if same:
        logger.warning("%s has classes that differ only in upper and lower case: %s", source, some(same))


def _in_words(path: Path, table: Table) -> str:
    return f"{path}: {'; '.join(table.notes)}" if table.notes else ""

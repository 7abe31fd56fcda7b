"""What a file or a folder is that was given as a data set but is none."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from pathlib import Path

from fastcls.data.image_formats import describe_other, kind_of
from fastcls.data.readers.csv import label_tables
from fastcls.data.readers.entries import some
from fastcls.data.readers.folder import FolderContent
from fastcls.data.readers.tfrecord import find_tfrecords
from fastcls.data.split_table import has_split_rows
from fastcls.data.tfrecord import begins_with_record, is_tfrecord
from fastcls.errors import DataError
from fastcls.specs.data import ReadSpec
from fastcls.wording import count_of

_HEAD_BYTES = 512
_SAVED = ("dataset_info.json", "dataset_dict.json")  # in what `datasets` saves to a disk
_TAR = (257, b"ustar")
# What `describe_other` calls a file that may be a table.
_MAYBE_TABLE = ("text", "of an unknown format", "only zero bytes")
_UNPACK = {"a zip archive": "unzip", "a gzip archive": "gunzip -k", "an archive (7z or RAR)": "7z x"}
logger = logging.getLogger(__name__)


def refuse_other_file(path: Path) -> None:
    """Refuse a file that is certainly no table: an image, an archive, records under another name.

    Raises:
        DataError: It is one; the message says what was meant.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:  # reported when it is read
        return
    told = _described(path, head)
    if told:
        raise DataError(
            f"{path} is {told}. A data set is a folder with a folder of images per class, a table "
            "(CSV, JSON Lines, Parquet), or TFRecord files."
        )


def refuse_other_folder(root: Path, folders: Sequence[str], content: FolderContent) -> None:
    """Refuse a folder that is a class, or that lies above or beside the data; warn of tables of labels in it.

    Args:
        root: The folder.
        folders: Names of those in it that may be classes.
        content: All that it holds.

    Raises:
        DataError: It is one; the message says what was meant.
    """
    tables = name_label_tables(root)
    if tables and len(folders) < 2:
        raise DataError(f"{root} has no class folders{tables}.")
    told = _of_images(root, folders, content) if content.images else _of_records(root, folders, content)
    if told:
        raise DataError(f"{root} has no class folders: {told}")
    if tables:
        logger.warning("%s: classes are its folders%s", root, tables)


def refuse_saved(root: Path) -> None:
    """Refuse a folder that the package `datasets` has saved to a disk.

    Raises:
        DataError: It is one; the message says what to write instead.
    """
    if any((root / name).is_file() for name in _SAVED):
        raise DataError(
            f"{root} was written by save_to_disk of the package datasets, in files of Arrow. Write Parquet "
            f"instead, of each part: datasets.load_from_disk({str(root)!r}).to_parquet('data.parquet')"
        )


def require_effect(path: Path, spec: ReadSpec, *, is_table: bool, has_records: bool) -> None:
    """Refuse options that have no effect on what a path is.

    Raises:
        DataError: There are such options.
    """
    if (spec.image_key is not None or spec.label_key is not None) and not has_records:
        raise DataError(
            f"{path} is not a TFRecord file, a tar file or a folder of such: --image-key and --label-key "
            "apply only to these. Remove them."
        )
    if spec.folders_are_classes and (is_table or has_records):
        raise DataError(
            f"{path} is read from {'a table' if is_table else 'records'}, not from class folders: "
            "--folders-are-classes has no effect. Remove it."
        )
    if spec.of_tables and not is_table:
        raise DataError(
            f"{path} is not a CSV. These options apply only to a CSV or another table of paths and labels: "
            f"{', '.join(spec.of_tables)}. Remove them."
        )


def name_label_tables(root: Path) -> str:
    """What tables of labels a folder has, and what to do; "" if there is none, but that of a split folder."""
    tables = [table for table in label_tables(root) if not has_split_rows(table)]
    if not tables:
        return ""
    names = some([table.name for table in tables])
    return f", but {names} in it may have the labels: if so, give the table, {shlex.quote(str(tables[0]))}"


def _of_images(root: Path, folders: Sequence[str], content: FolderContent) -> str:
    """What a folder with images below it is, and what to do; "" where there may be classes."""
    if not folders:
        return (
            f"it holds {count_of(len(content.images), 'image')}, as a class folder does. "
            f"Name its parent folder, which "
            f"holds a folder per class: {root.absolute().parent}"
        )
    if len(folders) > 1:
        return ""
    inner = {path.split("/")[1] for path in content.images if path.count("/") > 1}
    if len(inner) > 1:
        return f"the only folder in it holds folders of images itself. Name that: {root / folders[0]}"
    return ""


def _of_records(root: Path, folders: Sequence[str], content: FolderContent) -> str:
    """Where the TFRecord files of a folder without images are, and what to do; "" where it has none."""
    packed = [path for path, _ in content.left_out if path.endswith(".gz") and is_tfrecord(path[:-3])]
    if packed:
        return (
            f"it holds compressed TFRecord files such as {packed[0]!r}. Images are read by their place in a "
            f"file, so unpack them: gunzip -k {shlex.quote(str(root / packed[0]))}"
        )
    holder = next((name for name in folders if find_tfrecords(root / name)), None)
    return f"{holder} in it holds TFRecord files. Name that: {root / holder}" if holder else ""


def _described(path: Path, head: bytes) -> str:
    """What a file is and what to do; "" for one that may be a table."""
    named = shlex.quote(str(path))
    kind = kind_of(head)
    if kind:
        article = "an" if kind[0] in "AH" else "a"
        folder = path.absolute().parent
        return f"{article} {kind} image. Name the folder that holds its class folder: {folder.parent}"
    if begins_with_record(head):
        return f"a TFRecord file by what it holds. Its name must say so: ln -s {named} {named}.tfrecord"
    if head[_TAR[0] :].startswith(_TAR[1]):
        return f"a tar archive. Unpack it first: tar xf {named}"
    other = describe_other(head) if head else ""
    if not other or other.startswith(_MAYBE_TABLE):
        return ""
    if path.name.lower().endswith((".tar.gz", ".tgz")):
        return f"a tar archive. Unpack it first: tar xf {named}"
    if other in _UNPACK:
        return f"{other}. Unpack it first: {_UNPACK[other]} {named}"
    return other

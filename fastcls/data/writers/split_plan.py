"""Plan a split folder: which image gets which place in it. Nothing is written here."""

from __future__ import annotations

import itertools
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from fastcls import files
from fastcls.data import image_bytes
from fastcls.data.dataset import Dataset
from fastcls.data.image_files import how_to_read, is_readable
from fastcls.data.image_formats import named_kind
from fastcls.data.names import nfc
from fastcls.data.split_table import SplitRow
from fastcls.data.splitter import assign_splits, file_digests
from fastcls.data.tfrecord import split_address
from fastcls.errors import DataError
from fastcls.specs import SplitSpec
from fastcls.storage.paths import UrlPath, as_place
from fastcls.wording import count_of

_SHOWN = 5
_NAME_BYTES = 255
_Rows = list[SplitRow]


def require_linkable(dataset: Dataset, out: Path) -> None:
    """Refuse a source whose images cannot get a place in `out`: records, and a folder that holds `out`."""
    _require_files(dataset)
    _require_outside(dataset, out)


def source_rows(dataset: Dataset) -> list[SplitRow]:
    root = dataset.root.resolve()
    sources = [as_place(image_bytes.located(root, sample.path)) for sample in dataset.samples]
    rows = []
    for sample, source, digest in zip(dataset.samples, sources, file_digests(sources), strict=True):
        class_name = dataset.class_names[sample.label]
        path = f"{class_name}/{_inner_path(sample.path, class_name)}"
        rows.append(SplitRow(path, class_name, "", sample.group, digest, str(source)))
    _require_listable(rows)
    return rows


def _inner_path(path: str, class_name: str) -> str:
    """The place of an image in its class folder; a CSV may have its images anywhere."""
    return _below_class(path, class_name) or PurePosixPath(path).name


def _below_class(path: str, class_name: str) -> str:
    """The place of an image in the folder of its class, however that composes its letters; else ""."""
    depth = class_name.count("/") + 1
    parts = path.split("/")
    is_below = nfc("/".join(parts[:depth])) == class_name and ".." not in parts
    return "/".join(parts[depth:]) if is_below else ""


def refresh(earlier: Iterable[SplitRow], found: Iterable[SplitRow], out: Path) -> list[SplitRow]:
    """Earlier rows with the digests of today: a source edited in place changes what links to it."""
    known = {row.digest for row in found}
    return [row if row.digest in known else _refreshed(row, out) for row in earlier]


def _refreshed(row: SplitRow, out: Path) -> SplitRow:
    try:
        return row._replace(digest=files.file_digest(out / row.path))
    except OSError:  # Removed by the user, or a symbolic link to a source that vanished.
        return row


def plan_rows(
    found: Sequence[SplitRow],
    earlier: Sequence[SplitRow],
    present: set[str],
    spec: SplitSpec,
    *,
    allow_small: bool,
) -> tuple[list[SplitRow], int]:
    """The rows of the split folder to be, and how many of them the source no longer has."""
    kept, new, gone = _match(found, earlier)
    vanished = [row for row in gone if row.path in present]
    _require_same_classes(vanished, new)
    rows = [*kept, *vanished, *new]
    splits = assign_splits(
        [row.digest for row in rows],
        [row.class_name for row in rows],
        spec,
        groups=[row.group for row in rows],
        fixed={row.digest: row.split for row in earlier},
        allow_small=allow_small,
    )
    placed = [*kept, *vanished]
    taken = present | {row.path for row in placed}
    for row, split in zip(new, splits[len(placed) :], strict=True):
        path = _free_path(f"{split}/{row.path}", row.digest, taken)
        taken.add(path)
        placed.append(row._replace(path=path, split=split))
    return sorted(placed, key=lambda row: row.path), len(vanished)


def _match(found: Iterable[SplitRow], earlier: Iterable[SplitRow]) -> tuple[_Rows, _Rows, _Rows]:
    """Pair source images with earlier ones of the same bytes and class.

    Returns:
        Source rows with their earlier place, source rows without one, earlier rows that are left over.
    """
    waiting = defaultdict(list)
    for row in sorted(earlier, key=lambda row: row.path, reverse=True):
        waiting[row.digest, row.class_name].append(row)
    kept, new = [], []
    for row in found:
        same = waiting[row.digest, row.class_name]
        if same:
            place = same.pop()
            kept.append(row._replace(path=place.path, split=place.split))
        else:
            new.append(row)
    return kept, new, [row for rows in waiting.values() for row in rows]


def _free_path(path: str, digest: str, taken: set[str]) -> str:
    """The path; where it is taken, with the digest (and a number) added to its name."""
    whole, short = PurePosixPath(path), digest[:8]
    marks = itertools.chain([f"-{short}"], (f"-{short}-{number}" for number in itertools.count(2)))
    choices = (str(whole.with_name(_marked(whole, mark))) for mark in marks)
    return next(choice for choice in itertools.chain([path], choices) if choice not in taken)


def _marked(path: PurePosixPath, mark: str) -> str:
    """The name of a file with something before its suffix; a long one is cut to stay legal."""
    end = mark + path.suffix
    return path.stem.encode()[: _NAME_BYTES - len(end)].decode(errors="ignore") + end


# Checking


def require_short_names(rows: Iterable[SplitRow], out: Path) -> None:
    """Refuse names that the file system does not accept, before anything is written."""
    there = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    longest = os.pathconf(there, "PC_NAME_MAX")
    for row in rows:
        size = max(len(part.encode()) for part in row.path.split("/"))
        if size > longest:
            raise DataError(
                f"{row.source!r} of class {row.class_name!r} needs a file name of {size} bytes, but {out} "
                f"allows {longest}. Rename the file or class, or split without moving images: fastcls to-csv "
                "DATA --out FILE.csv --val 0.2 --test 0.2"
            )


def _require_files(dataset: Dataset) -> None:
    if any(split_address(sample.path)[1] is not None for sample in dataset.samples):
        raise DataError(
            f"The images of {dataset.given} are inside TFRecord files or Parquet files, to which a folder "
            "cannot link. Split them in a table instead: fastcls to-csv DATA --out FILE.csv --val 0.2 --test "
            "0.2"
        )
    if any(isinstance(dataset.locate(sample), UrlPath) for sample in dataset.samples):
        raise DataError(
            f"The images of {dataset.given} are at URLs, to which a folder cannot link. Split them in a "
            "table instead: fastcls to-csv DATA --out FILE.csv --val 0.2 --test 0.2"
        )


def _require_outside(dataset: Dataset, out: Path) -> None:
    """A folder source would list its own output as a class next time; a CSV would not."""
    names = dataset.class_names
    is_folder = all(_below_class(sample.path, names[sample.label]) for sample in dataset.samples)
    if is_folder and out.resolve().is_relative_to(dataset.root.resolve()):
        raise DataError(f"The output {out} lies in the source {dataset.root}. Choose a folder outside it.")


def _require_listable(rows: Iterable[SplitRow]) -> None:
    """A CSV may name classes and files that a folder per class cannot represent."""
    for row in rows:
        kind = named_kind(row.path)
        if kind and not is_readable(kind):
            raise DataError(f"{row.source!r} cannot be put into a folder per class: {how_to_read(kind)}.")
        is_hidden = any(part.startswith(".") for part in row.path.split("/"))
        if is_hidden or "/" in row.class_name or "\0" in row.class_name or not kind:
            raise DataError(
                f"{row.source!r} of class {row.class_name!r} would not be found in a folder per class. "
                "Rename it: no leading dot, no '/' in the class name, and a suffix such as .jpg or .png."
            )


def _require_same_classes(vanished: Iterable[SplitRow], new: Iterable[SplitRow]) -> None:
    now = {row.digest: row.class_name for row in new}
    moved = [row for row in vanished if row.digest in now]
    if moved:
        some = ", ".join(f"{row.path!r} is now {now[row.digest]!r}" for row in moved[:_SHOWN])
        raise DataError(
            f"{count_of(len(moved), 'image')} changed class since the output was made: {some}. "
            f"Delete these files from "
            "the output and run the same command again, or choose a new output folder."
        )

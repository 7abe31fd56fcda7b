"""Write a split as folders of links or copies, with a table: killed anywhere, a rerun completes it."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fastcls import files
from fastcls.data.dataset import Dataset, Sample
from fastcls.data.folder import is_image, list_images
from fastcls.data.split_rows import (
    SPLIT_PLAN,
    SPLIT_TABLE,
    SplitRow,
    missing_rows,
    read_split_rows,
    require_named,
    write_split_rows,
)
from fastcls.data.splitter import assign_splits, file_digests, group_units, require_unsplit
from fastcls.data.tfrecord import split_address
from fastcls.errors import DataError, OptionError
from fastcls.parallel import spread
from fastcls.specs import SplitSpec

logger = logging.getLogger(__name__)

_SHOWN = 5
_NAME_BYTES = 255
_Rows = list[SplitRow]


@dataclass(frozen=True)
class SplitResult:
    """What `write_split` did.

    Attributes:
        dataset: The split folder.
        added: How many images this run put there.
        vanished: How many images the source no longer has; they stay.
        tied: How many images were kept on one side with an identical one or with others of their group.
    """

    dataset: Dataset
    added: int
    vanished: int
    tied: int


def write_split(
    dataset: Dataset,
    out: Path,
    spec: SplitSpec,
    *,
    mode: str = "link",
    allow_small: bool = False,
) -> SplitResult:
    """Write train, val and test folders with a folder per class, and `split.csv`.

    An `out` of an earlier run is extended: its images, known by their digests, stay where they are. A
    run that was killed is completed by running it again: the plan is written before the files and
    becomes `split.csv` after them. The source is only read.

    Args:
        dataset: A dataset without splits.
        out: The folder to make or to extend.
        spec: How to divide the dataset.
        mode: "link" makes hard links (copies where that fails): second names of the same bytes, so that
            editing one edits the other. "copy" and "symlink" do what they say.
        allow_small: Accept classes too small to give every split an image.

    Raises:
        DataError: `out` holds something else, lies in the source or cannot be written; an image cannot
            be read or has changed its class; a class is too small; the dataset has splits already.
        OptionError: Another process is at work in `out`, or there is no such mode.
    """
    place = _placer(mode)
    if not dataset.task.has_class_folder:
        raise OptionError("A folder per class has one label per image: use write_split_table for this data")
    require_unsplit(dataset)
    _require_files(dataset)
    _require_outside(dataset, out)
    with claimed(out):
        earlier = _read_earlier(out)
        images = list_images(out).images
        require_named(out, earlier, images)
        found = _source_rows(dataset)
        earlier = _refresh(earlier, found, out)
        rows, vanished = _plan(found, earlier, set(images), spec, allow_small=allow_small)
        _require_short_names(rows, out)
        missing = missing_rows(rows, images)
        write_split_rows(out / SPLIT_PLAN, rows)
        _prepare_folders(rows, out)
        _place_files(missing, out, place)
        (out / SPLIT_PLAN).rename(out / SPLIT_TABLE)
        files.sync(out)
    return SplitResult(_as_dataset(rows, out, dataset.left_out), len(missing), vanished, _count_tied(rows))


# Planning a split folder


def _source_rows(dataset: Dataset) -> list[SplitRow]:
    root = dataset.root.resolve()
    sources = [root / sample.path for sample in dataset.samples]
    rows = []
    for sample, source, digest in zip(dataset.samples, sources, file_digests(sources), strict=True):
        class_name = dataset.class_names[sample.label]
        path = f"{class_name}/{_inner_path(sample.path, class_name)}"
        rows.append(SplitRow(path, class_name, "", sample.group, digest, str(source)))
    _require_listable(rows)
    return rows


def _inner_path(path: str, class_name: str) -> str:
    """The place of an image in its class folder; a CSV may have its images anywhere."""
    if _is_in_class_folder(path, class_name):
        return path.removeprefix(f"{class_name}/")
    return PurePosixPath(path).name


def _is_in_class_folder(path: str, class_name: str) -> bool:
    return path.startswith(f"{class_name}/") and ".." not in path.split("/")


def _refresh(earlier: Iterable[SplitRow], found: Iterable[SplitRow], out: Path) -> list[SplitRow]:
    """Earlier rows with the digests of today: a source edited in place changes what links to it."""
    known = {row.digest for row in found}
    return [row if row.digest in known else _refreshed(row, out) for row in earlier]


def _refreshed(row: SplitRow, out: Path) -> SplitRow:
    try:
        return row._replace(digest=files.file_digest(out / row.path))
    except OSError:  # Removed by the user, or a symbolic link to a source that vanished.
        return row


def _plan(
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


def _count_tied(rows: Sequence[SplitRow]) -> int:
    units = group_units([row.digest for row in rows], [row.group for row in rows])
    return sum(len(unit) for unit in units if len(unit) > 1)


def _as_dataset(rows: Iterable[SplitRow], out: Path, left_out: int) -> Dataset:
    class_names = tuple(sorted({row.class_name for row in rows}))
    labels = {name: (label,) for label, name in enumerate(class_names)}
    samples = (Sample(row.path, labels[row.class_name], row.split, row.group) for row in rows)
    return Dataset(out, class_names, tuple(samples), left_out)


# Writing a split folder


def _prepare_folders(rows: Iterable[SplitRow], out: Path) -> None:
    """Make the folders of all rows and clear them of what a killed run left, even beside its last file."""
    for folder in sorted({out, *((out / row.path).parent for row in rows)}):
        folder.mkdir(parents=True, exist_ok=True)
        files.remove_leftovers(folder)


def _place_files(rows: Sequence[SplitRow], out: Path, place: Callable[[Path, Path], bool]) -> None:
    targets = [out / row.path for row in rows]
    for target in targets:
        if target.is_symlink():  # of an earlier run, to where its image no longer is
            target.unlink()
    sources = (Path(row.source) for row in rows)
    fallbacks = sum(spread(lambda pair: place(*pair), zip(sources, targets, strict=True)))
    if fallbacks:
        logger.warning("%d images were copied: %s does not take hard links to them.", fallbacks, out)


def _placer(mode: str) -> Callable[[Path, Path], bool]:
    """The function that puts an image in place and says whether it had to fall back to a copy."""
    placers = {"link": _link_or_copy, "copy": _copy, "symlink": _symlink}
    if mode not in placers:
        raise OptionError(f"Unknown mode. Received: {mode!r}. Choose one of: {', '.join(placers)}.")
    return placers[mode]


def _link_or_copy(source: Path, target: Path) -> bool:
    try:
        # A hard link to a symbolic link would break when that one is relative.
        os.link(source.resolve() if source.is_symlink() else source, target)
    except FileExistsError:
        raise
    except OSError:  # Another file system, one without links, or a file of another owner.
        _copy(source, target)
        return True
    return False


def _copy(source: Path, target: Path) -> bool:
    # Not atomic_path, which looks for leftovers each time: a class may have 100,000 images.
    with files.temporary_folder(target.parent) as folder:
        shutil.copyfile(source, folder / target.name)
        files.put(folder / target.name, target)
    return False


def _symlink(source: Path, target: Path) -> bool:
    target.symlink_to(source)
    return False


# The table of a split folder


def _read_earlier(out: Path) -> list[SplitRow]:
    """The rows of an earlier run; of its plan, where it was interrupted.

    Raises:
        DataError: `out` holds something that is not ours.
    """
    for table in (out / SPLIT_PLAN, out / SPLIT_TABLE):
        if table.exists():
            return read_split_rows(table)
    visible = sorted(entry.name for entry in out.glob("*") if not entry.name.startswith("."))
    if visible:
        raise DataError(
            f"{out} was not made by split-data: it holds {visible[0]!r} and no {SPLIT_TABLE}. "
            "Nothing was written. Choose a new or empty output folder."
        )
    return []


# Reading and checking


@contextlib.contextmanager
def claimed(out: Path) -> Iterator[None]:
    """Make an output folder and keep other processes out of it; it goes again if nothing got there.

    Raises:
        DataError: The disk gives trouble; the message says how to go on.
        OptionError: Another process is at work there.
    """
    with _explained(out):
        is_new = not out.exists()
        if not is_new and not out.is_dir():
            raise DataError(f"{out} is a file. Choose another output folder.")
        files.make_folder(out)
        with files.locked(out, files.at_work(out)):
            try:
                yield
            finally:
                if is_new:
                    with contextlib.suppress(OSError):  # it is not empty
                        out.rmdir()


@contextlib.contextmanager
def _explained(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{out} cannot be written ({error}). Make room, correct its permissions, or rename what its file "
            "system does not take; then run the same again: it goes on from there."
        ) from error


def _require_short_names(rows: Iterable[SplitRow], out: Path) -> None:
    """Refuse names that the file system does not take, before anything is written."""
    longest = os.pathconf(out, "PC_NAME_MAX")
    for row in rows:
        size = max(len(part.encode()) for part in row.path.split("/"))
        if size > longest:
            raise DataError(
                f"{row.source!r} of class {row.class_name!r} needs a name of {size} bytes, and {out} takes "
                f"{longest}. Rename the file or class; or let the images stay where they are: fastcls to-csv "
                "DATA --out FILE.csv --val 0.2 --test 0.2"
            )


def _require_files(dataset: Dataset) -> None:
    if any(split_address(sample.path)[1] is not None for sample in dataset.samples):
        raise DataError(
            f"The images of {dataset.root} are inside of TFRecord files, which no folder can link to. Divide "
            "them in a table: fastcls to-csv DATA --out FILE.csv --val 0.2 --test 0.2"
        )


def _require_outside(dataset: Dataset, out: Path) -> None:
    """A folder source would list its own output as a class the next time; a CSV would not."""
    names = dataset.class_names
    is_folder = all(_is_in_class_folder(sample.path, names[sample.label]) for sample in dataset.samples)
    if is_folder and out.resolve().is_relative_to(dataset.root.resolve()):
        raise DataError(f"The output {out} lies in the source {dataset.root}. Choose a folder outside of it.")


def _require_listable(rows: Iterable[SplitRow]) -> None:
    """A CSV may name classes and files that a folder per class cannot show."""
    for row in rows:
        is_hidden = any(part.startswith(".") for part in row.path.split("/"))
        if is_hidden or "/" in row.class_name or "\0" in row.class_name or not is_image(row.path):
            raise DataError(
                f"{row.source!r} of class {row.class_name!r} would not be found in a folder per class. "
                "Rename it: no leading dot, no '/' in a class name, and a suffix such as .jpg or .png."
            )


def _require_same_classes(vanished: Iterable[SplitRow], new: Iterable[SplitRow]) -> None:
    now = {row.digest: row.class_name for row in new}
    moved = [row for row in vanished if row.digest in now]
    if moved:
        some = ", ".join(f"{row.path!r} is now {now[row.digest]!r}" for row in moved[:_SHOWN])
        raise DataError(
            f"{len(moved)} images changed their class since the output was made: {some}. "
            "Delete these files from the output and run the same again, or choose a new output folder."
        )

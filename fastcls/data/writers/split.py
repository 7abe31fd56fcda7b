"""Write a split: folders of images with a table, or a table alone. Killed anywhere, a rerun completes it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from fastcls import files, unfinished
from fastcls.data.dataset import Dataset, Sample
from fastcls.data.readers.csv import read_earlier_splits
from fastcls.data.readers.folder import list_images
from fastcls.data.split_table import (
    SPLIT_PLAN,
    SPLIT_TABLE,
    SplitRow,
    missing_rows,
    read_split_rows,
    require_named,
    write_split_rows,
)
from fastcls.data.splitter import file_digests, group_units, require_unsplit, split
from fastcls.data.writers.csv import move_root, require_column_names, write_samples
from fastcls.data.writers.folder import Place, place_files, placer, prepare_folders
from fastcls.data.writers.split_plan import (
    plan_rows,
    refresh,
    require_linkable,
    require_short_names,
    source_rows,
)
from fastcls.errors import DataError
from fastcls.files import PathLike
from fastcls.specs import SplitSpec
from fastcls.specs.options import as_spec

_Table = TypeVar("_Table")


@dataclass(frozen=True)
class SplitResult:
    """What `write_split` did, or would do.

    Attributes:
        dataset: The split folder.
        added: How many images this run put there.
        vanished: How many images the source no longer has; they stay.
        tied: How many images were kept in one split with an identical one or with others of their group.
    """

    dataset: Dataset
    added: int
    vanished: int
    tied: int


def write_split(
    dataset: Dataset | PathLike,
    out: PathLike,
    spec: SplitSpec | None = None,
    *,
    mode: str = "link",
    allow_small: bool = False,
) -> SplitResult:
    """Divide a data set: train, val and test folders with a folder per class, and `split.csv`.

    Images of several labels fit into no one folder: they stay where they are, and `out` gets `split.csv`
    alone, with a column of 0 and 1 per class.

    An `out` of an earlier run is extended: its images, known by their digests, keep their splits and places.
    A run that was killed is completed by running it again: the plan is written before the files and
    becomes `split.csv` after them. The source is only read.

    Args:
        dataset: A dataset without splits, or its path.
        out: The folder to make or to extend.
        spec: How to divide the dataset; 0.2 for validation and 0.2 for the test by default.
        mode: "link" makes hard links (copies where that fails): second names of the same bytes, so that
            editing one edits the other. "copy" and "symlink" do what they say. No effect on several labels.
        allow_small: Accept classes too small to give every split an image.

    Raises:
        DataError: `out` holds something else, lies in the source or cannot be written; an image cannot
            be read or has changed its class; a class is too small, or has the name of another column of the
            table; the dataset has splits already.
        OptionError: Another process is writing to `out`, or there is no such mode.
    """
    out, place = files.as_path(out, "out"), placer(mode)
    dataset = _checked(dataset, out)
    with _claimed(out):
        plan = _plan(dataset, out, spec, allow_small=allow_small)
        plan.write(place)
    return plan.result


def plan_split(
    dataset: Dataset | PathLike,
    out: PathLike,
    spec: SplitSpec | None = None,
    *,
    allow_small: bool = False,
) -> SplitResult:
    """What `write_split` would do; nothing is written.

    Args:
        dataset: See `write_split`, as for all that follow.
        out: The folder to make or to extend.
        spec: How to divide the dataset.
        allow_small: Accept classes too small to give every split an image.

    Raises:
        FastclsError: As there.
    """
    out = files.as_path(out, "out")
    dataset = _checked(dataset, out)
    with _explained(out):
        if out.exists():
            with files.locked(out, unfinished.at_work(out)):
                pass
        return _plan(dataset, out, spec, allow_small=allow_small).result


@dataclass(frozen=True)
class _Plan:
    """What is decided, and what carries it out with a function that puts an image in its place."""

    result: SplitResult
    write: Callable[[Place], None]


def _checked(dataset: Dataset | PathLike, out: Path) -> Dataset:
    dataset = Dataset.of(dataset)
    require_unsplit(dataset)
    if dataset.task.has_class_folder:
        require_linkable(dataset, out)
    else:
        require_column_names(dataset)
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file. Choose another output folder.")
    files.require_writable(out)
    return dataset


def _plan(dataset: Dataset, out: Path, spec: SplitSpec | None, *, allow_small: bool) -> _Plan:
    plan = _plan_folders if dataset.task.has_class_folder else _plan_table
    return plan(dataset, out, as_spec(SplitSpec, spec, "spec"), allow_small=allow_small)


def _plan_folders(dataset: Dataset, out: Path, spec: SplitSpec, *, allow_small: bool) -> _Plan:
    earlier = _read_earlier(out, [SPLIT_PLAN, SPLIT_TABLE], read_split_rows) or []
    images = list_images(out).present if out.exists() else []
    require_named(out, earlier, images)
    found = source_rows(dataset)
    dataset.warn_of_conflicts([row.digest for row in found])
    rows, vanished = plan_rows(
        found, refresh(earlier, found, out), set(images), spec, allow_small=allow_small
    )
    require_short_names(rows, out)
    missing = missing_rows(rows, images)
    tied = _count_tied([row.digest for row in rows], [row.group for row in rows])
    made = _as_dataset(rows, out, dataset.left_out)
    return _Plan(
        SplitResult(made, len(missing), vanished, tied),
        lambda place: _write_folders(rows, missing, out, place),
    )


def _write_folders(rows: Sequence[SplitRow], missing: Sequence[SplitRow], out: Path, place: Place) -> None:
    write_split_rows(out / SPLIT_PLAN, rows)
    prepare_folders(rows, out)
    place_files(missing, out, place)
    (out / SPLIT_PLAN).rename(out / SPLIT_TABLE)
    files.sync(out)


def _plan_table(dataset: Dataset, out: Path, spec: SplitSpec, *, allow_small: bool) -> _Plan:
    earlier = _read_earlier(out, [SPLIT_TABLE], read_earlier_splits) or {}
    digests = file_digests([dataset.locate(sample) for sample in dataset.samples])
    dataset.warn_of_conflicts(digests)
    divided = split(dataset, spec, fixed=earlier, digests=digests, allow_small=allow_small)
    moved = move_root(divided, out)
    result = SplitResult(
        replace(moved, samples=tuple(sorted(moved.samples, key=lambda sample: sample.path))),
        added=sum(digest not in earlier for digest in digests),
        vanished=len(set(earlier) - set(digests)),
        tied=_count_tied(digests, [sample.group for sample in dataset.samples]),
    )
    return _Plan(result, lambda _: _write_table(moved, digests, out))


def _write_table(dataset: Dataset, digests: Sequence[str], out: Path) -> None:
    with files.atomic_path(out / SPLIT_TABLE) as temporary:
        write_samples(temporary, dataset, digests)


def _read_earlier(out: Path, tables: Sequence[str], read: Callable[[Path], _Table]) -> _Table | None:
    """The table of an earlier run, or its plan where it was interrupted; None in an empty folder.

    Raises:
        DataError: `out` holds something else.
    """
    for table in tables:
        if (out / table).exists():
            return read(out / table)
    visible = sorted(entry.name for entry in out.glob("[!.]*"))
    if visible:
        raise DataError(
            f"{out} was not made by split-data: it holds {visible[0]!r} and no {SPLIT_TABLE}. "
            "Nothing was written. Choose a new or empty output folder."
        )
    return None


def _count_tied(digests: Sequence[str], groups: Sequence[str]) -> int:
    return sum(len(unit) for unit in group_units(digests, groups) if len(unit) > 1)


def _as_dataset(rows: Iterable[SplitRow], out: Path, left_out: int) -> Dataset:
    class_names = tuple(sorted({row.class_name for row in rows}))
    labels = {name: (label,) for label, name in enumerate(class_names)}
    samples = (Sample(row.path, labels[row.class_name], row.split, row.group) for row in rows)
    return Dataset(out, class_names, tuple(samples), left_out)


@contextlib.contextmanager
def _claimed(out: Path) -> Iterator[None]:
    """Make an output folder and lock it; it is removed again if it stays empty.

    Raises:
        DataError: The disk fails; the message says how to go on.
        OptionError: Another process is writing there.
    """
    with _explained(out):
        is_new = not out.exists()
        files.make_folder(out)
        with files.locked(out, unfinished.at_work(out)):
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
            f"{out} cannot be written: {error}. Free disk space, check its permissions, or rename what its "
            "file system does not accept; then run the same command again: it continues from there."
        ) from error

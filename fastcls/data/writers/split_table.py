"""Write the split of a multi-label data set: a table with a column of 0 and 1 per class.

An image of several classes belongs into no one folder, so that the images stay where they are. The table
reads as multi-label by itself, whatever characters the names of the classes hold.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from fastcls import files
from fastcls.data.dataset import SPLITS, Dataset, Sample
from fastcls.data.readers.csv import RESERVED
from fastcls.data.split_table import SPLIT_TABLE
from fastcls.data.splitter import assign_splits, file_digests, group_units, require_unsplit
from fastcls.data.writers.csv import class_bits, relative_to, require_column_names
from fastcls.data.writers.folder import SplitResult, claimed
from fastcls.errors import DataError
from fastcls.specs import SplitSpec


def write_split_table(
    dataset: Dataset, out: Path, spec: SplitSpec, *, allow_small: bool = False
) -> SplitResult:
    """Write `out`/split.csv: path, split, group and digest of each image, and 1 for each of its classes.

    Paths are relative to `out`. A table of an earlier run is replaced: its images, known by their digests,
    keep their splits; those that the source no longer has leave it.

    Args:
        dataset: A multi-label data set without splits.
        out: The folder to make or to extend.
        spec: How to divide the data set.
        allow_small: Accept classes too small to give every split an image.

    Raises:
        DataError: `out` holds something else or cannot be written; an image cannot be read; a class is too
            small or has the name of another column; the dataset has splits already.
        OptionError: Another process is at work in `out`.
    """
    require_unsplit(dataset)
    require_column_names(dataset.class_names)
    with claimed(out):
        earlier = _read_earlier(out)
        digests = file_digests([dataset.locate(sample) for sample in dataset.samples])
        splits = assign_splits(
            digests,
            [dataset.names_of(sample) for sample in dataset.samples],
            spec,
            groups=[sample.group for sample in dataset.samples],
            fixed=earlier,
            allow_small=allow_small,
        )
        place = relative_to(out)
        placed = [
            (replace(sample, path=place(dataset.locate(sample)), split=split), digest)
            for sample, split, digest in zip(dataset.samples, splits, digests, strict=True)
        ]
        placed.sort(key=lambda row: row[0].path)
        files.write_text(out / SPLIT_TABLE, _table(dataset.class_names, placed))
    units = group_units(digests, [sample.group for sample in dataset.samples])
    return SplitResult(
        replace(dataset, root=out, samples=tuple(sample for sample, _ in placed)),
        added=sum(digest not in earlier for digest in digests),
        vanished=len(set(earlier) - set(digests)),
        tied=sum(len(unit) for unit in units if len(unit) > 1),
    )


def _table(class_names: Sequence[str], rows: Iterable[tuple[Sample, str]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*RESERVED, *class_names])
    for sample, digest in rows:
        bits = class_bits(sample, len(class_names))
        writer.writerow([sample.path, sample.split, sample.group, digest, *bits])
    return text.getvalue()


def _read_earlier(out: Path) -> dict[str, str]:
    """The split of each digest in the table of an earlier run."""
    table = out / SPLIT_TABLE
    if not table.exists():
        visible = sorted(entry.name for entry in out.glob("*") if not entry.name.startswith("."))
        if visible:
            raise DataError(
                f"{out} was not made by split-data for several labels per image: it holds no {SPLIT_TABLE}. "
                "Nothing was written. Choose a new or empty output folder."
            )
        return {}
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            header, *rows = list(csv.reader(file)) or [[]]
    except (UnicodeDecodeError, csv.Error):
        header, rows = [], []
    places = [row[: len(RESERVED)] for row in rows]
    if header[: len(RESERVED)] != list(RESERVED) or not all(
        len(row) == len(header) and row[1] in SPLITS for row in rows
    ):
        raise DataError(
            f"{table} was not made by split-data for several labels per image, or is damaged. Expected the "
            f"columns {','.join(RESERVED)} and one per class; received: {','.join(header)}. Choose another "
            "output folder."
        )
    return {digest: split for _, split, _, digest in places}

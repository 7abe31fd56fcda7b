"""Write the bottlenecks of a data set for other programs: a NumPy array, or a Parquet file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from fastcls import files
from fastcls.cache.index import Rows
from fastcls.cache.samples import SampleTable
from fastcls.cache.store import Cache
from fastcls.caching.contents import open_cache
from fastcls.data.csv_table import write_table
from fastcls.errors import CacheError, OptionError, closest, shown
from fastcls.files import PathLike, as_path
from fastcls.optional import require
from fastcls.tasks import Task

FEATURES, SAMPLES = "features.npy", "samples.csv"
_BLOCK_BYTES = 1 << 26


@dataclass(frozen=True)
class ExportedCache:
    """What was written.

    Attributes:
        path: The folder or file.
        images: How many rows it has.
        left_out: Images of the data set, or split, that have no bottleneck.
    """

    path: Path
    images: int
    left_out: int


@dataclass(frozen=True)
class _Export:
    """What is to be written: rows, and the samples that they belong to.

    Attributes:
        rows: Where the bottlenecks are, in the order of the table.
        samples: Their images.
        task: What is asked of an image.
        shape: Of a bottleneck.
        dtype: Its type.
        bar: Counts images.
    """

    rows: Rows
    samples: SampleTable
    task: Task
    shape: tuple[int, ...]
    dtype: np.dtype
    bar: Any

    def blocks(self) -> Iterator[tuple[np.ndarray, SampleTable]]:
        """Rows (B, ...) and their samples, as many as stay within bounds of memory."""
        row_bytes = max(1, int(np.prod(self.shape)) * self.dtype.itemsize)
        count = max(1, _BLOCK_BYTES // row_bytes)
        for start in range(0, len(self.samples), count):
            part = np.arange(start, min(start + count, len(self.samples)))
            yield self.rows.take(part).read(), self.samples.take(part)
            self.bar.update(len(part))


def export_cache(
    cache: Cache | PathLike,
    out: PathLike,
    to: str = "npy",
    *,
    name: str | None = None,
    split: str | None = None,
    progress: bool = False,
) -> ExportedCache:
    """Write the bottlenecks of a data set in the order of its table, as `Cache.read` gives them.

    Args:
        cache: The cache, or the folder of one.
        out: What to write, which must be new: a folder with features.npy (N, ...) and samples.csv for "npy",
            a file with a row per image for "parquet".
        to: "npy" or "parquet".
        name: The data set; None for the only one.
        split: Only its images of this split.
        progress: Show a bar on stderr.

    Raises:
        OptionError: The output is there, or is in the cache, or cannot be made, or an option is unknown.
        CacheError: The cache has no such data set or split, or a row is damaged.
        MissingExtraError: pyarrow is not installed.
        OSError: The disk is full, or fails; nothing is left then.
    """
    if to not in KINDS:
        raise OptionError(f"Unknown kind of file: {shown(to)}. Closest: {closest(str(to), KINDS)}")
    place = as_path(out, "out")
    opened = cache if isinstance(cache, Cache) and name is None else open_cache(_folder(cache), name)
    files.require_new(place, "OUT")
    if place.resolve().is_relative_to(opened.folder.resolve()):
        raise OptionError(f"{place} is in the cache itself. Choose an OUT elsewhere")
    if to == "parquet":
        require("pyarrow.parquet", purpose="Writing Parquet", extra="parquet")
    known = _chosen(opened.listing.samples(), split)
    found = opened.index().locate(known.digests)
    present = np.flatnonzero(found.present)
    if not len(present):
        raise CacheError(f"No image has a bottleneck in {opened.folder}. Run the same fastcls extract first")
    manifest, task = opened.manifest, opened.listing.report().task
    with tqdm(total=len(present), unit="image", desc="export", disable=not progress) as bar:
        kind = (task, manifest.shape, np.dtype(manifest.dtype), bar)
        KINDS[to](_Export(found.take(present), known.take(present), *kind), place)
    return ExportedCache(place, len(present), len(known) - len(present))


def _folder(cache: Cache | PathLike) -> PathLike:
    return cache.folder if isinstance(cache, Cache) else cache


def _chosen(samples: SampleTable, split: str | None) -> SampleTable:
    if split is None:
        return samples
    places = [place for place, own in enumerate(samples.splits) if own == split]
    if not places:
        raise CacheError(f"The data set has no split {split!r}. It has {sorted({*samples.splits})}")
    return samples.take(places)


def _columns(task: Task) -> tuple[str, ...]:
    return ("path", task.column, "split", "group", "digest")


def _write_npy(export: _Export, out: Path) -> None:
    with files.atomic_folder(out) as folder:
        with (folder / FEATURES).open("wb") as file:
            shape = (len(export.samples), *export.shape)
            header = {"descr": np.lib.format.dtype_to_descr(export.dtype), "fortran_order": False}
            np.lib.format.write_array_header_1_0(file, {**header, "shape": shape})
            for rows, _ in export.blocks():
                file.write(rows.data.cast("B"))
        task = export.task
        lines = (
            (path, task.write_cell(labels), split, group, digest)
            for path, labels, split, group, digest, *_ in export.samples.lines()
        )
        write_table(folder / SAMPLES, _columns(task), lines)
        for path in sorted(folder.iterdir()):
            files.sync(path)


def _write_parquet(export: _Export, out: Path) -> None:
    arrow = require("pyarrow", purpose="Writing Parquet", extra="parquet")
    parquet = require("pyarrow.parquet", purpose="Writing Parquet", extra="parquet")
    schema = _schema(arrow, export)
    with files.new_path(out, "OUT") as temporary, parquet.ParquetWriter(temporary, schema) as writer:
        for rows, samples in export.blocks():
            writer.write_table(_as_arrow(arrow, schema, rows, samples, export.task))


def _schema(arrow: Any, export: _Export) -> Any:
    texts = arrow.list_(arrow.string()) if export.task.may_have_none else arrow.string()
    width = int(np.prod(export.shape))
    features = arrow.list_(arrow.from_numpy_dtype(export.dtype), width)
    fields = [arrow.field(name, arrow.string()) for name in _columns(export.task)]
    fields[1] = arrow.field(export.task.column, texts)
    shape = {"shape": json.dumps(export.shape)}
    return arrow.schema([*fields, arrow.field("features", features, metadata=shape)])


def _as_arrow(arrow: Any, schema: Any, rows: np.ndarray, samples: SampleTable, task: Task) -> Any:
    # A file name that is not UTF-8 cannot be text in Parquet: its bytes are shown as \xff.
    paths = [os.fsencode(path).decode("utf-8", "backslashreplace") for path in samples.paths]
    labels, digests = [*map(task.value, samples.labels)], samples.digests.astype("U32").tolist()
    texts = [paths, labels, samples.splits, samples.groups, digests]
    columns = [arrow.array(own, schema.field(place).type) for place, own in enumerate(texts)]
    flat = arrow.array(rows.reshape(-1), schema.field("features").type.value_type)
    features = arrow.FixedSizeListArray.from_arrays(flat, schema.field("features").type.list_size)
    return arrow.Table.from_arrays([*columns, features], schema=schema)


KINDS: dict[str, Callable[[_Export, Path], None]] = {"npy": _write_npy, "parquet": _write_parquet}

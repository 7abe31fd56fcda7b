"""Time the reading of a bottleneck cache against plain reading of the same files, in the same run.

    python scripts/benchmark_streaming.py --gib 4 --row 2048 --dtype float16

Makes shards of random rows, reads them in several ways and prints a Markdown table. "Page cache" has the
files there; before "dropped", the system was asked to drop them. Seconds of the CPUs are of all threads
together: what one way takes beyond another is what its step costs.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import click
import h5py
import numpy as np

from fastcls import files
from fastcls.backend import import_keras
from fastcls.cache.index import Rows
from fastcls.cache.shard import ShardWriter
from fastcls.cache.shard_layout import Layout
from fastcls.specs import DTYPES, HeadSpec
from fastcls.training.heads.network import build_head
from fastcls.training.loop.passes import CompiledPasses
from fastcls.training.loop.snapshots import Begun
from fastcls.training.rows.cached import Feeder
from fastcls.training.rows.selection import LabeledRows

CLASSES = 10
BATCH = 256
REPEATS = 3


class Cost(NamedTuple):
    """What a way of reading takes.

    Attributes:
        seconds: By the clock.
        cpu: Of all threads together.
    """

    seconds: float
    cpu: float


@click.command()
@click.option("--gib", type=float, default=0.5, show_default=True, help="Size of the cache.")
@click.option("--row", type=int, default=2048, show_default=True, help="Numbers in a bottleneck.")
@click.option("--dtype", type=click.Choice(DTYPES), default="float32", show_default=True)
@click.option("--shard-size", type=int, default=256, show_default=True, help="Rows in a shard.")
@click.option("--folder", type=click.Path(path_type=Path), help="On the disk to measure.")
def main(gib: float, row: int, dtype: str, shard_size: int, folder: Path | None) -> None:
    """Compare on a cache made for it."""
    import_keras()
    with tempfile.TemporaryDirectory(dir=folder) as made:
        count = int(gib * 2**30) // (row * np.dtype(dtype).itemsize)
        data = _make_shards(Path(made), count, (row,), dtype, shard_size)
        click.echo(f"{count} rows of {row} {dtype}, {len(data.rows.shards)} shards\n")
        click.echo("| | GiB/s, page cache | GiB/s, dropped | CPU s/GiB, page cache |\n|---|---|---|---|")
        for name, read in _ways(data):
            warm, cold = (_cost(read, data.rows.shards, drop=drop) for drop in (False, True))
            click.echo(
                f"| {name} | {gib / warm.seconds:.2f} | {gib / cold.seconds:.2f} | {warm.cpu / gib:.2f} |"
            )


def _make_shards(folder: Path, count: int, shape: tuple[int, ...], dtype: str, size: int) -> LabeledRows:
    random = np.random.default_rng(0)
    paths = []
    for start in range(0, count, size):
        rows = random.random((min(size, count - start), *shape), np.float32).astype(dtype)
        with ShardWriter(folder, shape, dtype, {"fingerprint": "none"}) as writer:
            writer.append([files.digest(b"%d" % place) for place in range(start, start + len(rows))], rows)
            paths.append(writer.finish())
    shard, row = np.divmod(np.arange(count, dtype=np.int32), size)
    return LabeledRows(Rows(tuple(filter(None, paths)), shard, row), random.integers(0, CLASSES, count))


def _ways(data: LabeledRows) -> list[tuple[str, Callable[[], object]]]:
    paths = data.rows.shards
    streamed, kept = (Feeder(data, BATCH, 0, memory_bytes) for memory_bytes in (0, 1 << 62))
    return [
        ("plain sequential read", lambda: _read_plainly(paths)),
        ("h5py sequential read", lambda: _read_with_h5py(paths)),
        ("rows, in order, without checksums", lambda: _read_unchecked(data)),
        ("rows, in order", data.rows.read),
        ("blocks, streamed", lambda: sum(len(order) for _, _, order in streamed.blocks())),
        ("linear head, streamed", _epoch(streamed)),
        ("linear head, in memory", _epoch(kept)),
    ]


def _read_plainly(paths: tuple[Path, ...]) -> None:
    buffer = bytearray(1 << 22)
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def _read_with_h5py(paths: tuple[Path, ...]) -> None:
    for path in paths:
        with h5py.File(path, "r") as file:
            file["bottlenecks"][:]


def _read_unchecked(data: LabeledRows) -> None:
    with patch.object(Layout, "check_run"):
        data.rows.read()


def _epoch(feeder: Feeder) -> Callable[[], object]:
    model = build_head(HeadSpec(), feeder.shape, CLASSES)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    train = CompiledPasses().train(model, feeder)
    return lambda: train(1, Begun())


def _cost(read: Callable[[], object], paths: tuple[Path, ...], *, drop: bool) -> Cost:
    """The best of some repetitions: others work on the machine too."""
    found = []
    for _ in range(REPEATS):
        if drop:
            _drop_from_page_cache(paths)
        started, worked = time.perf_counter(), time.process_time()
        read()
        found.append(Cost(time.perf_counter() - started, time.process_time() - worked))
    return min(found)


def _drop_from_page_cache(paths: tuple[Path, ...]) -> None:
    for path in paths:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == "__main__":
    main()

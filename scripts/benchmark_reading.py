"""Reading rows of uncompressed shards: by fastcls, which goes past HDF5, and by h5py.

Both check the checksum of each row. They take turns, from the page cache; the table holds medians (min-max).

    python scripts/benchmark_reading.py
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np

from fastcls.cache import shard
from fastcls.cache.index import Rows
from fastcls.files import digest

_REPEATS = 9
_BLOCK_BYTES, _RUN_BYTES = 1 << 24, 1 << 18  # as training streams rows
_KINDS = ((20_000, (1280,), 512), (20_000, (1280,), 100), (2_000, (7, 7, 1280), 512))


def read_by_h5py(output: np.ndarray, places: np.ndarray, path: Path, indices: np.ndarray) -> None:
    """What `shard.read_into` does, by h5py alone."""
    with h5py.File(path, "r") as file:
        rows, expected = file["bottlenecks"], file["checksums"][:]
        for part in shard.group(indices // rows.chunks[0]):
            first, stop = int(indices[part].min()), int(indices[part].max()) + 1
            found = rows[first:stop][indices[part] - first]
            if (shard.checksums(found) != expected[indices[part]]).any():
                raise ValueError("damaged")
            output[places[part]] = found


def write(folder: Path, count: int, shape: tuple[int, ...], per_shard: int) -> Rows:
    """Shards of random float16 rows."""
    random, places, paths = np.random.default_rng(0), np.arange(count), []
    for start in range(0, count, per_shard):
        rows = random.normal(size=(min(per_shard, count - start), *shape)).astype(np.float16)
        with shard.ShardWriter(folder, shape, "float16", {}) as writer:
            writer.append([digest(f"{start + row}".encode()) for row in range(len(rows))], rows)
            paths.append(writer.finish())
    whole = tuple(path for path in paths if path)
    return Rows(whole, (places // per_shard).astype(np.int32), (places % per_shard).astype(np.int32))


def orders(count: int, row_bytes: int) -> Iterator[tuple[str, np.ndarray]]:
    """In which order rows are read."""
    random, run = np.random.default_rng(1), max(1, _RUN_BYTES // row_bytes)
    yield "in order", np.arange(count)
    starts = random.permutation(np.arange(0, count, run))
    yield "shuffled runs", np.concatenate([np.arange(start, min(start + run, count)) for start in starts])
    yield "random", random.permutation(count)


def measure(rows: Rows, order: np.ndarray, into: np.ndarray) -> dict[str, list[float]]:
    """Milliseconds of each way to read all rows, block by block."""
    ways: dict[str, Callable[..., None]] = {"fastcls": shard.read_into, "h5py": read_by_h5py}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(_REPEATS):
        for name, read in ways.items():
            shard.read_into = read
            start = time.perf_counter()
            for block in np.split(order, range(len(into), len(order), len(into))):
                rows.take(block).read(into)
            times[name].append(1000 * (time.perf_counter() - start))
    shard.read_into = ways["fastcls"]
    return times


def main() -> None:
    """Print the table."""
    print("| rows | rows per shard | order | fastcls, ms | h5py, ms |\n|---|---|---|---|---|")
    for count, shape, per_shard in _KINDS:
        row_bytes = 2 * int(np.prod(shape))
        into = np.empty((_BLOCK_BYTES // row_bytes, *shape), np.float16)
        with tempfile.TemporaryDirectory() as folder:
            rows = write(Path(folder), count, shape, per_shard)
            for name, order in orders(count, row_bytes):
                taken = measure(rows, order, into).values()
                cells = (f"{np.median(t):.0f} ({min(t):.0f}-{max(t):.0f})" for t in taken)
                size = " x ".join(map(str, (count, *shape)))
                print(f"| {size} | {per_shard} | {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()

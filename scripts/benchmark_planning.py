"""What planning costs per image: generated lists, no image file, no trunk.

    python scripts/benchmark_planning.py --images 1e5 --images 1e6

Each count runs in a fresh process. A CSV table of paths and labels is read with files that are taken to be
there; then come coverage by an empty cache, shard tasks, the table of samples as it is written and read
again, and the index of as many rows.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click


@click.command()
@click.option("--images", "counts", type=float, multiple=True, default=(1e4, 1e5), help="Repeatable.")
@click.option("--alone", is_flag=True, hidden=True)
def main(counts: tuple[float, ...], alone: bool) -> None:
    """Print a table: CPU time and memory of each step, per image."""
    if alone:
        click.echo(json.dumps([*_steps(int(counts[0]))]))
        return
    click.echo("| images | step | CPU seconds | microseconds per image | bytes per image, peak so far |")
    click.echo("|---|---|---|---|---|")
    for count in map(int, counts):
        command = [sys.executable, __file__, "--alone", "--images", str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        for name, seconds, bytes_ in json.loads(done.stdout):
            each = f"{1e6 * seconds / count:.1f} | {bytes_ / count:,.0f}"
            click.echo(f"| {count:,} | {name} | {seconds:.2f} | {each} |")


def _steps(count: int) -> Iterator[tuple[str, float, int]]:
    """Name, CPU seconds, and by how much the peak of memory exceeds that before the first step."""
    from fastcls.cache.manifest import Manifest
    from fastcls.cache.store import Cache
    from fastcls.data.dataset import Dataset
    from fastcls.data.readers import places
    from fastcls.extraction.coverage import ViewedDataset, find_coverage
    from fastcls.extraction.shard_tasks import Work
    from fastcls.specs import ViewSpec

    places._is_file = lambda root, path: True  # type: ignore[assignment]
    start = _peak()

    def timed(name: str, act: Callable[[], Any]) -> tuple[Any, tuple[str, float, int]]:
        started = time.process_time()
        found = act()
        return found, (name, time.process_time() - started, _peak() - start)

    with tempfile.TemporaryDirectory() as made:
        table = _write_table(Path(made) / "list.csv", count)
        dataset, row = timed("read the list", lambda: Dataset.from_csv(table))
        yield row
        viewed = ViewedDataset(dataset, ViewSpec())
        cache = viewed.served_by(Cache.create(Path(made) / "caches", _manifest(Manifest)))
        coverage, row = timed("what is missing", lambda: find_coverage(viewed, cache))
        yield row
        work, row = timed("the work", lambda: Work.of(dataset.root, [coverage.missing], ViewSpec()))
        yield row
        _, row = timed("tasks", lambda: work.tasks(512, 64, 1))
        yield row
        report = viewed.report({})
        _, row = timed("write the table", lambda: cache.listing.write(report, coverage.rows, []))
        yield row
        _, row = timed("read the table", cache.listing.samples)
        yield row


def _write_table(path: Path, count: int) -> Path:
    with path.open("w", encoding="utf-8") as file:
        file.write("path,label\n")
        for place in range(count):
            file.write(f"images/{place // 1000:06}/{place:010}.jpg,class {place % 100:03}\n")
    return path


def _manifest(kind: Any) -> Any:
    texts = ["base", "weights", "layer", "pool", "normalize", "decode", "resize"]
    texts += ["architecture", "weights_digest"]
    others = {"size": (8, 8), "dtype": "float32", "precision": "float32", "shape": (3,)}
    return kind(fingerprint="0" * 32, **dict.fromkeys(texts, "none"), **others)


def _peak() -> int:
    """The most memory that this process has had, in bytes (Linux)."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()

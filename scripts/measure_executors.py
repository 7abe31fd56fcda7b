"""What executors cost beside the work: tasks of an engine that sleeps, so that cores do not matter.

    python scripts/measure_executors.py --tasks 8 --seconds 10 --workers 2

prints for each executor the time from start to end, and by how much that is above the time that the engine
sleeps, shared by the workers. For `ray` a cluster of as many CPUs is started on this machine.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fastcls import files
from fastcls.cache import checked_files
from fastcls.cache.manifest import Manifest
from fastcls.cache.store import Cache
from fastcls.data.decoder import pixel_rule
from fastcls.engines import Engine
from fastcls.extraction.executors.base import find_executor
from fastcls.extraction.shard_tasks import ShardTask, Wanted
from fastcls.extraction.worker import WorkerSpec
from fastcls.specs import EXECUTORS, ExtractConfig, ViewSpec

_IMAGES = 64  # per task
_BATCH = 8
_SECONDS = "FASTCLS_MEASURED_SECONDS"


class SleepingEngine(Engine):
    """Sleeps for its share of a task, and gives the first pixels."""

    def __init__(self, trunk: Path, threads: int = 0) -> None:
        self._seconds = float(os.environ[_SECONDS]) * _BATCH / _IMAGES

    def run(self, images: np.ndarray) -> np.ndarray:
        """See `Engine`."""
        time.sleep(self._seconds)
        return images.reshape(len(images), -1)[:, :16].astype(np.float32)


def make_images(folder: Path, count: int) -> list[str]:
    """Write images of noise, of which no two are the same."""
    folder.mkdir()
    chance = np.random.default_rng(0)
    names = [f"{number:06}.png" for number in range(count)]
    for name in names:
        cv2.imwrite(str(folder / name), chance.integers(0, 256, (8, 8, 3), np.uint8))
    return names


def make_cache(root: Path) -> Cache:
    """A cache for the engine."""
    given: dict[str, Any] = dict.fromkeys(
        ("base", "weights", "layer", "pool", "normalize", "architecture"), "none"
    )
    given |= {**asdict(pixel_rule((8, 8))), "dtype": "float32", "precision": "float32", "shape": (16,)}
    cache = Cache.create(root, Manifest(fingerprint=files.digest(b""), weights_digest="", **given))
    checked_files.keep(
        cache.trunk_path, lambda path: path.write_bytes(b"none"), of=cache.manifest.fingerprint
    )
    return cache


@contextlib.contextmanager
def cluster(workers: int) -> Iterator[None]:
    """A Ray cluster on this machine."""
    import ray

    ray.init(num_cpus=workers, log_to_driver=False, include_dashboard=False, object_store_memory=80 << 20)
    yield
    ray.shutdown()


def measure(name: str, tasks: int, workers: int, folder: Path) -> float:
    """Seconds that an executor takes for tasks of images in a folder."""
    cache = make_cache(folder / name)
    images = sorted(path.name for path in (folder / "images").iterdir())
    made = [
        ShardTask(
            folder / "images",
            tuple(map(Wanted, images[start : start + _IMAGES])),
            ViewSpec(),
            name=f"{start:032x}",
        )
        for start in range(0, len(images), _IMAGES)
    ]
    spec = WorkerSpec((cache.folder,), cache.trunk_path, _BATCH, 1, "measure_executors:SleepingEngine")
    config = ExtractConfig(executor=name, workers=workers if EXECUTORS[name].has_workers else None)
    with cluster(workers) if name == "ray" else contextlib.nullcontext():
        started = time.monotonic()
        done = [*find_executor(config).run(made, spec, workers, lambda images: None)]
        seconds = time.monotonic() - started
    assert sum(info.rows for (info,) in done) == tasks * _IMAGES
    return seconds


def main() -> None:
    """Measure each executor."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10.0, help="that a task takes")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--executors", nargs="+", default=[name for name in EXECUTORS if name != "inline"])
    asked = parser.parse_args()
    os.environ[_SECONDS] = str(asked.seconds)
    here = str(Path(__file__).parent)
    os.environ["PYTHONPATH"] = os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory() as name:
        make_images(Path(name) / "images", asked.tasks * _IMAGES)
        for executor in asked.executors:
            workers = asked.workers if EXECUTORS[executor].has_workers else 1
            ideal = asked.tasks * asked.seconds / workers
            seconds = measure(executor, asked.tasks, asked.workers, Path(name))
            print(f"{executor:10} {seconds:7.1f} s, {100 * (seconds / ideal - 1):4.1f} % above {ideal:.1f} s")


if __name__ == "__main__":
    main()

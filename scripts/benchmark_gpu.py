"""Time extraction on one GPU: the network, decoding, and both in a worker of fastcls.

    python scripts/benchmark_gpu.py PHOTOS --json gpu.json

Keras runs on TensorFlow where it is installed, by the engine of fastcls; else on JAX, by an engine made for
this. Both compute in mixed float16, with random weights, on which the speed does not depend. Prints Markdown
tables; what is going on is said on stderr. The figures are written as JSON after each table.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import itertools
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import cv2
import numpy as np
from benchmarks.figures import Cell, Table
from benchmarks.gpu_engines import BACKEND, NETWORK, NOTHING
from benchmarks.machine import describe
from benchmarks.photos import list_photos, prepare

from fastcls.backend import import_keras
from fastcls.cache import checked_files
from fastcls.cache.manifest import Manifest
from fastcls.cache.store import Cache
from fastcls.data.decoder import pixel_rule, read_image
from fastcls.engines import engine_class
from fastcls.extraction.executors.processes import ProcessExecutor
from fastcls.extraction.shard_tasks import ShardTask, Wanted, Work
from fastcls.extraction.worker import Worker, WorkerSpec
from fastcls.machine import cores, keep_freed_memory
from fastcls.specs import ViewSpec

BASES = {"mobilenetv2": "MobileNetV2", "resnet50": "ResNet50", "efficientnetv2s": "EfficientNetV2S"}
SIDE = 224
JPEG_SIZE = (500, 375)
POLICY = "float32" if BACKEND == "tensorflow" else "mixed_float16"  # fastcls rewrites TensorFlow's graph
SHARD, WHOLE = 512, 4096


@dataclass(frozen=True)
class Setup:
    """What is measured.

    Attributes:
        folder: Temporary folder, with the images in `photos`.
        images: Paths of images, relative to `photos`, no two alike.
        trunks: Caches without rows, each with a trunk, by the names of their bases.
        threads: Numbers of decoding threads.
        batches: Batch sizes.
        seconds: How long an engine alone runs.
    """

    folder: Path
    images: Sequence[str]
    trunks: dict[str, Cache]
    threads: Sequence[int]
    batches: Sequence[int]
    seconds: float

    @property
    def pixels(self) -> np.ndarray:
        """As many images (B, H, W, 3) uint8 as the largest batch has."""
        rule = pixel_rule((SIDE, SIDE))
        decoded = [_decode(self.folder / "photos" / path) for path in self.images[: max(self.batches)]]
        return np.resize(np.stack(decoded), (max(self.batches), *rule.size, 3))


PARTS = ("decoding", "threads", "engines", "shards", "workers")


def _numbers(_context: click.Context, _option: click.Parameter, value: str) -> list[int]:
    return [int(number) for number in value.split(",")]


@click.command()
@click.argument("photos", type=click.Path(exists=True, path_type=Path))
@click.option("--base", "bases", type=click.Choice(list(BASES)), multiple=True, default=tuple(BASES))
@click.option(
    "--trunk",
    "files",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    help="A Keras file, image (224, 224, 3) uint8 -> (B, C), that is measured too, under its name.",
)
@click.option("--part", "parts", type=click.Choice(PARTS), multiple=True, default=PARTS, show_default=True)
@click.option("--images", default=8192, show_default=True, help="How many; photos are repeated.")
@click.option("--threads", callback=_numbers, default="1,2,4,8,16", show_default=True)
@click.option("--batch-sizes", callback=_numbers, default="64,128,256,512", show_default=True)
@click.option("--workers", callback=_numbers, default="1,2,4", show_default=True, help="On the one GPU.")
@click.option("--seconds", default=2.0, show_default=True, help="That an engine alone runs.")
@click.option("--json", "report", type=click.Path(path_type=Path), help="Write the figures to this file.")
def main(
    photos: Path,
    bases: tuple[str, ...],
    files: tuple[Path, ...],
    parts: tuple[str, ...],
    images: int,
    threads: list[int],
    batch_sizes: list[int],
    workers: list[int],
    seconds: float,
    report: Path | None,
) -> None:
    """Compare on PHOTOS, a folder of classes."""
    keep_freed_memory()  # as worker processes do
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        paths = repeat(photos, folder, images)
        trunks = {base: make_trunk(base, folder / base) for base in bases}
        trunks |= {file.stem: read_trunk(file, folder / file.stem) for file in files}
        setup = Setup(folder, paths, trunks, threads, batch_sizes, seconds)
        machine, tables = about(), []
        click.echo("\n".join(f"- {name}: {value}" for name, value in machine.items()) + "\n")
        for table in measure(setup, parts, workers):
            click.echo(table.markdown())
            tables.append(table.to_dict())
            if report:
                report.write_text(json.dumps({"machine": machine, "tables": tables}, indent=2))


def measure(setup: Setup, parts: Sequence[str], workers: Sequence[int]) -> Iterator[Table]:
    """The tables of some parts."""
    made: dict[str, Callable[[], Table]] = {
        "decoding": lambda: _decoding(setup),
        "threads": lambda: _pipeline(setup),
        "engines": lambda: _engines(setup),
        "shards": lambda: _shards(setup),
        "workers": lambda: _workers(setup, workers),
    }
    for part in parts:
        yield made[part]()


def open_keras() -> ModuleType:
    """Keras on the backend of this run."""
    return import_keras() if BACKEND == "tensorflow" else importlib.import_module("keras")


def about() -> dict[str, str]:
    """Machine and versions."""
    if BACKEND == "jax":
        import jax

        name, version = jax.devices()[0].device_kind, importlib.metadata.version("jax")
        return {**describe(), "jax": version, "device": name, "engine": "Keras on JAX, mixed float16"}
    import tensorflow as tf

    details = map(tf.config.experimental.get_device_details, tf.config.list_physical_devices("GPU"))
    name = next((str(detail.get("device_name")) for detail in details), "no GPU")
    return {**describe(), "device": name, "engine": "fastcls on TensorFlow, mixed float16"}


def repeat(photos: Path, folder: Path, count: int) -> list[str]:
    """Re-encode photos, and write as many images, which differ in a comment where the photo is the same."""
    encoded = prepare(photos, folder / "encoded", size=JPEG_SIZE, limit=min(count, len(list_photos(photos))))
    data = [Path(path).read_bytes() for path in list_photos(encoded)]
    (folder / "photos").mkdir()

    def write(number: int) -> str:
        own = data[number % len(data)]
        comment = b"%08d" % number
        marked = own[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + own[2:]
        (folder / "photos" / f"{number:08d}.jpg").write_bytes(marked)
        return f"{number:08d}.jpg"

    with ThreadPoolExecutor(cores()) as pool:
        return list(pool.map(write, range(count)))


def make_trunk(base: str, root: Path) -> Cache:
    """A cache without rows, and its trunk: RGB uint8 image -> pooled features."""
    keras = open_keras()
    keras.config.set_dtype_policy(POLICY)
    image = keras.Input((SIDE, SIDE, 3), dtype="uint8")
    own = {"include_preprocessing": False} if base == "efficientnetv2s" else {}
    kind = getattr(keras.applications, BASES[base])
    network = kind(include_top=False, weights=None, input_shape=(SIDE, SIDE, 3), pooling="avg", **own)
    model = keras.Model(image, network(keras.layers.Rescaling(1 / 127.5, -1)(image)))
    return cache_of(model, base, root)


def read_trunk(file: Path, root: Path) -> Cache:
    """A cache without rows, and its trunk: that of a file."""
    keras = open_keras()
    exact = keras.saving.load_model(file, compile=False)

    def of_policy(operation: Any) -> Any:  # a layer, or a function of keras.ops, which has no policy
        own = {"dtype": POLICY} if isinstance(operation, keras.layers.Layer) else {}
        return type(operation).from_config({**operation.get_config(), **own})

    model = keras.models.clone_model(exact, clone_function=of_policy)
    model.set_weights(exact.get_weights())
    return cache_of(model, file.stem, root)


def cache_of(model: Any, base: str, root: Path) -> Cache:
    """A cache without rows for a trunk, which it holds."""
    cache = empty_cache(root, base, model.output_shape[1:])
    checked_files.keep(cache.trunk_path, model.save, of=cache.manifest.fingerprint)
    return cache


def empty_cache(root: Path, base: str, shape: tuple[int, ...]) -> Cache:
    """A cache without rows."""
    rule = pixel_rule((SIDE, SIDE))
    manifest = Manifest(
        fingerprint=base,
        base=base,
        weights="random",
        layer="avg_pool",
        pool="none",
        normalize="none",
        size=rule.size,
        decode=rule.decode,
        resize=rule.resize,
        dtype="float16",
        precision="float16",
        shape=shape,
        architecture="",
        weights_digest="",
    )
    return Cache.create(root, manifest)


def _decoding(setup: Setup) -> Table:
    """Images per second, of fastcls's decoder alone."""
    rows: list[tuple[Cell, ...]] = []
    paths = [setup.folder / "photos" / path for path in setup.images]
    for threads in setup.threads:
        some = paths[: 1024 * threads]
        cv2.setNumThreads(1)
        with ThreadPoolExecutor(threads) as pool:
            started = time.perf_counter()
            list(pool.map(_decode, some))
            rate = len(some) / (time.perf_counter() - started)
        rows.append((str(threads), rate, rate / threads))
    columns = ("threads", "images/s", "images/s per thread")
    return Table("Reading and decoding alone", columns, rows)


def _decode(path: Path) -> np.ndarray:
    return read_image(path, (SIDE, SIDE))


def _engines(setup: Setup) -> Table:
    """Images per second of each engine on ready batches."""
    rows: list[tuple[Cell, ...]] = []
    pixels = setup.pixels
    for base, batch in itertools.product(setup.trunks, setup.batches):
        images = pixels[:batch]
        engine = engine_class(NETWORK)(setup.trunks[base].trunk_path, 0)
        alone = batch * _rate(lambda: engine.run(images), setup.seconds)  # noqa: B023
        rows.append((base, str(batch), alone, batch * _network_rate(setup, base, images) or None))
        click.echo(f"{rows[-1]}", err=True)
    columns = ("base", "batch size", "engine alone, images/s", "images on the GPU already, images/s")
    return Table("The engine alone", columns, rows)


def _network_rate(setup: Setup, base: str, images: np.ndarray) -> float:
    """Batches per second where nothing is copied and nothing waits; 0 where it is not known."""
    if BACKEND != "jax":
        return 0.0
    import jax
    from benchmarks.gpu_engines import compiled

    forward, there = compiled(setup.trunks[base].trunk_path), jax.device_put(images)
    several = 16
    return several * _rate(
        lambda: jax.block_until_ready([forward(there) for _ in range(several)]), setup.seconds
    )


def _rate(function: Callable[[], Any], seconds: float) -> float:
    """Calls per second, after two."""
    function()
    function()
    calls, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds:
        function()
        calls += 1
    return calls / passed


def _pipeline(setup: Setup) -> Table:
    """Images per second of one worker by its decoding threads."""
    rows: list[tuple[Cell, ...]] = []
    for threads in setup.threads:
        nothing = _worker_rate(setup, None, threads, setup.batches[0], SHARD)
        rates = [_worker_rate(setup, base, threads, setup.batches[0], SHARD) for base in setup.trunks]
        rows.append((str(threads), nothing, *rates))
        click.echo(f"{rows[-1]}", err=True)
    columns = ("threads", "without a network", *setup.trunks)
    note = f"Images/s of one worker, batches of {setup.batches[0]}, shards of {SHARD}."
    return Table("A worker, by its decoding threads", columns, rows, (note,))


def _shards(setup: Setup) -> Table:
    """Images per second of one worker with all threads, by batch size and shard size."""
    rows: list[tuple[Cell, ...]] = []
    for batch, size in itertools.product(setup.batches, (SHARD, WHOLE)):
        bases = [None, *setup.trunks]
        rates = [_worker_rate(setup, base, max(setup.threads), batch, size) for base in bases]
        rows.append((str(batch), str(size), *rates))
        click.echo(f"{rows[-1]}", err=True)
    columns = ("batch size", "rows per shard", "without a network", *setup.trunks)
    note = f"Images/s of one worker with {max(setup.threads)} threads."
    return Table("A worker, by batches and shards", columns, rows, (note,))


def _workers(setup: Setup, counts: Sequence[int]) -> Table:
    """Images per second of several worker processes on one GPU, which share the threads."""
    rows: list[tuple[Cell, ...]] = []
    for count in counts:
        threads = max(1, max(setup.threads) // count)
        rates = [
            _process_rate(setup, base, count, threads, setup.batches[0]) for base in [None, *setup.trunks]
        ]
        rows.append((str(count), str(threads), *rates))
        click.echo(f"{rows[-1]}", err=True)
    columns = ("workers", "threads each", "without a network", *setup.trunks)
    note = f"Images/s while all are at work, batches of {setup.batches[0]}, shards of {SHARD}."
    return Table("Several workers on one GPU", columns, rows, (note,))


def _spec(setup: Setup, base: str | None, threads: int, batch: int, folder: Path) -> WorkerSpec:
    shape = setup.trunks[base].manifest.shape if base else (1,)
    cache = empty_cache(folder, base or "nothing", shape)
    trunk = setup.trunks[base].trunk_path if base else cache.trunk_path
    return WorkerSpec((cache.folder,), trunk, batch, threads, NETWORK if base else NOTHING)


def _tasks(setup: Setup, count: int, batch: int, size: int, workers: int) -> list[ShardTask]:
    images = [Wanted(path, digest=path) for path in setup.images[:count]]  # told apart already
    return Work(setup.folder / "photos", images, ViewSpec()).tasks(size, batch, workers)


def _worker_rate(setup: Setup, base: str | None, threads: int, batch: int, size: int) -> float:
    """Of a worker in this process, from its first finished batch to the last."""
    times = Times()
    with tempfile.TemporaryDirectory(dir=setup.folder) as folder:
        worker = Worker(_spec(setup, base, threads, batch, Path(folder)), times)
        count = max(2 * batch, min(len(setup.images), 1024 * threads))
        for task in _tasks(setup, count, batch, size, 1):
            worker.run(task)
    return times.rate(1)


def _process_rate(setup: Setup, base: str | None, workers: int, threads: int, batch: int) -> float:
    """Of worker processes, while all of them are at work."""
    times = Times()
    with tempfile.TemporaryDirectory(dir=setup.folder) as folder:
        spec = _spec(setup, base, threads, batch, Path(folder))
        tasks = _tasks(setup, len(setup.images), batch, SHARD, workers)
        list(ProcessExecutor().run(tasks, spec, workers, times))
    return times.rate(workers)


class Times:
    """When how many images were done."""

    def __init__(self) -> None:
        self._noted: list[tuple[float, int]] = []

    def __call__(self, images: int) -> None:
        self._noted.append((time.perf_counter(), images))

    def rate(self, workers: int) -> float:
        """Images per second since all engines were loaded."""
        loaded = [place for place, (_, images) in enumerate(self._noted) if not images]
        start = loaded[workers - 1] + workers if len(loaded) >= workers else 0
        done = sum(images for _, images in self._noted[start + 1 :])
        passed = self._noted[-1][0] - self._noted[start][0] if done else math.nan
        return done / passed


if __name__ == "__main__":
    main()

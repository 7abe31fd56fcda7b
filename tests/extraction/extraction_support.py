"""A trunk made of arithmetic, tiny images, a cache prepared for both, and the command line that uses it.

Run as a script it is `fastcls` with this engine in place of TensorFlow.
"""

import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np

from fastcls import files
from fastcls.backend import import_keras
from fastcls.cache import checked_files, store
from fastcls.cache.manifest import Manifest
from fastcls.cache.store import Cache
from fastcls.data.dataset import Dataset
from fastcls.data.decoder import pixel_rule
from fastcls.data.pixel_quality import measure
from fastcls.engines import Engine
from fastcls.engines.tensorflow import TensorFlowEngine
from fastcls.extraction.executors import board, share
from fastcls.extraction.extractor import extract
from fastcls.extraction.fingerprint import cut_token
from fastcls.specs import ENGINES, EXECUTORS, BaseSpec, CutSpec, ExtractConfig

ENGINE = "extraction_support:PixelEngine"
SIZE = (8, 8)
# Executors that need nothing but this machine.
EXECUTORS_HERE = [name for name, kind in EXECUTORS.items() if not kind.is_cluster]
SHAPE = (12,)
# What the blue of an image's first pixel does to the engine.
ABORT, OVERFLOW, NAN, KILL_ONCE, RAISE = 1, 2, 3, 4, 5


class PixelEngine(Engine):
    """Bottleneck = the first twelve values times 0.375, exactly; leaves a line per image in a file.

    The lines are right for batches of one image: larger ones are filled up with old images.
    """

    is_reference = True

    def __init__(self, trunk, threads):
        self._folder = trunk.parent
        self._delay_s = float(os.environ.get("TEST_DELAY_S", "0"))

    def run(self, images):
        for image in images:
            self._note(image)
        rows = images.reshape(len(images), -1)[:, : SHAPE[0]].astype(np.float32) * 0.375
        rows[images[:, 0, 0, 2] == OVERFLOW] = 1e6
        rows[images[:, 0, 0, 2] == NAN] = np.nan
        return rows

    def _note(self, image):
        is_slow = (self._folder / "slow").exists()  # where workers have the environment of others
        time.sleep(0.5 if is_slow else self._delay_s)
        red, green, command = map(int, image[0, 0])
        descriptor = os.open(self._folder / "forwarded.log", os.O_APPEND | os.O_CREAT | os.O_WRONLY)
        os.write(descriptor, b"%d\n" % (red * 256 + green))
        os.close(descriptor)
        if command == ABORT:
            os.abort()
        if command == RAISE:
            raise ValueError("the engine does not like it")
        if command == KILL_ONCE and not (self._folder / "killed").exists():
            (self._folder / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)


class DoubleEngine(PixelEngine):
    """The bottlenecks of two such cuts, end to end."""

    def run(self, images):
        return np.tile(super().run(images), 2)


class CountingEngine(TensorFlowEngine):
    """TensorFlow's engine; leaves a line per forward pass beside the cache folders."""

    def __init__(self, trunk, threads):
        super().__init__(trunk, threads)
        self._log = trunk.parent.parent / "passes.log"

    def run(self, images):
        with self._log.open("a") as file:
            file.write("x\n")
        return super().run(images)


class BrokenEngine(Engine):
    """Cannot be loaded."""

    is_reference = True

    def __init__(self, trunk, threads):
        raise RuntimeError("no such device\nand more")


class DyingEngine(Engine):
    """Kills the process as soon as it is loaded."""

    is_reference = True

    def __init__(self, trunk, threads):
        os.abort()


def pixels(number, command=0):
    """The image with this number, (8, 8, 3) uint8."""
    image = np.random.default_rng(number).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    image[0, 0] = number // 256, number % 256, command
    return image


def encoded(number, command=0):
    """The bytes of that image's PNG file."""
    return cv2.imencode(".png", pixels(number, command)[..., ::-1])[1].tobytes()


def write_images(folder, count, commands=None):
    """Write images 0..count-1 into two class folders; returns their data set."""
    for number in range(count):
        path = folder / "ab"[number % 2] / f"{number:06}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(number, (commands or {}).get(number, 0)))
    return Dataset.open(folder)


def expected_rows(numbers):
    """Their bottlenecks."""
    flat = np.stack([pixels(number) for number in numbers]).reshape(len(numbers), -1)
    return flat[:, : SHAPE[0]].astype(np.float32) * 0.375


def save_model(path, dtype="float32"):
    """Save a tiny base of any input size, of layers that compute in a dtype policy."""
    keras = import_keras()
    keras.utils.set_random_seed(3)
    layers = [
        keras.Input((None, None, 3)),
        keras.layers.Rescaling(1 / 255),
        keras.layers.Conv2D(6, 3, activation="relu", padding="same", dtype=dtype, name="first"),
        keras.layers.BatchNormalization(),
        keras.layers.Conv2D(5, 3, activation="relu", padding="same", dtype=dtype, name="second"),
        keras.layers.GlobalAveragePooling2D(name="pooled"),
        keras.layers.Dense(2, activation="softmax", name="classes"),
    ]
    keras.Sequential(layers).save(path)


def requested(root, dtype="float32"):
    """The request that leads to the prepared cache: the cut of a file that is no model."""
    return CutSpec(BaseSpec(str(root / "base.keras")), dtype=dtype)


def prepare(root, dtype="float32"):
    """A cache that a request leads to; returns that request."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "base.keras").write_bytes(b"not a model")
    request = requested(root, dtype)
    manifest = Manifest(
        fingerprint=files.digest(dtype.encode()),
        base="arithmetic",
        weights="none",
        layer="none",
        pool="avg",
        normalize="none",
        **asdict(pixel_rule(SIZE)),
        dtype=dtype,
        precision="float32",
        shape=SHAPE,
        architecture="none",
        weights_digest="none",
        cuts=(cut_token(request),),
    )
    cache = Cache.create(root, manifest)
    keep_no_model(cache.trunk_path, manifest.fingerprint)
    return request


def keep_no_model(path, of):
    """Something that is no model in the place of one, as an engine of these tests takes it."""
    checked_files.keep(path, lambda temporary: temporary.write_bytes(b"not a model"), of=of)


def only_cache(root):
    """The cache under a root."""
    return Cache.find(root)


def forwarded(root):
    """Numbers of the images that went through the engine, in order."""
    log = store.cache_folders(root)[0] / "forwarded.log"
    return list(map(int, log.read_text().split())) if log.exists() else []


def cached_rows(root):
    """{path: bottleneck} of the samples that have one."""
    cache = only_cache(root)
    samples = cache.samples()
    rows = cache.index().locate([sample.digest for sample in samples])
    present = np.flatnonzero(rows.present)
    values = rows.take(present).read() if len(present) else []
    return {samples[place].path: value for place, value in zip(present, values, strict=True)}


def leftovers(root):
    """Temporary files anywhere under a root."""
    return [path for path in root.rglob(".tmp-*")]


def start_command(*arguments, token="", **environment):
    """Start this module as a command; `token` marks it and its workers for `living`."""
    search = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    return subprocess.Popen(
        [sys.executable, __file__, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": search, "TEST_TOKEN": token, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_command(*arguments, **environment):
    """Run this module as a command: exit code, stdout, stderr."""
    process = start_command(*arguments, **environment)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def extract_arguments(data, root, *more):
    """Arguments of the command that fills the prepared cache."""
    return ("extract", data, "--base", root / "base.keras", "--cache", root, *more)


def living(token):
    """Processes started with this token that run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes()
            is_zombie = ") Z " in (entry / "stat").read_text()
        except OSError:
            continue
        if f"TEST_TOKEN={token}".encode() in environment.split(b"\0") and not is_zombie:
            found.append(int(entry.name))
    return found


def wait_until(condition, timeout_s=10.0):
    """Wait for a condition; returns whether it came."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def _main():
    from fastcls.cli import main

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    ENGINES.clear()
    ENGINES["pixels"] = {"float32": ENGINE}
    if "TEST_EXPIRES_S" in os.environ:
        board.EXPIRES_S = float(os.environ["TEST_EXPIRES_S"])
        board.BEAT_S = share._WAIT_S = board.EXPIRES_S / 10
    try:
        main.main()
    finally:
        print(f"tensorflow={'tensorflow' in sys.modules}", file=sys.stderr)


if __name__ == "__main__":
    _main()


def by(executor, workers=2, **options):
    """How to extract by an executor, with so many processes where it has some."""
    has_workers = EXECUTORS[executor].has_workers
    return ExtractConfig(executor=executor, workers=workers if has_workers else None, **options)


SMALL = ExtractConfig(workers=1, batch_size=1, shard_size=4)
INLINE = ExtractConfig(executor="inline", batch_size=1, shard_size=4)
ARGUMENTS = ("--workers", "2", "--batch-size", "1", "--shard-size", "8")


def fill(data, root, config=INLINE, engine=ENGINE, dtype="float32"):
    request = requested(root, dtype) if root.exists() else prepare(root, dtype)
    return extract(Dataset.open(data), request, root, replace(config, engine=engine))[1]


def check_complete(root, count, without=(), measured=None):
    """Every image has its exact row, with what was measured of it, and every digest is in one place."""
    rows = cached_rows(root)
    numbers = [number for number in range(count) if number not in without]
    assert [int(path[2:8]) for path in rows] == sorted(numbers, key=lambda number: (number % 2, number))
    paths = [f"{'ab'[number % 2]}/{number:06}.png" for number in numbers]
    found = np.stack([rows[path] for path in paths])
    assert np.array_equal(found, expected_rows(numbers))
    digests = {sample.path: sample.digest for sample in only_cache(root).samples()}
    quality = only_cache(root).index().locate([digests[path] for path in paths]).read_quality()
    assert not np.isnan(quality[[number in (measured or numbers) for number in numbers]]).any()
    for number, own in zip(numbers, quality, strict=True):
        assert np.isnan(own).all() or np.array_equal(own, measure(pixels(number), SIZE))
    assert len(only_cache(root).index()) == len(set(only_cache(root).index().digests)) == len(numbers)
    assert leftovers(root) == []

"""Runs shard tasks: read bytes -> digest -> decode -> trunk -> rows of one HDF5 shard.

As a process of its own it is served over a connection that it inherits. It shares nothing with other
workers: no image and no row crosses a process boundary.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fastcls import files
from fastcls.cache.samples import FileState
from fastcls.cache.shard import ShardWriter
from fastcls.cache.store import Cache, Failure, Index
from fastcls.data import sources
from fastcls.data.decoder import UnreadableImage, decode
from fastcls.engines import REFERENCE, Engine, engine_class
from fastcls.errors import FastclsError, WorkerError
from fastcls.extraction.planner import ShardTask
from fastcls.parallel import ahead

# A file younger than this when it is read could change again without a new time of modification.
_SETTLED_NS = 2_000_000_000
# How long a worker without a parent may take to end in order.
_GRACE_S = 2


@dataclass(frozen=True)
class WorkerSpec:
    """What a worker needs to know besides its tasks.

    Attributes:
        cache: The cache folder, absolute.
        batch_size: Images per forward pass.
        threads: Threads for decoding, and for the engine.
        engine: "module:class" with the signature of `TensorFlowEngine`.
        gpus: How many GPUs the workers share; 0 for CPUs.
        compress: Deflate the rows of a shard.
    """

    cache: Path
    batch_size: int
    threads: int
    engine: str = REFERENCE
    gpus: int = 0
    compress: bool = False


@dataclass(frozen=True)
class Reading:
    """What was learnt by reading one image file.

    Attributes:
        path: As in the task.
        digest: The image's identity; "" when the file could not be read.
        state: State of the file; all zero when it cannot be relied on.
        reason: Why the image gives no bottleneck; "" when it does.
    """

    path: str
    digest: str
    state: FileState
    reason: str = ""

    def as_failure(self) -> Failure:
        """This reading as a line of `failures.csv`."""
        return Failure(self.path, self.digest, self.reason)


@dataclass(frozen=True)
class ShardInfo:
    """Result of a shard task.

    Attributes:
        path: The shard; None when the task held no new image.
        forwarded: How many images got their bottleneck.
        readings: One per image of the task.
    """

    path: Path | None
    forwarded: int
    readings: tuple[Reading, ...]


class Worker:
    """Turns shard tasks into shards.

    Args:
        spec: Cache, batch size, threads, engine.
        on_progress: Called with the number of images that are done since the last call; with 0 when the
            engine is loaded.

    Raises:
        CacheError: The cache folder is not a cache.
    """

    def __init__(self, spec: WorkerSpec, on_progress: Callable[[int], Any]) -> None:
        cv2.setNumThreads(1)  # images are decoded side by side, each by one thread
        self._spec = spec
        self._on_progress = on_progress
        self._cache = Cache(spec.cache)
        self._index = self._cache.index()
        self._engine: Engine | None = None
        self._images = np.zeros((spec.batch_size, *self._cache.manifest.size, 3), np.uint8)

    def run(self, task: ShardTask) -> ShardInfo:
        """Run one task.

        Raises:
            WorkerError: The engine cannot be loaded, or fails.
            OSError: The shard cannot be written.
        """
        manifest = self._cache.manifest
        described = {"fingerprint": manifest.fingerprint, "base": manifest.base, "layer": manifest.layer}
        readings: list[Reading] = []
        spoilt: dict[str, str] = {}
        place = self._cache.shards_folder
        compress = self._spec.compress
        with ShardWriter(place, manifest.shape, manifest.dtype, described, compress=compress) as writer:
            for batch in _batches(self._read(task), self._spec.batch_size):
                images = {reading.digest: image for reading, image in batch if image is not None}
                spoilt |= self._forward(images, writer)
                readings += [reading for reading, _ in batch]
                self._on_progress(len(batch))
            path = writer.finish()
            forwarded = len(writer)
        readings = [replace(r, reason=spoilt[r.digest]) if r.digest in spoilt else r for r in readings]
        return ShardInfo(path, forwarded, tuple(readings))

    def _read(self, task: ShardTask) -> Iterator[tuple[Reading, np.ndarray | None]]:
        """Read, digest and decode ahead of the engine, in the task's order; known images without pixels."""
        seen: set[str] = set()
        read = _Reader(task.root, self._cache.manifest.size, self._index)
        depth = 2 * self._spec.batch_size
        for reading, image in ahead(read, task.paths, threads=self._spec.threads, depth=depth):
            is_repeated = reading.digest in seen
            seen.add(reading.digest)
            yield reading, None if is_repeated else image

    def _forward(self, images: dict[str, np.ndarray], writer: ShardWriter) -> dict[str, str]:
        """Forward images by digest and store their rows; returns why some gave none, by digest."""
        if not images:
            return {}
        for place, image in enumerate(images.values()):
            self._images[place] = image
        rows = self._run_engine()[: len(images)]
        with np.errstate(over="ignore"):
            rows = rows.astype(self._cache.manifest.dtype, copy=False)
        finite = np.isfinite(rows.reshape(len(rows), -1)).all(axis=1)
        writer.append([digest for digest, fits in zip(images, finite, strict=True) if fits], rows[finite])
        reason = f"its bottleneck does not fit {rows.dtype} (overflow or not a number)"
        return {digest: reason for digest, fits in zip(images, finite, strict=True) if not fits}

    def _run_engine(self) -> np.ndarray:
        # The engine is loaded late: digesting images that turn out to be known needs none.
        if not self._engine:
            trunk = self._cache.trunk_path
            advice = (
                f"If {trunk} or what was converted from it (openvino) is damaged, delete both: the same "
                "command makes them anew"
            )
            with _engine_trouble(f"The engine cannot load {trunk}", advice):
                self._engine = engine_class(self._spec.engine)(trunk, self._spec.threads)
            self._on_progress(0)
        # Always a full batch: a row must not depend on how many others were left to forward.
        with _engine_trouble(f"A batch of {len(self._images)} images failed", "Try a smaller --batch-size"):
            return self._engine.run(self._images)


class _Reader:
    """Reads and decodes one image file."""

    def __init__(self, root: Path, size: tuple[int, int], known: Index) -> None:
        self._root, self._size, self._known = root, size, known

    def __call__(self, path: str) -> tuple[Reading, np.ndarray | None]:
        reading, data = identify(self._root, path)
        if reading.reason or self._known.locate([reading.digest]).present[0]:
            return reading, None
        try:
            return reading, decode(data, self._size)
        except UnreadableImage as error:
            return replace(reading, reason=str(error)), None


def identify(root: Path, path: str) -> tuple[Reading, bytes]:
    """Read an image and say which it is.

    Returns:
        What was learnt, with a reason when it cannot be read, and the bytes of its file.
    """
    place = os.path.join(root, path)  # noqa: PTH118 (quicker)
    try:
        state = FileState.of(place)
        data = sources.read_bytes(place)
    except OSError as error:
        return Reading(path, "", FileState(), f"cannot be read: {error.strerror or error}"), b""
    if time.time_ns() - max(state.mtime_ns, state.ctime_ns) < _SETTLED_NS:
        state = FileState()
    return Reading(path, files.digest(data), state), data


def main() -> None:
    """Serve the connection whose descriptor is the first argument: a spec, then tasks."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    connection: Connection[Any, Any] = Connection(int(sys.argv[1]))
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, messages), daemon=True).start()
    try:
        _serve(connection, messages)
    except BaseException:
        traceback.print_exc()
    os._exit(1)  # the listening thread would hold up an orderly end


def _listen(connection: Connection[Any, Any], messages: queue.SimpleQueue[Any]) -> None:
    """Pass messages on; end this process, busy or not, when there is nobody left to work for."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            messages.put(connection.recv())
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)  # removes the unfinished shard
    time.sleep(_GRACE_S)
    os._exit(1)


def _serve(connection: Connection[Any, Any], messages: queue.SimpleQueue[Any]) -> None:
    try:
        worker = Worker(messages.get(), lambda images: connection.send(("progress", images)))
        connection.send(("ready", None))
        while True:
            connection.send(("done", worker.run(messages.get())))
    except (FastclsError, OSError) as error:
        connection.send(("error", error))


@contextlib.contextmanager
def _engine_trouble(fact: str, advice: str) -> Iterator[None]:
    """Whatever a library raises here stops the run: it does not come from one image."""
    try:
        yield
    except FastclsError:
        raise
    except Exception as error:
        first = next(iter(str(error).strip().splitlines()), "")[:300]
        raise WorkerError(f"{fact}: {type(error).__name__}: {first}. {advice}") from error


def _batches(
    readings: Iterable[tuple[Reading, np.ndarray | None]], size: int
) -> Iterator[list[tuple[Reading, np.ndarray | None]]]:
    """Groups that hold `size` images to forward each, with the readings between them."""
    batch: list[tuple[Reading, np.ndarray | None]] = []
    images = 0
    for reading in readings:
        batch.append(reading)
        images += reading[1] is not None
        if images == size or len(batch) == 16 * size:
            yield batch
            batch, images = [], 0
    if batch:
        yield batch

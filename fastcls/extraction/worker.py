"""Runs shard tasks: read bytes -> digest -> decode -> views -> trunk -> rows of one HDF5 shard.

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
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from fastcls.data.views import make_view, row_key
from fastcls.engines import REFERENCE, Engine, engine_class
from fastcls.errors import FastclsError, WorkerError
from fastcls.extraction.planner import ShardTask, Wanted
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
        path: The shard; None when the task held no new view.
        forwarded: How many images got a bottleneck.
        rows: How many bottlenecks they got.
        readings: One per image of the task.
    """

    path: Path | None
    forwarded: int
    rows: int
    readings: tuple[Reading, ...]


@dataclass(frozen=True)
class _View:
    """One view of an image, or an image without any to forward.

    Attributes:
        reading: What was learnt by reading the image.
        key: What its row is found by; "" without pixels.
        pixels: (H, W, 3) uint8.
        is_last: Whether this is the image's last view in the task.
    """

    reading: Reading
    key: str = ""
    pixels: np.ndarray | None = None
    is_last: bool = True


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
        forwarded: set[str] = set()
        spoilt: dict[str, str] = {}
        place = self._cache.shards_folder
        compress = self._spec.compress
        with ShardWriter(place, manifest.shape, manifest.dtype, described, compress=compress) as writer:
            for batch in _batches(self._read(task), self._spec.batch_size):
                views = [view for view in batch if view.pixels is not None]
                spoilt |= self._forward(views, writer)
                forwarded |= {view.reading.digest for view in views}
                done = [view.reading for view in batch if view.is_last]
                readings += done
                self._on_progress(len(done))
            path = writer.finish()
            rows = len(writer)
        readings = [replace(r, reason=spoilt[r.digest]) if r.digest in spoilt else r for r in readings]
        return ShardInfo(path, len(forwarded - set(spoilt)), rows, tuple(readings))

    def _read(self, task: ShardTask) -> Iterator[_View]:
        """Read, digest, decode and augment ahead of the engine, in the task's order."""
        seen: set[str] = set()
        read = _Reader(task, self._cache.manifest.size, self._index)
        most = max((image.views for image in task.images), default=1)
        depth = self._spec.threads + 2 * self._spec.batch_size // most
        for reading, views in ahead(read, task.images, threads=self._spec.threads, depth=depth):
            new = [(key, pixels) for key, pixels in views.items() if key not in seen]
            seen.update(views)
            for number, (key, pixels) in enumerate(new, start=1):
                yield _View(reading, key, pixels, is_last=number == len(new))
            if not new:
                yield _View(reading)

    def _forward(self, views: Sequence[_View], writer: ShardWriter) -> dict[str, str]:
        """Forward views and store their rows; returns why some gave none, by digest of the image."""
        if not views:
            return {}
        for place, view in enumerate(views):
            self._images[place] = view.pixels  # type: ignore[assignment]
        rows = self._run_engine()[: len(views)]
        with np.errstate(over="ignore"):
            rows = rows.astype(self._cache.manifest.dtype, copy=False)
        finite = np.isfinite(rows.reshape(len(rows), -1)).all(axis=1)
        writer.append([view.key for view, fits in zip(views, finite, strict=True) if fits], rows[finite])
        reason = f"its bottleneck does not fit {rows.dtype} (overflow or not a number)"
        return {view.reading.digest: reason for view, fits in zip(views, finite, strict=True) if not fits}

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
    """Reads and decodes one image file, and makes those of its views that are not there."""

    def __init__(self, task: ShardTask, size: tuple[int, int], known: Index) -> None:
        self._root, self._views, self._size, self._known = task.root, task.views, size, known

    def __call__(self, wanted: Wanted) -> tuple[Reading, dict[str, np.ndarray]]:
        reading, data = identify(self._root, wanted.path)
        if reading.reason:
            return reading, {}
        keys = [row_key(reading.digest, self._views, number) for number in range(wanted.views)]
        absent = np.flatnonzero(~self._known.locate(keys).present)
        if not len(absent):
            return reading, {}
        try:
            image = decode(data, self._size)
        except UnreadableImage as error:
            return replace(reading, reason=str(error)), {}
        return reading, {
            keys[number]: make_view(image, reading.digest, self._views, number) for number in absent.tolist()
        }


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


def _batches(views: Iterable[_View], size: int) -> Iterator[list[_View]]:
    """Groups that hold `size` views to forward each, with those without pixels between them."""
    batch: list[_View] = []
    count = 0
    for view in views:
        batch.append(view)
        count += view.pixels is not None
        if count == size or len(batch) == 16 * size:
            yield batch
            batch, count = [], 0
    if batch:
        yield batch

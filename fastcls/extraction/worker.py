"""Runs shard tasks: read bytes -> digest -> decode -> views -> trunk -> rows of one HDF5 shard.

As a process of its own it is served over a connection that it inherits. It shares nothing with other
workers: no image and no row crosses a process boundary.
"""

from __future__ import annotations

import contextlib
import functools
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

from fastcls.backend import spare_imports
from fastcls.cache import mirror, shard
from fastcls.cache.named_shards import find_named, give_name
from fastcls.cache.shard import ShardWriter
from fastcls.cache.store import Cache
from fastcls.data.decoder import Decoder
from fastcls.engines import Engine, engine_class, made_by
from fastcls.errors import FastclsError, WorkerError
from fastcls.extraction.read_ahead import EarlyImages, ReadAhead
from fastcls.extraction.reading import ImageReader, Reading, Take, View
from fastcls.extraction.shard_tasks import ShardTask
from fastcls.extraction.shared_trunk import split_rows
from fastcls.files import PathLike
from fastcls.machine import keep_freed_memory
from fastcls.parallel import WAITING_WIDE, ahead
from fastcls.wording import count_of

# How long a worker without a parent may take to end in order.
_GRACE_S = 2


@dataclass(frozen=True)
class WorkerSpec:
    """What a worker needs to know besides its tasks.

    Attributes:
        caches: Folders of the caches to fill, absolute, or their URLs.
        trunk: The saved model whose rows are those of the caches, end to end; likewise.
        batch_size: Images per forward pass.
        threads: Threads for decoding, and for the engine.
        engine: An engine, as "module:class".
        gpus: How many GPUs the workers share; 0 for CPUs.
        compress: Deflate the rows of a shard.
        max_pixels: See `decoder.decode`.
    """

    caches: tuple[PathLike, ...]
    trunk: PathLike
    batch_size: int
    threads: int
    engine: str
    gpus: int = 0
    compress: bool = False
    max_pixels: int | None = None


@dataclass(frozen=True)
class ShardInfo:
    """Result of a shard task for one cache.

    Attributes:
        path: The shard; None when the task held no new view.
        forwarded: How many images got a bottleneck.
        rows: How many bottlenecks they got.
        readings: One per image of the task that the cache lacks a row of.
    """

    path: Path | None
    forwarded: int
    rows: int
    readings: tuple[Reading, ...]


# Of one task, for each cache.
Results = tuple[ShardInfo, ...]


class Worker:
    """Turns shard tasks into shards.

    Args:
        spec: Caches, batch size, threads, engine.
        on_progress: Called with the number of images that are done since the last call; with 0 when the
            engine is loaded.
        early: Has images that were read before: see `ImageReader`.

    Raises:
        CacheError: A cache folder is not a cache.
    """

    def __init__(
        self, spec: WorkerSpec, on_progress: Callable[[int], Any], early: Take | None = None
    ) -> None:
        cv2.setNumThreads(1)  # images are decoded side by side, each by one thread
        self._spec = spec
        self._on_progress = on_progress
        self._early = early
        self._caches = [Cache(folder) for folder in spec.caches]
        self._indexes = [cache.index() for cache in self._caches]
        self._engine: Engine | None = None
        self._decoder = Decoder(self._caches[0].manifest.pixels, spec.max_pixels)
        self._images = np.zeros((spec.batch_size, *self._decoder.rule.size, 3), np.uint8)

    def run(self, task: ShardTask) -> Results:
        """Run one task.

        Raises:
            WorkerError: The engine cannot be loaded, or fails.
            OSError: A shard cannot be written.
        """
        with contextlib.ExitStack() as stack:
            sinks = [self._open(cache, place, stack) for place, cache in enumerate(self._caches)]
            for batch in _batches(self._read(task), self._spec.batch_size):
                self._forward([view for view in batch if view.lacking], sinks)
                done = [view for view in batch if view.is_last]
                for sink in sinks:
                    sink.note(done)
                self._on_progress(len(done))
            return tuple(sink.finish(task.name) for sink in sinks)

    def _open(self, cache: Cache, place: int, stack: contextlib.ExitStack) -> _Sink:
        manifest = cache.manifest
        described = {"fingerprint": manifest.fingerprint, "base": manifest.base, "layer": manifest.layer}
        described[shard.MADE_BY] = made_by(self._spec.engine)
        kind = (manifest.shape, manifest.dtype, described)
        writer = ShardWriter(cache.landing_folder, *kind, compress=self._spec.compress)
        return _Sink(place, stack.enter_context(writer), cache)

    def _read(self, task: ShardTask) -> Iterator[View]:
        """Read, digest, decode and augment ahead of the engine, in the task's order."""
        seen = self._made(task.name)
        read = ImageReader(task, self._decoder, self._indexes, self._early, self._spec.threads)
        most = max((image.views for image in task.images), default=1)
        threads = max(self._spec.threads, WAITING_WIDE) if task.is_remote else self._spec.threads
        depth = threads + 2 * self._spec.batch_size // most
        for views in ahead(read, task.images, threads=threads, depth=depth):
            new = []
            for view in views:
                lacking = tuple(place for place in view.lacking if (place, view.key) not in seen)
                seen.update((place, view.key) for place in lacking)
                new += [replace(view, lacking=lacking, is_last=False)] if lacking else []
            yield from new[:-1]
            yield replace(new[-1] if new else views[-1], lacking=new[-1].lacking if new else (), is_last=True)

    def _made(self, name: str) -> set[tuple[int, str]]:
        """The rows of each cache that others have made of a task since its index was read."""
        if not name:
            return set()
        manifests = [(cache.shards_folder, cache.manifest.fingerprint) for cache in self._caches]
        found = [find_named(folder, name, fingerprint) for folder, fingerprint in manifests]
        return {
            (place, key.decode())
            for place, shards in enumerate(found)
            for digests in shards.values()
            for key in digests.tolist()
        }

    def _forward(self, views: Sequence[View], sinks: Sequence[_Sink]) -> None:
        """Forward views, and hand each cache those rows that it lacks."""
        if not views:
            return
        for place, view in enumerate(views):
            self._images[place] = view.pixels  # type: ignore[assignment]
        rows = self._run_engine()[: len(views)]
        parts = split_rows(rows, [cache.manifest.shape for cache in self._caches])
        for sink, part in zip(sinks, parts, strict=True):
            sink.add(views, part)

    def _run_engine(self) -> np.ndarray:
        # The engine is loaded late: digesting images that turn out to be known needs none.
        if not self._engine:
            trunk = mirror.local(mirror.folder_of(self._spec.trunk))
            advice = (
                f"If {trunk} or its conversion (in the folder openvino) is damaged, delete both: the same "
                "command recreates them"
            )
            with _engine_trouble(f"The engine cannot load {trunk}", advice):
                engine = engine_class(self._spec.engine)
                if mirror.url_of(trunk) and engine.damage(trunk):  # made on another machine
                    mirror.pull_engines(trunk)
                self._engine = engine(trunk, self._spec.threads)
            self._on_progress(0)
        # Always a full batch: a row must not depend on how many others were left to forward.
        with _engine_trouble(
            f"A batch of {count_of(len(self._images), 'image')} failed", "Try a smaller --batch-size"
        ):
            return self._engine.run(self._images)


class _Sink:
    """Takes the rows of one cache while a task runs.

    Args:
        place: The cache's, among those that are filled.
        writer: Its shard.
        cache: The cache.
    """

    def __init__(self, place: int, writer: ShardWriter, cache: Cache) -> None:
        self._place, self._writer, self._cache = place, writer, cache
        self._dtype = cache.manifest.dtype
        self._readings: list[Reading] = []
        self._forwarded: set[str] = set()
        self._spoilt: dict[str, str] = {}  # why an image has a row that cannot be stored, by its digest

    def add(self, views: Sequence[View], rows: np.ndarray) -> None:
        """Store the rows (N, ...) of those of N views that the cache lacks."""
        places = [number for number, view in enumerate(views) if self._place in view.lacking]
        if not places:
            return
        made = rows[places]
        with np.errstate(over="ignore"):
            stored = made.astype(self._dtype, copy=False)
        fits = np.isfinite(stored.reshape(len(stored), -1)).all(axis=1)
        for number, row, is_kept in zip(places, made, fits, strict=True):
            digest = views[number].reading.digest
            if is_kept:
                self._forwarded.add(digest)
            else:
                self._spoilt[digest] = _why_spoilt(row, self._dtype)
        kept = [views[number] for number, is_kept in zip(places, fits, strict=True) if is_kept]
        self._writer.append([view.key for view in kept], stored[fits], [view.quality for view in kept])

    def note(self, views: Sequence[View]) -> None:
        """Take in what was learnt of images whose last views these are."""
        self._readings += [view.reading for view in views if self._place in view.caches]

    def finish(self, name: str) -> ShardInfo:
        """Complete the shard of a task of this name; it is done when it is where the others are."""
        give_place = functools.partial(give_name, name, self._cache.manifest.fingerprint)
        path = self._writer.finish(give_place if name else None)
        path = self._cache.publish(path) if path else None
        readings = [replace(r, reason=self._spoilt.get(r.digest, r.reason)) for r in self._readings]
        forwarded = len(self._forwarded - self._spoilt.keys())
        return ShardInfo(path, forwarded, len(self._writer), tuple(readings))


def _why_spoilt(row: np.ndarray, dtype: str) -> str:
    largest = float(np.abs(row).max())
    if not np.isfinite(largest):
        return "its bottleneck holds a value that is not finite"
    return (
        f"its bottleneck holds a value of {largest:.6g}, and {dtype} ends at {np.finfo(dtype).max:.6g}. Use "
        "--dtype float32"
    )


def main() -> None:
    """Serve the connection whose descriptor is the first argument: maybe `ReadAhead`, a spec, then tasks."""
    keep_freed_memory()
    spare_imports()
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
        early, message = None, messages.get()
        if isinstance(message, ReadAhead):
            images = EarlyImages(message)
            message, early = messages.get(), images.take
            images.stop()
        worker = Worker(message, lambda count: connection.send(("progress", count)), early)
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


def _batches(views: Iterable[View], size: int) -> Iterator[list[View]]:
    """Groups that hold `size` views to forward each, with those that need it not between them."""
    batch: list[View] = []
    count = 0
    for view in views:
        batch.append(view)
        count += bool(view.lacking)
        if count == size or len(batch) == 16 * size:
            yield batch
            batch, count = [], 0
    if batch:
        yield batch

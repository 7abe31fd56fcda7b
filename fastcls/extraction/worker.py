"""Runs shard tasks: read bytes -> digest -> decode -> trunk -> rows of one HDF5 shard.

As a process of its own (`python -m fastcls.extraction.worker`) it reads one JSON line per task from
stdin and answers with JSON lines on stdout. It shares nothing with other workers: no image and no row
crosses a process boundary.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np

from fastcls import files
from fastcls.cache.samples import FileState
from fastcls.cache.shard import ShardWriter
from fastcls.cache.store import Cache, Failure, Index
from fastcls.data.decoder import UnreadableImage, decode
from fastcls.engines import Engine
from fastcls.errors import FastclsError
from fastcls.extraction.planner import ShardTask
from fastcls.parallel import ahead

TENSORFLOW = "fastcls.engines.tensorflow:TensorFlowEngine"
# A file younger than this when it is read could change again without a new time of modification.
_SETTLED_NS = 2_000_000_000


@dataclass(frozen=True)
class WorkerSpec:
    """What a worker needs to know besides its tasks.

    Attributes:
        cache: The cache folder.
        batch_size: Images per forward pass.
        threads: Threads for decoding, and for the engine.
        engine: "module:class" with the signature of `TensorFlowEngine`.
    """

    cache: str
    batch_size: int
    threads: int
    engine: str = TENSORFLOW


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
        forwarded: How many images went through the trunk.
        readings: One per image of the task.
    """

    path: str | None
    forwarded: int
    readings: tuple[Reading, ...]


class Worker:
    """Turns shard tasks into shards.

    Args:
        spec: Cache, batch size, threads, engine.

    Raises:
        CacheError: The cache folder is not a cache.
    """

    def __init__(self, spec: WorkerSpec) -> None:
        cv2.setNumThreads(1)  # images are decoded side by side, each by one thread
        self._spec = spec
        self._cache = Cache(Path(spec.cache))
        self._index = self._cache.index()
        self._engine = _load_engine(spec, self._cache)
        self._buffer = np.zeros((spec.batch_size, *self._cache.manifest.size, 3), np.uint8)

    def run(self, task: ShardTask, on_progress: Callable[[int], None]) -> ShardInfo:
        """Run one task.

        Args:
            task: The images.
            on_progress: Called with the number of images that are done since the last call.
        """
        manifest = self._cache.manifest
        described = {"fingerprint": manifest.fingerprint, "base": manifest.base, "layer": manifest.layer}
        forwarded, readings = 0, []
        with ShardWriter(self._cache.shards_folder, manifest.shape, manifest.dtype, described) as writer:
            for batch in _batches(self._read(task), self._spec.batch_size):
                fresh = [(reading, image) for reading, image in batch if image is not None]
                done = dict(self._forward(fresh, writer))
                readings += [done.get(reading.path, reading) for reading, _ in batch]
                forwarded += len(fresh)
                on_progress(len(batch))
            path = writer.finish()
        return ShardInfo(str(path) if path else None, forwarded, tuple(readings))

    def _read(self, task: ShardTask) -> Iterator[tuple[Reading, np.ndarray | None]]:
        """Read, digest and decode ahead of the engine, in the task's order; known images without pixels."""
        seen: set[str] = set()
        read = _Reader(task.root, self._cache.manifest.size, self._index)
        depth = 2 * self._spec.batch_size
        for reading, image in ahead(read, task.paths, threads=self._spec.threads, depth=depth):
            is_repeated = reading.digest in seen
            seen.add(reading.digest)
            yield reading, None if is_repeated else image

    def _forward(
        self, fresh: list[tuple[Reading, np.ndarray]], writer: ShardWriter
    ) -> Iterator[tuple[str, Reading]]:
        """Forward a batch and store its rows; yields what became of images that gave none."""
        if not fresh:
            return
        for place, (_, image) in enumerate(fresh):
            self._buffer[place] = image
        # Always a full batch: a row must not depend on how many others were left to forward.
        rows = self._engine.run(self._buffer)[: len(fresh)]
        with np.errstate(over="ignore"):
            rows = rows.astype(self._cache.manifest.dtype, copy=False)
        finite = np.isfinite(rows.reshape(len(rows), -1)).all(axis=1)
        writer.append([r.digest for (r, _), ok in zip(fresh, finite, strict=True) if ok], rows[finite])
        for (reading, _), ok in zip(fresh, finite, strict=True):
            if not ok:
                reason = f"its bottleneck does not fit {rows.dtype} (overflow or not a number)"
                yield reading.path, Reading(reading.path, reading.digest, reading.state, reason)


class _Reader:
    """Reads and decodes one image file."""

    def __init__(self, root: str, size: tuple[int, int], known: Index) -> None:
        self._root, self._size, self._known = root, size, known

    def __call__(self, path: str) -> tuple[Reading, np.ndarray | None]:
        place = os.path.join(self._root, path)  # noqa: PTH118 (quicker)
        try:
            state = FileState.of(place)
            data = Path(place).read_bytes()
        except OSError as error:
            return Reading(path, "", FileState(), f"cannot be read: {error.strerror or error}"), None
        if time.time_ns() - max(state.mtime_ns, state.ctime_ns) < _SETTLED_NS:
            state = FileState()
        digest = files.digest(data)
        if self._known.locate([digest]).present[0]:
            return Reading(path, digest, state), None
        try:
            return Reading(path, digest, state), decode(data, self._size)
        except UnreadableImage as error:
            return Reading(path, digest, state, str(error)), None


def main() -> None:
    """Serve tasks from stdin until it ends."""
    answers = _claim_stdout()

    def answer(event: str, **values: Any) -> None:
        answers.write(json.dumps({"event": event, **values}) + "\n")
        answers.flush()

    try:
        worker = Worker(WorkerSpec(**json.loads(sys.stdin.readline())))
        answer("ready")
        for line in sys.stdin:
            task = ShardTask(**json.loads(line))
            info = worker.run(task, lambda count: answer("progress", images=count))
            answer("done", info=asdict(info))
    except BrokenPipeError:
        os._exit(1)  # whoever wanted the result is gone
    except (FastclsError, OSError) as error:
        answer("error", message=str(error), errno=getattr(error, "errno", None))


def info_from_json(values: dict[str, Any]) -> ShardInfo:
    """A `ShardInfo` from its JSON form."""
    readings = [Reading(**{**r, "state": FileState(**r["state"])}) for r in values["readings"]]
    return ShardInfo(values["path"], values["forwarded"], tuple(readings))


def _claim_stdout() -> IO[str]:
    """Keep the pipe for answers; whatever a library prints goes to stderr instead."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def _load_engine(spec: WorkerSpec, cache: Cache) -> Engine:
    module, _, name = spec.engine.partition(":")
    engine: Engine = getattr(importlib.import_module(module), name)(cache.trunk_path, spec.threads)
    return engine


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


if __name__ == "__main__":
    main()

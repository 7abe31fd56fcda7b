"""Allocate the cores, memory and GPUs of the machine to workers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fastcls.engines import Engine
from fastcls.engines.devices import gpus
from fastcls.errors import OptionError
from fastcls.machine import available_memory, cores
from fastcls.specs import EXECUTORS, ExtractConfig

_IMAGES_PER_WORKER = 64  # fewer are done before another worker has started
# One process of two threads extracts as fast as two processes of one, in less memory, and starts sooner
# (docs/benchmarks.md, "workers").
_CORES_PER_WORKER = 2
# On a GPU, decoding is what takes long, and the threads of one process wait for Python's interpreter lock:
# four processes of four threads decode twice as much as one of 16 (docs/benchmarks.md, "On a GPU").
_IMAGES_PER_WORKER_GPU = 4096
_CORES_PER_WORKER_GPU = 4
_WORKERS_PER_GPU = 4


@dataclass(frozen=True)
class Resources:
    """What an extraction uses of the machine.

    Attributes:
        workers: Processes; 0 for this one.
        threads: Threads for inference and for decoding, in each.
        batch_size: Images per forward pass.
        gpus: How many GPUs the processes share; 0 for CPUs.
        is_cluster: Whether the processes are actors of a cluster; 0 workers are as many as it has room for.
    """

    workers: int
    threads: int
    batch_size: int
    gpus: int
    is_cluster: bool = False

    def __str__(self) -> str:
        devices = f" on {_count(self.gpus, 'GPU')}" if self.gpus else ""
        if self.is_cluster:
            actors = _count(self.workers, "actor") if self.workers else "as many actors as there is room for"
            return f"{actors}{devices}, batches of {self.batch_size}"
        processes = _count(self.workers, "worker") if self.workers else "this process"
        threads = _count(self.threads, "thread")
        return f"{processes} x {threads}{devices}, batches of {self.batch_size}"


def allocate(
    config: ExtractConfig, engine: type[Engine], *, rows: int, trunk_bytes: int, has_workers: bool
) -> Resources:
    """Choose workers, threads and batch size where the user has not.

    Args:
        config: What the user wants.
        engine: What each worker runs.
        rows: How many bottlenecks are to be made.
        trunk_bytes: Size of the trunk's file.
        has_workers: Whether the executor starts processes.
    """
    devices = len(gpus()) if engine.uses_gpu else 0
    batch_size = usual = 64 if devices else 8
    if config.batch_size:  # a batch is of one shard; a row must not depend on how many images there are
        batch_size = min(config.batch_size, max(usual, config.shard_size))
    if EXECUTORS[config.executor].is_cluster:
        return Resources(config.workers or 0, 1, batch_size, min(devices, 1), is_cluster=True)
    if not has_workers:
        return Resources(0, cores(), batch_size, min(devices, 1))
    workers = config.workers
    if workers is None:
        fitting = cores() // (_CORES_PER_WORKER_GPU if devices else _CORES_PER_WORKER)
        fitting = min(fitting, available_memory() // engine.memory(trunk_bytes))
        if devices:
            fitting = min(fitting, _WORKERS_PER_GPU * devices)
        useful = math.ceil(rows / max(_IMAGES_PER_WORKER_GPU if devices else _IMAGES_PER_WORKER, batch_size))
        workers = max(devices, 1, min(fitting, useful))
    return Resources(workers, max(1, cores() // workers), batch_size, min(devices, workers))


def require_room(config: ExtractConfig) -> None:
    """Refuse more workers than this machine has cores, where its memory does not hold them either.

    Raises:
        OptionError: There are too many.
    """
    kind = EXECUTORS[config.executor]
    if kind.is_cluster or not kind.has_workers or config.workers is None or config.workers <= cores():
        return
    most = max(cores(), available_memory() // Engine.memory(0))
    if config.workers > most:
        raise OptionError(
            f"--workers {config.workers} is more than the memory of this machine holds: each takes about "
            f"{Engine.memory(0) >> 20} MiB. Choose {most} or fewer"
        )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"

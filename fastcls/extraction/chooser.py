"""Choose what runs the trunk, in which precision, and by how many workers."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fastcls.cache.store import Cache
from fastcls.data.dataset import Dataset
from fastcls.engines import REFERENCE, engine_class, engine_path, engines_of
from fastcls.engines.tensorflow import Trunk, gpus
from fastcls.errors import CacheError, ConversionError, MissingExtraError, OptionError
from fastcls.extraction.fidelity import Fidelity, InfidelityError, measure, some_images, spread
from fastcls.extraction.planner import Plan, Requested, make_plan
from fastcls.machine import available_memory, cores
from fastcls.specs import ExtractConfig, ViewSpec

# int8 is never chosen unasked. Mixed precision on GPUs is float16.
_AUTO_PRECISIONS = ("bfloat16", "float16", "float32")
_AUTO_PRECISIONS_GPU = ("float16", "float32")
_COMPARED = 32
_CALIBRATED = 96
_IMAGES_PER_WORKER = 64  # fewer are done before another worker has started
# Peak bytes of a worker, and how many times its trunk it holds, from 0.2 and 0.4 GiB (OpenVINO) and 1.1 and
# 2.8 GiB (TensorFlow, which copies a graph often while it freezes and optimizes it) with MobileNetV2 and
# ResNet50.
_WORKER_MEMORY = {"openvino": (300 << 20, 3), "tensorflow": (900 << 20, 20)}
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """The cache to fill, what is missing in it, and who fills it.

    Attributes:
        cache: The cache.
        plan: What is missing.
        engine: Name of the engine; "" when nothing is missing.
        path: The engine as "module:class".
        fidelity: How near it comes to Keras in float32; None for the reference itself.
    """

    cache: Cache
    plan: Plan
    engine: str = ""
    path: str = REFERENCE
    fidelity: Fidelity | None = None

    def __str__(self) -> str:
        return f"{self.engine} in {self.cache.manifest.precision}"


@dataclass(frozen=True)
class Crew:
    """How the machine is divided.

    Attributes:
        workers: Processes; 0 for this one.
        threads: Threads for inference and for decoding, in each.
        batch_size: Images per forward pass.
        gpus: How many GPUs the processes share; 0 for CPUs.
    """

    workers: int
    threads: int
    batch_size: int
    gpus: int

    def __str__(self) -> str:
        devices = f" on {_count(self.gpus, 'GPU')}" if self.gpus else ""
        processes = _count(self.workers, "worker") if self.workers else "this process"
        threads = _count(self.threads, "thread")
        return f"{processes} x {threads}{devices}, batches of {self.batch_size}"


def choose(requested: Requested, dataset: Dataset, views: ViewSpec, engine: str) -> Choice:
    """Find the cache of a request, and who can fill it.

    A request that was served before keeps its cache and precision, as long as this machine can compute
    what is missing. Else the precisions are tried from the fastest, in each the engines likewise.

    Args:
        requested: What to cut and where to keep it.
        dataset: The images.
        views: What each image to train on is to have.
        engine: An engine's name, or "auto".

    Raises:
        OptionError: No engine can do what was asked for, or none comes near enough to Keras in float32.
    """
    known = requested.known()
    if known:
        plan = make_plan(dataset, known, views)
        if not plan.missing:
            return Choice(known, plan)
    obstacles: list[OptionError | MissingExtraError] = []
    for precision in _precisions(requested.precision, known):
        able = _able(engine, precision, obstacles)
        if not able and requested.precision == "auto":
            continue
        cache, trunk = requested.open(precision)
        plan = make_plan(dataset, cache, views)
        trial = _Trial(cache, trunk, dataset)
        found = trial.first(able, obstacles) if plan.missing else ("", REFERENCE, None)
        if found:
            requested.settle(cache)
            choice = Choice(cache, plan, *found)
            for error in obstacles:
                if isinstance(error, (ConversionError, InfidelityError)):
                    logger.warning("%s. Taken instead: %s", error, choice)
            return choice
        requested.discard(cache)
    raise _explain(engine, requested.precision, obstacles)


def divide(config: ExtractConfig, choice: Choice) -> Crew:
    """Divide the machine among workers, as far as the user has not done it."""
    devices = len(gpus()) if choice.engine == "tensorflow" else 0
    batch_size = config.batch_size or (64 if devices else 8)
    workers = config.workers
    if workers is None:
        own, copies = _WORKER_MEMORY.get(choice.engine, _WORKER_MEMORY["openvino"])
        worker_bytes = own + copies * choice.cache.trunk_path.stat().st_size
        fitting = min(cores(), available_memory() // worker_bytes)
        useful = math.ceil(choice.plan.missing_rows / max(_IMAGES_PER_WORKER, batch_size))
        workers = devices or max(1, min(fitting, useful))
    return Crew(workers, max(1, cores() // max(1, workers)), batch_size, min(devices, max(1, workers)))


class _Trial:
    """Engines on trial for one cache."""

    def __init__(self, cache: Cache, trunk: Trunk, dataset: Dataset) -> None:
        self._cache, self._trunk, self._dataset = cache, trunk, dataset

    def first(
        self, names: Sequence[str], obstacles: list[OptionError | MissingExtraError]
    ) -> tuple[str, str, Fidelity | None] | None:
        """The first engine that can be trusted; what stands against the others joins `obstacles`."""
        precision = self._cache.manifest.precision
        for name in names:
            try:
                return self._trust(name)
            except InfidelityError as error:
                obstacles.append(error)
            except ConversionError as error:
                obstacles.append(error)
                if "tensorflow" not in names:
                    return self.first(_able("tensorflow", precision, obstacles), obstacles)
        return None

    def _trust(self, name: str) -> tuple[str, str, Fidelity | None]:
        precision = self._cache.manifest.precision
        path = engine_path(name, precision)
        if path == REFERENCE:
            return name, path, None
        engine = engine_class(path)
        self._require_calibration(engine)
        engine.prepare(self._trunk, self._calibration)
        if name not in self._cache.manifest.fidelity and len(self._images):
            loaded = engine(self._cache.trunk_path, cores())
            figures = measure(loaded.run, self._trunk.run, self._images[self._compared])
            self._cache.note_fidelity(name, asdict(figures))
        fidelity = Fidelity.read(self._cache.manifest.fidelity.get(name))
        if fidelity:
            fidelity.require(name, precision)
        return name, path, fidelity

    def _require_calibration(self, engine: Any) -> None:
        """Rows that were made by a calibration that is lost cannot be joined by those of another."""
        if not getattr(engine, "is_calibrated", False) or not len(self._cache.index()):
            return
        place = engine.place(self._cache.trunk_path)
        if not place.exists():
            raise CacheError(
                f"{place} is gone, by which the bottlenecks of this cache were made. Put it back, or remove "
                f"the cache folder {self._cache.folder}"
            )

    @cached_property
    def _images(self) -> np.ndarray:
        paths = [self._dataset.locate(sample) for sample in self._dataset.samples]
        return some_images(paths, self._cache.manifest.size, _COMPARED + _CALIBRATED)

    @property
    def _compared(self) -> list[int]:
        return spread(len(self._images), _COMPARED)

    def _calibration(self) -> np.ndarray:
        """The images that are not compared, as long as there are enough."""
        is_enough = len(self._images) >= 2 * _COMPARED
        return np.delete(self._images, self._compared, axis=0) if is_enough else self._images


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _precisions(asked: str, known: Cache | None) -> list[str]:
    if asked != "auto":
        return [asked]
    first = [known.manifest.precision] if known else []
    return list(dict.fromkeys([*first, *(_AUTO_PRECISIONS_GPU if gpus() else _AUTO_PRECISIONS)]))


def _able(engine: str, precision: str, obstacles: list[OptionError | MissingExtraError]) -> list[str]:
    """Engines that compute in a precision on this machine, the fastest first."""
    able = []
    for name in sorted(engines_of(precision), key=lambda name: bool(gpus()) and name != "tensorflow"):
        if engine not in ("auto", name):
            continue
        try:
            engine_class(engine_path(name, precision)).require()
            able.append(name)
        except (OptionError, MissingExtraError) as error:
            obstacles.append(error)
    return able


def _explain(
    engine: str, precision: str, obstacles: list[OptionError | MissingExtraError]
) -> OptionError | MissingExtraError:
    different = {str(error): error for error in obstacles}  # some stand against every precision
    if len(different) == 1 and isinstance(obstacles[0], (MissingExtraError, InfidelityError)):
        return obstacles[0]
    able = ", ".join(engines_of(precision)) if precision != "auto" else ""
    reasons = "; ".join(different) or f"only {able} can"
    return OptionError(
        f"--engine {engine} --precision {precision} cannot be had here: {reasons}. "
        "Use --precision float32, or auto"
    )

"""Choose what runs the trunk, in which precision, and by how many workers."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fastcls.cache.lease import Leases
from fastcls.cache.store import Cache, Manifest
from fastcls.data.dataset import Dataset
from fastcls.data.decoder import Decoder
from fastcls.engines import REFERENCE, engine_class, engine_path, engines_of
from fastcls.engines.tensorflow import Trunk, gpus
from fastcls.errors import CacheError, ConversionError, MissingExtraError, OptionError
from fastcls.extraction.fidelity import (
    Fidelity,
    InfidelityError,
    compare,
    forward,
    some_images,
    spread,
)
from fastcls.extraction.joint import joint_trunk, split_rows
from fastcls.extraction.planner import Order, Plan, Requested, make_plan
from fastcls.extraction.tasks import Work
from fastcls.machine import available_memory, cores
from fastcls.specs import ExtractConfig

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
class Target:
    """A cache that was asked for.

    Attributes:
        requested: What asked for it.
        cache: The cache.
        plan: What is missing in it.
        trunk: The model that makes its rows.
    """

    requested: Requested
    cache: Cache
    plan: Plan
    trunk: Trunk


@dataclass(frozen=True)
class Choice:
    """The caches that were asked for, what is missing in them, and who fills them.

    Attributes:
        targets: One per cut.
        work: What has to be forwarded for those in `filled`.
        trunk: What the engine runs, whose rows are those of `filled`, end to end.
        engine: Name of the engine; "" when nothing is missing.
        path: The engine as "module:class".
    """

    targets: tuple[Target, ...]
    work: Work
    trunk: Trunk
    engine: str = ""
    path: str = REFERENCE

    @property
    def filled(self) -> list[Target]:
        """The caches that lack something."""
        return _filled(self.targets)

    def fidelity(self, target: Target) -> Fidelity | None:
        """How near the rows of a cache come to Keras in float32; None for the reference itself."""
        return Fidelity.read(target.cache.manifest.fidelity.get(self.engine))

    def __str__(self) -> str:
        return f"{self.engine} in {self.filled[0].cache.manifest.precision}"


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


def choose(
    requests: Sequence[Requested],
    order: Order,
    root: Path,
    leases: Leases,
    engine: str = "auto",
    max_pixels: int | None = None,
) -> Choice:
    """Find the caches of some requests of one base, and who can fill them.

    A request that was served before keeps its cache and precision, as long as this machine can compute
    what is missing. Else the precisions are tried from the fastest, in each the engines likewise.

    Args:
        requests: What to cut.
        order: The images.
        root: Folder of caches.
        leases: Takes the caches.
        engine: An engine's name, or "auto".
        max_pixels: See `decoder.decode`.

    Raises:
        OptionError: No engine can do what was asked for, or none comes near enough to Keras in float32.
    """
    known = _known_targets(requests, order, leases)
    if all(target and not target.plan.missing for target in known):
        return _combine([target for target in known if target], order, root)
    for requested, target in zip(requests, known, strict=True):
        if not target:
            requested.check()
    asked = requests[0].precision
    obstacles: list[OptionError | MissingExtraError] = []
    for precision in _precisions(asked, [target for target in known if target and target.plan.missing]):
        able = _able(engine, precision, obstacles)
        if not able and asked == "auto":
            continue
        choice = _combine(_open_all(requests, known, precision, order, leases), order, root)
        trial = _Trial(choice, order.dataset, max_pixels)
        found = trial.first(able, obstacles) if choice.filled else ("", REFERENCE)
        if found:
            return _settle(replace(choice, engine=found[0], path=found[1]), obstacles)
        _discard(choice, leases)
    raise _explain(engine, asked, obstacles)


def take(requests: Sequence[Requested], order: Order, root: Path, leases: Leases, path: str) -> Choice:
    """Find the caches of some requests, and have them filled by an engine "module:class", as it is."""
    known = _known_targets(requests, order, leases)
    if not all(known):
        leases.take([r.folder("float32") for r, target in zip(requests, known, strict=True) if not target])
        known = [
            _target(requested, target.cache, target.trunk, order)
            if target
            else _target(requested, *requested.open("float32"), order)
            for requested, target in zip(requests, known, strict=True)
        ]
    choice = _combine([target for target in known if target], order, root)
    return _settle(replace(choice, engine=path, path=path), [])


def _known_targets(requests: Sequence[Requested], order: Order, leases: Leases) -> list[Target | None]:
    known = [requested.known() for requested in requests]
    while leases.take([cache.folder for cache in known if cache]):
        known = [requested.known() for requested in requests]
    return [
        _target(requested, cache, Trunk(cache.trunk_path), order) if cache else None
        for requested, cache in zip(requests, known, strict=True)
    ]


def _open_all(
    requests: Sequence[Requested],
    known: Sequence[Target | None],
    precision: str,
    order: Order,
    leases: Leases,
) -> list[Target]:
    """The targets of a precision; a known cache that lacks nothing is taken in the one it has."""
    full = [target if target and not target.plan.missing else None for target in known]
    is_changed = leases.take(
        target.cache.folder if target else requested.folder(precision)
        for requested, target in zip(requests, full, strict=True)
    )
    targets = []
    for requested, target, complete in zip(requests, known, full, strict=True):
        cache, trunk = (complete.cache, complete.trunk) if complete else requested.open(precision)
        if target and cache.folder == target.cache.folder and not is_changed:
            targets.append(replace(target, trunk=trunk))  # with the plan that was made of it
        else:
            targets.append(_target(requested, cache, trunk, order))
    return targets


def _target(requested: Requested, cache: Cache, trunk: Trunk, order: Order) -> Target:
    cache = order.served_by(cache)
    return Target(requested, cache, make_plan(order, cache), trunk)


def _combine(targets: Sequence[Target], order: Order, root: Path) -> Choice:
    _require_different(targets)
    filled = _filled(targets)
    missing = [target.plan.missing for target in filled]
    work = Work.of(order.dataset.root.absolute(), missing, order.views)
    if len(filled) > 1:
        caches = [target.cache for target in filled]
        trunk = joint_trunk([target.requested for target in filled], caches, root)
    else:
        trunk = (filled or targets)[0].trunk
    return Choice(tuple(targets), work, trunk)


def _require_different(targets: Sequence[Target]) -> None:
    """Refuse two cuts of one cache, such as a layer without a map, pooled in two ways."""
    folders = [target.cache.folder for target in targets]
    for place, folder in enumerate(folders):
        if folder in folders[:place]:
            for target in targets:
                target.requested.discard(target.cache)
            raise OptionError(f"Two of the cuts have the same bottlenecks, those of {folder}. Leave one out")


def _filled(targets: Sequence[Target]) -> list[Target]:
    return [target for target in targets if target.plan.missing]


def _settle(choice: Choice, obstacles: Sequence[Exception]) -> Choice:
    for target in choice.targets:
        target.requested.settle(target.cache)
    for error in obstacles:
        if isinstance(error, (ConversionError, InfidelityError)):
            logger.warning("%s. Taken instead: %s", error, choice)
    return choice


def _discard(choice: Choice, leases: Leases) -> None:
    """Remove what was made for a precision that nobody can compute in."""
    if len(choice.filled) > 1:
        shutil.rmtree(choice.trunk.path.parent)
    for target in choice.targets:
        target.requested.discard(target.cache)
        if not target.cache.folder.exists():
            leases.release([target.cache.folder])


def divide(config: ExtractConfig, choice: Choice) -> Crew:
    """Divide the machine among workers, as far as the user has not done it."""
    devices = len(gpus()) if choice.engine == "tensorflow" else 0
    batch_size = config.batch_size or (64 if devices else 8)
    workers = config.workers
    if workers is None:
        own, copies = _WORKER_MEMORY.get(choice.engine, _WORKER_MEMORY["openvino"])
        worker_bytes = own + copies * choice.trunk.path.stat().st_size
        fitting = min(cores(), available_memory() // worker_bytes)
        useful = math.ceil(choice.work.rows / max(_IMAGES_PER_WORKER, batch_size))
        workers = devices or max(1, min(fitting, useful))
    return Crew(workers, max(1, cores() // max(1, workers)), batch_size, min(devices, max(1, workers)))


class _Trial:
    """Engines on trial for the caches that are to be filled."""

    def __init__(self, choice: Choice, dataset: Dataset, max_pixels: int | None) -> None:
        self._trunk, self._dataset, self._max_pixels = choice.trunk, dataset, max_pixels
        self._caches = [target.cache for target in choice.filled]

    def first(
        self, names: Sequence[str], obstacles: list[OptionError | MissingExtraError]
    ) -> tuple[str, str] | None:
        """The first engine that can be trusted; what stands against the others joins `obstacles`."""
        for name in names:
            try:
                return self._trust(name)
            except InfidelityError as error:
                obstacles.append(error)
            except ConversionError as error:
                obstacles.append(error)
                if "tensorflow" not in names:
                    return self.first(_able("tensorflow", self._manifest.precision, obstacles), obstacles)
        return None

    def _trust(self, name: str) -> tuple[str, str]:
        precision = self._manifest.precision
        path = engine_path(name, precision)
        if path == REFERENCE:
            return name, path
        engine = engine_class(path)
        self._require_calibration(engine)
        engine.prepare(self._trunk, self._calibration)
        self._measure(name, engine)
        for cache in self._caches:
            fidelity = Fidelity.read(cache.manifest.fidelity.get(name))
            if fidelity:
                fidelity.require(name, precision)
        return name, path

    def _measure(self, name: str, engine: Any) -> None:
        """Note for each cache how near the engine comes, unless that is known."""
        unknown = [name not in cache.manifest.fidelity for cache in self._caches]
        if not any(unknown) or not len(self._images):
            return
        loaded = engine(self._trunk.path, cores())
        shapes = [cache.manifest.shape for cache in self._caches]
        compared = self._images[self._compared]
        ours, theirs = (split_rows(forward(run, compared), shapes) for run in (loaded.run, self._trunk.run))
        for cache, is_unknown, mine, reference in zip(self._caches, unknown, ours, theirs, strict=True):
            if is_unknown:
                cache.note_fidelity(name, asdict(compare(mine, reference)))

    def _require_calibration(self, engine: Any) -> None:
        """Rows that were made by a calibration that is lost cannot be joined by those of another."""
        (cache, *_) = self._caches  # several are not calibrated together
        if not getattr(engine, "is_calibrated", False) or not len(cache.index()):
            return
        reason = engine.damage(cache.trunk_path)
        if reason:
            raise CacheError(
                f"{reason}. By it the bottlenecks of this cache were made: "
                f"put it back, or remove the cache folder {cache.folder}"
            )

    @property
    def _manifest(self) -> Manifest:
        return self._caches[0].manifest  # precision and size are those of all

    @cached_property
    def _images(self) -> np.ndarray:
        paths = [self._dataset.locate(sample) for sample in self._dataset.samples]
        return some_images(paths, Decoder(self._manifest.pixels, self._max_pixels), _COMPARED + _CALIBRATED)

    @property
    def _compared(self) -> list[int]:
        return spread(len(self._images), _COMPARED)

    def _calibration(self) -> np.ndarray:
        """The images that are not compared, as long as there are enough."""
        is_enough = len(self._images) >= 2 * _COMPARED
        return np.delete(self._images, self._compared, axis=0) if is_enough else self._images


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _precisions(asked: str, known: Sequence[Target]) -> list[str]:
    if asked != "auto":
        return [asked]
    first = sorted({target.cache.manifest.precision for target in known})
    if len(first) > 1:
        raise OptionError(
            f"The caches of these cuts were made in {' and '.join(first)}. Extract one --cut at a time, or "
            "all in one --precision"
        )
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

"""An engine on trial: whether its rows come near enough to those of Keras in float32."""

from __future__ import annotations

import math
from dataclasses import asdict
from functools import cached_property

import numpy as np

from fastcls.cache.manifest import Manifest
from fastcls.data.dataset import Dataset
from fastcls.data.decoder import Decoder
from fastcls.engines import Engine, engine_class
from fastcls.errors import CacheError, InfidelityError
from fastcls.extraction.engine_choice import Candidate
from fastcls.extraction.fidelity import (
    Fidelity,
    compare,
    evenly_spaced,
    forward,
    some_images,
)
from fastcls.extraction.filling import Filling
from fastcls.extraction.shared_trunk import split_rows
from fastcls.machine import cores

_IMAGES = 128  # to compare; of an engine that learns from images, the most are for that
_FEWEST = 32
_COMPARED_VALUES = 1 << 25  # of the bottlenecks of all images but these


def require_trusted(candidate: Candidate, filling: Filling, dataset: Dataset, max_pixels: int | None) -> None:
    """Raise InfidelityError or ConversionError for an engine that cannot be trusted with some caches.

    Args:
        candidate: An engine of the caches' precision.
        filling: The caches.
        dataset: Where the images are that the engine is compared on.
        max_pixels: See `decoder.decode`.
    """
    _Trial(filling, dataset, max_pixels).require(candidate)


class _Trial:
    """An engine on trial for the caches that are to be filled."""

    def __init__(self, filling: Filling, dataset: Dataset, max_pixels: int | None) -> None:
        self._trunk, self._dataset, self._max_pixels = filling.trunk, dataset, max_pixels
        self._caches = [target.cache for target in filling.filled]

    def require(self, candidate: Candidate) -> None:
        """Raise InfidelityError or ConversionError for an engine that cannot be trusted."""
        engine = engine_class(candidate.path)
        self._require_calibration(engine)
        self._trunk.float32_layers = self._float32_layers(candidate)
        engine.prepare(self._trunk, lambda: self._calibration(engine))
        if engine.is_reference:
            return
        self._measure(candidate.engine, engine)
        for cache in self._caches:
            fidelity = Fidelity.read(cache.manifest.fidelity.get(candidate.engine))
            if fidelity:
                fidelity.require(candidate.engine, candidate.precision)

    def _float32_layers(self, candidate: Candidate) -> tuple[str, ...]:
        """The layers in float32 that the caches are named by."""
        layers, *others = {cache.manifest.float32_layers for cache in self._caches}
        if others:
            raise InfidelityError.of(
                f"{candidate} needs different layers in float32 for these cuts",
                "Extract one --cut at a time, or use --precision float32",
            )
        return layers

    def _measure(self, name: str, engine: type[Engine]) -> None:
        """Note for each cache how near the engine comes, unless that is known."""
        unknown = [name not in cache.manifest.fidelity for cache in self._caches]
        if not any(unknown) or not len(self._images):
            return
        loaded = engine(self._trunk.path, cores())
        shapes = [cache.manifest.shape for cache in self._caches]
        compared = self._images[self._compared(engine)]
        ours, theirs = (split_rows(forward(run, compared), shapes) for run in (loaded.run, self._trunk.run))
        for cache, is_unknown, mine, reference in zip(self._caches, unknown, ours, theirs, strict=True):
            if is_unknown:
                cache.note_fidelity(name, asdict(compare(mine, reference)))

    def _require_calibration(self, engine: type[Engine]) -> None:
        """Rows that were made by a calibration that is lost cannot be joined by those of another."""
        (cache, *_) = self._caches  # several are not calibrated together
        if not engine.is_calibrated or not len(cache.index()):
            return
        reason = engine.damage(cache.trunk_path)
        if reason:
            raise CacheError(
                f"{reason}. The bottlenecks of this cache were made with it: "
                f"restore it, or remove the cache folder {cache.folder}"
            )

    @property
    def _manifest(self) -> Manifest:
        return self._caches[0].manifest  # precision and size are those of all

    @cached_property
    def _images(self) -> np.ndarray:
        paths = [self._dataset.locate(sample) for sample in self._dataset.samples]
        return some_images(paths, Decoder(self._manifest.pixels, self._max_pixels), _IMAGES)

    def _compared(self, engine: type[Engine]) -> list[int]:
        values = sum(math.prod(cache.manifest.shape) for cache in self._caches)
        most = _FEWEST if engine.is_calibrated else max(_FEWEST, _COMPARED_VALUES // values)
        return evenly_spaced(len(self._images), most)

    def _calibration(self, engine: type[Engine]) -> np.ndarray:
        """The images that are not compared, as long as there are enough."""
        is_enough = len(self._images) >= 2 * _FEWEST
        return np.delete(self._images, self._compared(engine), axis=0) if is_enough else self._images

"""What the head of a run says of images whose bottlenecks are in the cache that it was trained on."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastcls import runs
from fastcls.cache.index import Rows
from fastcls.cache.store import Cache, caches_at
from fastcls.errors import CacheError, OptionError
from fastcls.inference.forwarder import WORTH, Forwarder
from fastcls.runs import Run
from fastcls.training.familiarity import Familiarity
from fastcls.training.head_reader import load_head

# What decides a bottleneck, as the run and the manifest have it.
_IDENTITY = ("fingerprint", "architecture", "weights_digest")
_BLOCK_BYTES = 1 << 24
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CachedRun:
    """A run with a head, and the cache that it was trained on.

    Attributes:
        run: The run.
        cache: The cache.
    """

    run: Run
    cache: Cache

    @property
    def features(self) -> str:
        """How metrics.json calls the bottlenecks."""
        return f"cache ({self.cache.manifest.precision})"

    @property
    def types(self) -> tuple[str, str]:
        """In which they are computed and stored."""
        return self.cache.manifest.precision, self.cache.manifest.dtype

    def probabilities(self, digests: Sequence[str], *, converts: bool = False) -> np.ndarray:
        """What the head says of images by their digests: (N, C) float32, NaN where the cache has no row.

        Args:
            digests: Of N images.
            converts: Convert the head, so that it does without TensorFlow next time.
        """
        output = np.full((len(digests), len(self.run.record["class_names"])), np.nan, np.float32)
        try:
            rows = self.cache.index().locate(digests)
            if rows.present.any():
                self._fill(output, rows, converts=converts)
        except (CacheError, OptionError, OSError) as error:
            logger.warning("%s. Images whose bottlenecks are not read are forwarded", error)
        return output

    def unfamiliarity(self, digests: Sequence[str], familiarity: Familiarity) -> np.ndarray:
        """How unlike the training images others are: see `Familiarity.score`; NaN where there is no row."""
        output = np.full(len(digests), np.nan, np.float32)
        rows = self.cache.index().locate(digests)
        for places in rows.blocks(self._step):
            block = rows.take(places).read().astype(np.float32, copy=False)
            output[places] = familiarity.score(block.reshape(len(block), -1, block.shape[-1]).mean(axis=1))
        return output

    @property
    def _step(self) -> int:
        """How many rows are in memory at once."""
        return max(1, _BLOCK_BYTES // (4 * math.prod(self.cache.manifest.shape)))

    def _fill(self, output: np.ndarray, rows: Rows, *, converts: bool) -> None:
        digest = self.run.record["files"][runs.HEAD]
        head = Forwarder("head", lambda: load_head(self.run.folder).model, digest)
        run = head.choose(WORTH if converts else 0)
        for places in rows.blocks(self._step):
            output[places] = run(rows.take(places).read().astype(np.float32, copy=False))


def cache_of(run: Run | None, given: str | None = None) -> CachedRun | None:
    """A run with the cache that it was trained on.

    Args:
        run: The run; None for a classifier that belongs to none.
        given: The cache, or a folder of caches, where it is not looked for where it was.

    Returns:
        None for a run without a head on bottlenecks, or where its cache is not to be found.

    Raises:
        OptionError: A cache is given that is not that of the run.
    """
    known = run.record.get("cache") if run else None
    if run is None or not isinstance(known, dict) or runs.HEAD not in run.record["files"]:
        if given:
            raise OptionError(
                "A cache is only of use for a run whose head was trained on one (of run or train-head). "
                "Remove --cache"
            )
        return None
    for place in [Path(given)] if given else run.cache_folders:
        for cache in caches_at(place):
            manifest = cache.manifest
            if all(getattr(manifest, name) == known.get(name) for name in _IDENTITY):
                return CachedRun(run, cache)
    if given:
        raise OptionError(
            f"{given} does not hold the cache that {run.folder} was trained on (fingerprint "
            f"{str(known.get('fingerprint'))[:12]}). Give another --cache, or remove it to forward all images"
        )
    logger.warning(
        "The cache that %s was trained on is not where it was, so what it holds is not used. --cache says "
        "where it is",
        run.folder,
    )
    return None

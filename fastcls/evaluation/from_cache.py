"""What the head of a run says of images whose bottlenecks are in the cache that it was trained on."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fastcls import runs
from fastcls.cache import mirror
from fastcls.cache.index import Rows
from fastcls.cache.store import Cache, caches_at
from fastcls.errors import CacheError, OptionError, StorageError
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

    def probabilities(
        self, digests: Sequence[str], *, converts: bool = False, skips_damage: bool = False
    ) -> np.ndarray:
        """What the head says of images by their digests: (N, C) float32, NaN where the cache has no row.

        Args:
            digests: Of N images.
            converts: Convert the head, so that it does without TensorFlow next time.
            skips_damage: Warn of what cannot be read, as the images are forwarded in its place.

        Raises:
            CacheError: A row is damaged.
            OptionError: The head is damaged, or was replaced.
        """
        output = np.full((len(digests), len(self.run.record["class_names"])), np.nan, np.float32)
        try:
            rows = self.cache.index().locate(digests)
            if rows.present.any():
                self._fill(output, rows, converts=converts)
        except (CacheError, OptionError, OSError) as error:
            if not skips_damage:
                raise
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


def find_cache(run: Run, given: str | None = None) -> CachedRun | None:
    """A run with the cache that it was trained on; None where there is none.

    Args:
        run: The run.
        given: The cache, or a folder of caches, where it is not looked for where it was.
    """
    if not is_on_cache(run):
        return None
    known = run.record["cache"]
    for place in [given] if given else map(mirror.place_of, run.cache_folders):
        with _told_unless(given):
            for cache in caches_at(place):
                if all(getattr(cache.manifest, name) == known.get(name) for name in _IDENTITY):
                    return CachedRun(run, cache)
    return None


@contextlib.contextmanager
def _told_unless(given: str | None) -> Iterator[None]:
    """Say what keeps a store from being used, where nobody asked for it."""
    try:
        yield
    except StorageError as error:
        if given:
            raise
        logger.warning("%s", error)


def is_on_cache(run: Run) -> bool:
    """Whether a run has a head that was trained on a cache."""
    return isinstance(run.record.get("cache"), dict) and runs.HEAD in run.record["files"]


def why_no_cache(run: Run) -> str:
    """Why a run has no cache that could be used: a fact, without a remedy."""
    if not is_on_cache(run):
        return f"{run.folder} was finetuned: it was trained on images, and no cache belongs to it"
    for place in run.cache_folders:
        try:
            found = Cache(place)
        except CacheError as error:
            if place.is_dir():
                return f"The cache that {run.folder} was trained on cannot be read: {error}"
        else:
            return f"{found.folder} is another cache now than the one that {run.folder} was trained on"
    places = [*dict.fromkeys(map(str, run.cache_folders))]
    was = f" ({' or '.join(places)})" if places else ""
    return f"The cache that {run.folder} was trained on is not where it was{was}"


def require_cache(run: Run, remedy: str) -> CachedRun:
    """A run with the cache that it was trained on.

    Args:
        run: The run.
        remedy: What to do where there is none.

    Raises:
        OptionError: There is none; the message says why.
    """
    found = find_cache(run)
    if found is None:
        raise OptionError(f"{why_no_cache(run)}. {remedy}")
    return found


def cache_of(run: Run | None, given: str | None = None) -> CachedRun | None:
    """A run with the cache that it was trained on, for a test.

    Args:
        run: The run; None for a classifier that belongs to none.
        given: What --cache says.

    Returns:
        None for a run without a head on bottlenecks, or, with a warning, where its cache is not to be found.

    Raises:
        OptionError: A cache is given that is not that of the run.
    """
    if run is None or not is_on_cache(run):
        if given:
            raise OptionError(
                "A cache is only of use for a run whose head was trained on one (of run or train-head). "
                "Remove --cache"
            )
        return None
    found = find_cache(run, given)
    if found is None and given:
        raise OptionError(
            f"{given} does not hold the cache that {run.folder} was trained on (fingerprint "
            f"{str(run.record['cache'].get('fingerprint'))[:12]}). Give another --cache, or remove it to "
            "forward all images"
        )
    if found is None:
        logger.warning("%s. What it holds is not used; --cache says where it is", why_no_cache(run))
    return found

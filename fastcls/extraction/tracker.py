"""What an extraction has done so far, and the tables beside the shards that say so."""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from dataclasses import asdict, dataclass

from fastcls import files
from fastcls.cache.samples import Failure
from fastcls.cache.store import Cache
from fastcls.errors import DataError, WorkerError
from fastcls.extraction.coverage import ViewedDataset
from fastcls.extraction.fidelity import Fidelity
from fastcls.extraction.filling import Target
from fastcls.extraction.worker import ShardInfo
from fastcls.wording import count_of

_SAVE_EVERY_S = 60


@dataclass(frozen=True)
class Extraction:
    """Figures of one extraction, also kept in the report of the data set in the cache.

    Attributes:
        data: Root of the data set, absolute.
        images: Samples of the data set.
        views: Views of each image to train on, with the plain one; the others have that alone.
        forwarded: Images that got a bottleneck in this run.
        rows: Bottlenecks that they got: one per view that was not there.
        reused: Samples whose bottlenecks were there already.
        failures: Samples that give no bottleneck.
        missing: Samples that an interrupted run has left to do.
        shards: Shards written in this run.
        seconds: Time from start to end.
        engine: Name of the engine, "" when there was nothing to do.
        resources: Its workers, threads and batch size, in words.
        fidelity: How near the engine comes to Keras in float32; None for TensorFlow in float32.
        forward_seconds: Time from when the first engine was loaded until the last shard was written.
    """

    data: str
    images: int
    views: int
    forwarded: int
    rows: int
    reused: int
    failures: int
    missing: int
    shards: int
    seconds: float
    engine: str = ""
    resources: str = ""
    fidelity: dict[str, float] | None = None
    forward_seconds: float = 0.0


class Tracker:
    """What is known of each sample of a cache while shards come in, and the tables that say so.

    Args:
        viewed: The images, and their views.
        target: The cache.
        engine: Name of the engine that fills it; "" where nothing is missing.
        max_failures: See `ExtractConfig`.
        started: When the extraction began, in seconds of the monotonic clock.
        is_shared: Whether others fill the cache, too: then tables are only saved when that is asked for.
    """

    def __init__(
        self,
        viewed: ViewedDataset,
        target: Target,
        engine: str,
        max_failures: int | None,
        started: float,
        *,
        is_shared: bool = False,
    ) -> None:
        coverage = target.coverage
        self.cache, self.target = target.cache, target
        self.is_filled = bool(coverage.missing)
        self.resources = ""
        self.failures: list[Failure] = list(coverage.failures)
        self._viewed, self._engine = viewed, engine
        self._max_failures = max_failures
        self._save_every_s = math.inf if is_shared else _SAVE_EVERY_S
        self._rows = coverage.rows.copy() if self.is_filled else coverage.rows
        self._is_changed = coverage.is_new
        self._missing = len(coverage.missing)
        self._forwarded = self._new_rows = self._shards = 0
        self._started = self._saved = started
        self._begun = self._last = 0.0

    def begin(self) -> None:
        """Note that an engine is loaded: images are forwarded from now on."""
        self._begun = self._last = time.monotonic()

    def add(self, info: ShardInfo) -> None:
        """Take in the result of a shard task."""
        self._forwarded += info.forwarded
        self._new_rows += info.rows
        self._shards += info.path is not None
        self._missing -= len(info.readings)
        self._is_changed = True
        self._last = time.monotonic()
        for reading in info.readings:
            place = bisect_left(self._rows.paths, reading.path)  # as they are sorted
            self._rows.note(place, reading.digest, reading.state)
            if reading.reason:
                self.failures.append(reading.as_failure())
        self.require_few_failures()
        if time.monotonic() - self._saved > self._save_every_s:
            self.save()

    def require_few_failures(self) -> None:
        """Raise WorkerError when there are more failures than allowed."""
        if self._max_failures is not None and len(self.failures) > self._max_failures:
            raise WorkerError(
                f"{count_of(len(self.failures), 'image')} could not be read, more than --max-failures "
                f"{self._max_failures}. They are listed in {self.cache.listing.failures_path}"
            )

    def require_some_images(self) -> None:
        """Raise DataError when not one image has a bottleneck."""
        if self._rows and len(self.failures) == len(self._rows):
            fact = f"None of the {count_of(len(self._rows), 'image')} could be used"
            raise DataError(f"{fact}: {self.failures[0].reason}")

    def save(self) -> None:
        """Write the tables beside the shards, and the figures so far."""
        report = self._viewed.report(asdict(self.figures()))
        failures = sorted(self.failures, key=lambda failure: failure.path)
        self.cache.listing.write(report, self._rows if self._is_changed else None, failures)
        self._is_changed = False
        self._saved = time.monotonic()

    @property
    def fidelity(self) -> Fidelity | None:
        """How near the rows come to Keras in float32; None for the reference itself."""
        return Fidelity.read(self.cache.manifest.fidelity.get(self._engine))

    def figures(self) -> Extraction:
        """What has been done so far."""
        count, failed = len(self._rows), len(self.failures)
        return Extraction(
            data=str(self._viewed.dataset.root.absolute()),
            images=count,
            views=self._viewed.views.views,
            forwarded=self._forwarded,
            rows=self._new_rows,
            reused=count - self._forwarded - failed - self._missing,
            failures=failed,
            missing=self._missing,
            shards=self._shards,
            seconds=round(time.monotonic() - self._started, 3),
            engine=self._engine if self.is_filled else "",
            resources=self.resources,
            fidelity=asdict(self.fidelity) if self.is_filled and self.fidelity else None,
            forward_seconds=round(self._last - self._begun, 3),
        )


def remove_leftovers(cache: Cache) -> None:
    """Remove the temporary files of writers that were killed."""
    listing = cache.listing
    for folder in (
        cache.folder,
        cache.landing_folder,
        listing.samples_path.parent,
        listing.failures_path.parent,
    ):
        files.remove_leftovers(folder)

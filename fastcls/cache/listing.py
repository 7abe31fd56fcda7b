"""What a cache knows of one data set: its samples, its failures, and a report to check both.

CACHE/samples/NAME.csv   path, class, split and digest of each image
CACHE/samples/NAME.json  the report: where the images are, which views they have, figures of the last
                         extraction, and number of lines and digest of both tables
CACHE/failures/NAME.csv  images that gave no bottleneck, and why; without this file they are tried again
"""

from __future__ import annotations

import contextlib
import glob
import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, TypedDict

from fastcls import files
from fastcls.cache import mirror
from fastcls.cache.samples import (
    Failure,
    SampleRow,
    SampleTable,
    read_failures,
    read_samples,
    write_failures,
    write_samples,
)
from fastcls.data.names import safe_name
from fastcls.errors import CacheError, OptionError
from fastcls.records import REQUIRED, Amount, Count, Filled, Part, made
from fastcls.specs import ViewSpec, check_type
from fastcls.tasks import ONE_LABEL, Task, task_named
from fastcls.wording import count_of

_NAME_BYTES = 120
_SUFFIX = 6  # letters that tell apart two data sets of one name
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stamp:
    """What a table must be.

    Attributes:
        lines: How many.
        digest: Of its file; "" where there is none.
        before: Of the file that it takes the place of: if that is still there, the writing was interrupted.
    """

    lines: Count = 0
    digest: str = ""
    before: str = ""


class Figures(TypedDict, total=False):
    """What is read of the figures of an extraction: see `fastcls.extraction.tracker.Extraction`."""

    missing: Count
    seconds: Amount


@dataclass(frozen=True)
class Report:
    """What is known of a data set besides its images.

    Attributes:
        data: The folder, file or pattern that it was read from, absolute.
        root: Folder that its paths are relative to, absolute.
        task: What is asked of an image.
        views: Those of its last extraction; the shards may hold others besides.
        extraction: Figures of its last extraction.
        written: When, in UTC.
        samples: Its table of samples.
        failures: Its table of failures.
    """

    data: Filled
    root: Filled
    task: Task = ONE_LABEL
    views: ViewSpec = field(default_factory=ViewSpec, metadata=REQUIRED)
    extraction: Annotated[dict[str, Any], Part(Figures)] = field(default_factory=dict)
    written: str = ""
    samples: Stamp = field(default=Stamp(), metadata=REQUIRED)
    failures: Stamp = field(default=Stamp(), metadata=REQUIRED)


@dataclass(frozen=True)
class Recalled:
    """What an extraction can reuse from earlier ones.

    Attributes:
        samples: The table of samples; empty if there is none, or a damaged one.
        failures: The table of failures, likewise.
        task: That of the samples.
        is_last: Whether these are the tables that the report speaks of.
    """

    samples: SampleTable
    failures: list[Failure]
    task: Task
    is_last: bool


class _DoubtfulError(ValueError):
    """A file is not as expected; the message is a fact without a remedy."""


class Listing:
    """The tables of one data set in a cache.

    Args:
        cache: The cache's folder.
        name: The data set's name.
    """

    def __init__(self, cache: Path, name: str) -> None:
        self.name = name
        self.report_path = cache / "samples" / f"{name}.json"
        self.samples_path = cache / "samples" / f"{name}.csv"
        self.failures_path = cache / "failures" / f"{name}.csv"

    def is_of_another(self, data: Path) -> bool:
        """Whether it describes other data, which are still there.

        Args:
            data: What a data set is read from, absolute.
        """
        try:
            known = Path(self.report().data)
        except CacheError:
            return False
        if known.exists():
            return not (data.exists() and known.samefile(data))
        return known != data and any(glob.iglob(str(known)))  # noqa: PTH207 (it is absolute)

    def report(self) -> Report:
        """Read the report.

        Raises:
            CacheError: It is damaged or missing.
        """
        with _remedied():
            return self._report()

    def samples(self) -> SampleTable:
        """Read the table of samples.

        Raises:
            CacheError: It is damaged, or older than the report as the extraction was interrupted.
        """
        mirror.local(self.samples_path)
        with _remedied():
            return _parse_samples(self.samples_path, self._settled(self.samples_path, "samples"))

    def failures(self) -> list[Failure]:
        """Read the table of images that gave no bottleneck.

        Raises:
            CacheError: As for `samples`.
        """
        if not mirror.local(self.failures_path).exists():
            return []
        with _remedied():
            self._settled(self.failures_path, "failures")
            return _parse_failures(self.failures_path)

    @property
    def has_classes(self) -> bool:
        """Whether any of its images has a class; so it is taken to be where the table cannot be read."""
        with contextlib.suppress(CacheError):
            return any({*self.samples().labels})
        return True

    def recall(self, same: Sequence[str] = ()) -> Recalled:
        """Read both tables for an extraction: a warning names what is damaged and has to be made anew.

        Args:
            same: See `read_samples`.
        """
        samples, failures = SampleTable.of([]), []
        task: Task = ONE_LABEL
        is_last = False
        if self._is_there:
            mirror.local(self.samples_path)
            with _warned():
                report = self._report()
                task = report.task
                failures = self._recall_failures(report)
                is_last = _is_last(self.samples_path, report.samples)
                samples = _parse_samples(self.samples_path, report, same)
        return Recalled(samples, failures, task, is_last)

    def recall_failures(self) -> list[Failure]:
        """Those of `recall` alone."""
        if self._is_there:
            with _warned():
                return self._recall_failures(self._report())
        return []

    @property
    def _is_there(self) -> bool:
        return self.report_path.exists() or mirror.local(self.samples_path).exists()

    def _recall_failures(self, report: Report) -> list[Failure]:
        if mirror.local(self.failures_path).exists():
            with _warned():
                _is_last(self.failures_path, report.failures)
                return _parse_failures(self.failures_path)
        return []

    def write(self, report: Report, samples: Iterable[SampleRow] | None, failures: Sequence[Failure]) -> None:
        """Replace the tables and the report.

        The report is first: it knows the digests of the tables that come, and of those that are still there.

        Args:
            report: What is new; the stamps of the tables are found here.
            samples: The table of samples; None for the one that is there.
            failures: The table of failures; no file when there are none.

        Raises:
            OSError: The disk is full, or fails.
        """
        old = self._report_or_none() or report
        listed, failed = old.samples, Stamp(before=_known_digest(self.failures_path, old.failures))
        with contextlib.ExitStack() as places:
            if samples is not None:
                path = places.enter_context(files.atomic_path(self.samples_path))
                lines = write_samples(path, samples, report.task)
                before = _known_digest(self.samples_path, old.samples)
                listed = Stamp(lines, files.file_digest(path), before)
            if failures:
                path = places.enter_context(files.atomic_path(self.failures_path))
                lines = write_failures(path, failures)
                failed = replace(failed, lines=lines, digest=files.file_digest(path))
            written = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            report = replace(report, written=written, samples=listed, failures=failed)
            files.write_checked_json(self.report_path, {**asdict(report), "task": report.task.name})
        if not failures:
            self.failures_path.unlink(missing_ok=True)

    def _settled(self, path: Path, kind: str) -> Report:
        """The report, if a table is the one that it speaks of."""
        report = self._report()
        if _digest(path) != getattr(report, kind).digest:
            report = self._report()  # an extraction may have replaced both in between
        if not _is_last(path, getattr(report, kind)):
            raise _DoubtfulError(f"{path} is older than its report: an extraction was interrupted")
        return report

    def _report(self) -> Report:
        try:
            values = files.read_checked_json(self.report_path)
            return made(Report, {**values, "task": task_named(values.get("task"))})
        except FileNotFoundError as error:
            raise _DoubtfulError(f"{self.report_path} is missing") from error
        except ValueError as error:
            raise _DoubtfulError(f"{self.report_path} is damaged: {error}") from error

    def _report_or_none(self) -> Report | None:
        with contextlib.suppress(_DoubtfulError):
            return self._report()
        return None


def listings(cache: Path) -> list[Listing]:
    """The data sets of a cache, by name."""
    places = [*(cache / "samples").glob("[!.]*.json"), *(cache / "samples").glob("[!.]*.csv")]
    return [Listing(cache, name) for name in sorted({place.stem for place in places})]


def find_listing(cache: Path, name: str | None) -> Listing:
    """A data set of a cache: the one of a name, the only one, or the only one with classes.

    Raises:
        CacheError: There is none, or there are several to choose from.
    """
    known = listings(cache)
    if not known:
        raise CacheError(f"Cache {cache} holds no samples. Run `fastcls extract` first")
    if name is None and len(known) == 1:
        return known[0]
    for listing in known:
        if listing.name == name:
            return listing
    labeled = [listing for listing in known if listing.has_classes] if name is None else []
    if len(labeled) == 1:
        return labeled[0]
    fact = f"has no data set {name!r}" if name else "serves several data sets"
    listed = "\n".join(f"  {_in_words(listing)}" for listing in known)
    raise CacheError(f"Cache {cache} {fact}. Choose one with --name:\n{listed}")


def check_name(name: str) -> None:
    """Raise OptionError for what cannot be the name of a data set, as it names files."""
    check_type("name", name, str)
    if safe_name(name) != name or name.startswith(".") or not 0 < len(name.encode()) <= _NAME_BYTES:
        raise OptionError(
            f"Invalid --name {name!r}. Use up to {_NAME_BYTES} letters, digits and `-_.`, not beginning with "
            "a dot"
        )


def choose_listing(cache: Path, name: str, data: Path, *, is_asked: bool) -> Listing:
    """Where the tables of a data set are, or are to be.

    Args:
        cache: The cache's folder.
        name: The data set's name.
        data: What it is read from, absolute.
        is_asked: Whether the user chose the name. Else a second data set of this name gets another one, as
            long as the first is still there.
    """
    plain = Listing(cache, name)
    if is_asked:
        if plain.is_of_another(data):
            logger.warning("%s described %s. Replacing it", plain.samples_path, plain.report().data)
        return plain
    own = Listing(cache, f"{name}-{files.digest(os.fsencode(data))[:_SUFFIX]}")
    return own if own.report_path.exists() or plain.is_of_another(data) else plain


def _in_words(listing: Listing) -> str:
    try:
        report = listing.report()
    except CacheError as error:
        return str(error)
    images = count_of(report.samples.lines, "image")
    return f"{listing.name}: {images} of {report.data}, extracted {report.written}"


def _parse_samples(path: Path, report: Report, same: Sequence[str] = ()) -> SampleTable:
    try:
        return read_samples(path, report.task, same)
    except ValueError as error:
        raise _DoubtfulError(f"{path} is damaged: {error}") from error


def _parse_failures(path: Path) -> list[Failure]:
    try:
        return read_failures(path)
    except ValueError as error:
        raise _DoubtfulError(f"{path} is damaged: {error}") from error


def _digest(path: Path) -> str:
    """The digest of a file; "" if there is none."""
    try:
        return files.file_digest(path)
    except FileNotFoundError:
        return ""


def _known_digest(path: Path, stamp: Stamp) -> str:
    """The digest of a file that a report speaks of; "" of any other."""
    digest = _digest(path)
    return digest if digest in (stamp.digest, stamp.before) else ""


def _is_last(path: Path, stamp: Stamp) -> bool:
    """Whether a table is the one of its report, or the one before; raises _DoubtfulError otherwise."""
    digest = _digest(path)
    if not digest:
        raise _DoubtfulError(f"{path} is missing")
    if digest not in (stamp.digest, stamp.before):
        raise _DoubtfulError(f"{path} is damaged: its digest does not match its report")
    return digest == stamp.digest


@contextlib.contextmanager
def _remedied() -> Iterator[None]:
    try:
        yield
    except _DoubtfulError as error:
        raise CacheError(
            f"{error}. Run the same `fastcls extract` again: it recreates the table, and no bottleneck is "
            "lost"
        ) from error


@contextlib.contextmanager
def _warned() -> Iterator[None]:
    try:
        yield
    except _DoubtfulError as error:
        logger.warning("%s. It is recreated, and no bottleneck is lost", error)

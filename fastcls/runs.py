"""A run folder: the name of every file in it, and how far it has come.

RUN/classifier.keras   image -> probabilities
RUN/head.keras         bottleneck -> probabilities; not of a run of finetune
RUN/images.csv         path, label(s), use and digest of each image that it was trained or validated on
RUN/history.csv        a row per epoch or candidate, drawn in curves.png
RUN/folds.json         figures of a cross-validation, with its predictions in out_of_fold.csv
RUN/checkpoints/       epochs that were to be kept
RUN/run.json           what was asked for and decided beyond it, digests of all files above and of itself
RUN/test/NAME/         the result of a test

A run comes through these states, each by one move, and the same command goes on from each of them:

1. RUN.unfinished/                     it is trained, from RUN.unfinished/resume on
2. RUN.unfinished/run.json             the training is complete: run.json is written last
3. RUN/                                it was moved to its place, whole
4. RUN/test/NAME/                      `run` has tested it

A command that asks for something else is refused in each of them.
"""

from __future__ import annotations

import contextlib
import csv
import os
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fastcls import files, run_record, unfinished
from fastcls.cache import mirror
from fastcls.errors import OptionError
from fastcls.metrics_record import METRICS, read_metrics
from fastcls.records import as_json, made
from fastcls.run_record import RunRecord
from fastcls.specs import differences, resolve
from fastcls.tasks import TASKS, Task
from fastcls.used_images import UsedImages, read_images

CLASSIFIER = "classifier.keras"
HEAD = "head.keras"
IMAGES = "images.csv"
HISTORY = "history.csv"
CURVES = "curves.png"
FOLDS = "folds.json"
OUT_OF_FOLD = "out_of_fold.csv"
RECORD = "run.json"
EXPORT_RECORD = "export.json"  # of an export: digests of its files, and the figures of its check
TESTS = "test"
REPORT = "report.html"
_ASKED = "asked.json"  # of a run in the making
_CHECKPOINTS = "checkpoints/*.keras"
T = TypeVar("T")
_TAKE_ANOTHER = "Choose another --out, or remove it first"


@dataclass(frozen=True)
class Run:
    """A complete run.

    Attributes:
        folder: Where it is.
        record: What its run.json holds.
    """

    folder: Path
    record: RunRecord

    @classmethod
    def open(cls, folder: Path) -> Run:
        """Read the record of a run.

        Raises:
            OptionError: There is none, or it is damaged.
        """
        return cls(folder, read_record(folder / RECORD, run_record.read))

    @classmethod
    def of(cls, path: Path) -> Run | None:
        """The run of a folder, or the one that a classifier or kept checkpoint in it belongs to.

        Raises:
            OptionError: It is a folder, and its run.json is damaged.
        """
        if path.is_dir():
            return cls.open(path) if is_complete(path) else None
        path = path.absolute()
        for folder in (path.parent, path.parent.parent):
            with contextlib.suppress(OptionError, OSError):
                run = cls.open(folder)
                if run.record["files"].get(path.relative_to(folder).as_posix()) == files.file_digest(path):
                    return run
        return None

    def file(self, name: str) -> Path:
        """One of its files.

        Raises:
            OptionError: It is not the one that was written.
        """
        path, digest = self.folder / name, self.record["files"].get(name)
        if digest is None:
            raise OptionError(f"{self.folder} has no {name}: its {RECORD} does not list one")
        try:
            found = files.file_digest(path)
        except OSError as error:
            raise OptionError(f"{path} cannot be read: {error.strerror}. {self.folder} needs it") from error
        if found != digest:
            raise OptionError(
                f"{path} is damaged or was replaced: it does not match {self.folder / RECORD}. Restore the "
                "original file, or train again"
            )
        return path

    @property
    def used(self) -> UsedImages:
        """The images that had a part in it."""
        images = read_images(self.file(IMAGES), self.task)
        return UsedImages(images, is_complete=bool(self.record["images"].get("complete")))

    @property
    def task(self) -> Task:
        """What was asked of an image."""
        return TASKS[self.record["task"]]

    @property
    def asked(self) -> dict[str, Any]:
        """What was asked for, as it was given: the options of the command, by spec."""
        return self.record["asked"]

    @property
    def resolved(self) -> dict[str, Any]:
        """What was asked for, with what was decided in place of it and beyond it."""
        return resolve(self.asked, self.record["decided_by"])

    def spec(self, name: str, read: Callable[[Mapping[str, Any]], T]) -> T:
        """A part of what was asked for, as it was in the end.

        Args:
            name: The member of `resolved`.
            read: Makes of it what is meant.

        Raises:
            OptionError: It is missing, or not as it should be.
        """
        try:
            return read(made(dict[str, Any], self.resolved.get(name)))
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(self.folder / RECORD, f"its {name}: {error}") from error

    @property
    def cache_folders(self) -> list[Path]:
        """Where the cache may be that it was trained on: as seen from the run, and where it was."""
        return [
            mirror.folder_of(place) if mirror.is_url(place) else files.tidy(self.folder / place)
            for place in self.record.get("cache_folders", ())
        ]

    def history(self) -> tuple[dict[str, float], ...]:
        """A row per epoch or candidate."""
        with self.file(HISTORY).open(**files.CSV_TEXT) as file:
            return tuple(
                {name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)
            )

    def tests(self) -> dict[str, dict[str, Any]]:
        """The figures of each test by its name; those that cannot be read are left out."""
        figures: dict[str, dict[str, Any]] = {}
        for path in sorted((self.folder / TESTS).glob(f"*/{METRICS}")):
            with contextlib.suppress(OSError, ValueError):
                figures[path.parent.name] = read_metrics(path.parent)
        return figures

    @property
    def lost(self) -> list[str]:
        """Names of its files that are gone; the others are not read."""
        return [name for name in self.record["files"] if not (self.folder / name).is_file()]


def read_record(path: Path, read: Callable[[Any], T]) -> T:
    """Read a run.json, by a function of `run_record`.

    Raises:
        OptionError: There is none, or it is damaged.
    """
    try:
        return read(files.read_checked_json(path))
    except OSError as error:
        if (path.parent / EXPORT_RECORD).is_file():
            raise OptionError(f"{path.parent} is an export. Give the {_run_of(path.parent)}") from error
        raise OptionError(f"Cannot read {path}: {error.strerror}. Give a run or its {RECORD}") from error
    except ValueError as error:
        raise _damaged(path, error) from error


def _run_of(export: Path) -> str:
    run = export.absolute().parent.parent
    return f"run that it was made of: {run}" if (run / RECORD).is_file() else "run that it was made of"


def _damaged(path: Path, reason: object) -> OptionError:
    return OptionError(
        f"{path} is damaged, or was written by another version of fastcls: {reason}. Train again, or use "
        f"{CLASSIFIER} next to it, which may be intact"
    )


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Complete a run: write its run.json, which names its other files by their digests."""
    (folder / _ASKED).unlink(missing_ok=True)
    named = [folder / name for name in (CLASSIFIER, HEAD, IMAGES, HISTORY)]
    named = [path for path in (*named, *sorted(folder.glob(_CHECKPOINTS))) if path.is_file()]
    digests = {path.relative_to(folder).as_posix(): files.file_digest(path) for path in named}
    for path in named:
        files.sync(path)
    files.write_checked_json(folder / RECORD, {**record, "files": digests})


def seen_from(folder: Path, cache: Path) -> list[str]:
    """A cache folder as `Run.cache_folders` finds it again: relative to a run, and absolute; or its URL."""
    url = mirror.url_of(cache)
    if url is not None:
        return [url]
    return [os.path.relpath(cache, folder), str(cache.absolute())]


def is_complete(folder: Path) -> bool:
    """Whether the training of a run has come to its end."""
    return (folder / RECORD).is_file()


def is_begun(folder: Path) -> bool:
    """Whether a folder holds a run whose training has not come to its end."""
    return (folder / _ASKED).is_file()


def is_run(names: Set[str]) -> bool:
    """Whether a folder of such names is a run, be it unfinished or damaged."""
    return bool(names & {CLASSIFIER, HEAD, IMAGES, HISTORY, _ASKED})


def write_history(folder: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write a row per epoch or candidate; the first one names the columns."""
    with files.atomic_path(folder / HISTORY) as path, path.open("w", **files.CSV_TEXT) as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def examine(
    out: Path, asked: Mapping[str, Any], is_worth: Callable[[Path], bool], *, restart: bool = False
) -> Path:
    """Refuse what `in_the_making` would refuse now; nothing is made or changed.

    Args:
        out: The run folder.
        asked: As there.
        is_worth: As there.
        restart: As there.

    Returns:
        The folder in which the run would be made.

    Raises:
        OptionError: As there.
    """
    if is_complete(out):
        _look_at(out, asked, restart=restart)
        return out
    require_new(out)
    unfinished.require_resumable(out)
    folder = unfinished.working_folder(out)
    if not restart and is_complete(folder):
        require_same(folder, Run.open(folder).asked, asked)
    elif not restart and is_worth(folder):
        _require_asked(folder, asked)
    return folder


@contextlib.contextmanager
def in_the_making(
    out: Path,
    asked: Mapping[str, Any],
    is_worth: Callable[[Path], bool],
    *,
    restart: bool = False,
) -> Iterator[Path]:
    """Make a run, go on with one that was interrupted, or look at the one that is there.

    Args:
        out: The run folder.
        asked: What was asked for, JSON-able, as far as it decides the result.
        is_worth: Whether there is something to go on from in a folder, besides a complete training.
        restart: Begin again where one was interrupted.

    Yields:
        The folder to make it in: it takes its place when the block ends well; or `out` itself.

    Raises:
        OptionError: Something else is there, another training was interrupted there, another process is
            making this run, or it cannot be made.
    """
    if examine(out, asked, is_worth, restart=restart) == out:
        yield out
        unfinished.unclaim(out)
        return
    with unfinished.resumable_folder(
        out, lambda folder: is_worth(folder) or is_complete(folder), restart=restart
    ) as folder:
        remove_leftovers(folder)
        if is_complete(folder):
            require_same(folder, Run.open(folder).asked, asked)
        else:
            _ask(folder, asked)
        yield folder
        remove_leftovers(folder)


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process was writing, anywhere in a run that this process makes."""
    for place in (folder, *(path for path in sorted(folder.rglob("*")) if path.is_dir())):
        if place.exists():
            files.remove_leftovers(place)


def require_new(out: Path) -> None:
    """Refuse to make a run where something is, or where nothing can be made.

    Raises:
        OptionError: The path exists and is not an empty folder, or it cannot be made.
    """
    if out.name in ("", ".."):
        raise OptionError(f"A run needs a folder of its own. Received: {str(out)!r}. Choose a new one")
    is_folder = out.is_dir() and not out.is_symlink() and not out.is_mount()
    if (out.exists() or out.is_symlink()) and not (is_folder and not any(out.iterdir())):
        raise OptionError(f"{out} already exists. {_TAKE_ANOTHER}")
    files.require_writable(out)
    files.require_writable(out.parent)


def require_same(folder: Path, known: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse a complete training that differs from the one that is asked for.

    Args:
        folder: A run.
        known: What is known of it, such as `Run.asked`; what `now` does not name does not decide the result.
        now: What it would be now.

    Raises:
        OptionError: They differ; the message says in what.
    """
    earlier = {name: known.get(name) for name in now}
    if earlier.get("command") != now.get("command"):
        raise OptionError(
            f"{folder} already exists: `fastcls {earlier['command']}` has made it. Give `fastcls "
            f"{now['command']}` another --out, such as {folder}-{now['command']}, or remove it first"
        )
    if changes := differences(earlier, as_json(now)):
        raise OptionError(f"{folder} already exists, with another training ({changes}). {_TAKE_ANOTHER}")


def require_same_unfinished(folder: Path, earlier: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to resume an interrupted training that differs from the one that is asked for.

    Raises:
        OptionError: They differ; the message says in what.
    """
    if changes := differences(earlier, as_json(now)):
        raise OptionError(
            f"{folder} holds another training, which was interrupted ({changes}). Use the same options to "
            "finish it, another --out to keep it, or --restart to discard it"
        )


def _look_at(out: Path, asked: Mapping[str, Any], *, restart: bool) -> None:
    try:
        run = Run.open(out)
    except OptionError as error:
        raise OptionError(f"{out} already exists and is not a complete run: {error}") from error
    require_same(out, run.asked, asked)
    if restart:
        raise OptionError(f"{out} is already complete: there is nothing to restart. {_TAKE_ANOTHER}")


def _ask(folder: Path, asked: Mapping[str, Any]) -> None:
    """Note what a run in the making is of, and refuse to go on with another."""
    _require_asked(folder, asked)
    files.write_json(folder / _ASKED, asked)


def _require_asked(folder: Path, asked: Mapping[str, Any]) -> None:
    try:
        earlier = made(run_record.Asked, files.read_json(folder / _ASKED))
    except (OSError, ValueError, RecursionError):
        return
    require_same_unfinished(folder, earlier, asked)  # its checkpoints are compared as well

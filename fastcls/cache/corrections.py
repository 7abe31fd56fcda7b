"""Corrections of a data set that a person has noted in the table of an audit, kept by digest.

A line says of one image what is to be done, in the column `action`: nothing where that is empty, `relabel`
(to the class or classes in `suggested`), `drop`, or `split:train`, `split:val`, `split:test`.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from fastcls import files
from fastcls.cache.samples import SampleTable
from fastcls.data.readers.entries import SPLITS
from fastcls.errors import DataError, closest
from fastcls.tasks import Task
from fastcls.wording import count_of, some_of

RELABEL, DROP, SPLIT = "relabel", "drop", "split:"
COLUMNS = (
    *("path", "kind", "score", "given", "suggested", "other", "split", "other_split", "action", "digest"),
)
_NEEDED = ("path", "suggested", "action", "digest")
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True)
class Correction:
    """What is to be done with an image.

    Attributes:
        labels: Its classes; None where they stay.
        split: Its split; None where that stays.
        is_dropped: Whether it is left out.
    """

    labels: tuple[str, ...] | None = None
    split: str | None = None
    is_dropped: bool = False


@dataclass(frozen=True)
class Corrections:
    """What is to be done with some images.

    Attributes:
        of: By digest.
        source: The file that says so.
    """

    of: Mapping[str, Correction] = field(default_factory=dict)
    source: str = ""

    @classmethod
    def read(cls, path: Path, task: Task) -> Corrections:
        """Read a table of issues that a person has edited.

        Args:
            path: The CSV file.
            task: That of the data set, which says how classes are written.

        Raises:
            DataError: It is no such table, or a line says what cannot be done.
        """
        found: dict[str, Correction] = {}
        for number, line in _lines(path):
            action = line["action"].strip()
            if not action:
                continue
            known = found.get(line["digest"], Correction())
            try:
                found[line["digest"]] = _merge(known, _parse(action, line, task))
            except ValueError as error:
                raise DataError(f"{path}, line {number} ({line['path']!r}): {error}") from error
        if not found:
            raise DataError(
                f"{path} has no action. Write {RELABEL}, {DROP} or {SPLIT}train (val, test) into the column "
                "action of the images to correct"
            )
        return cls(found, str(path))

    @property
    def digest(self) -> str:
        """What decides the result of a training on corrected images."""
        known = {key: [each.labels, each.split, each.is_dropped] for key, each in self.of.items()}
        return files.json_digest(known)

    def apply(self, samples: SampleTable) -> SampleTable:
        """A table of samples as it is with the corrections; images that are dropped are left out.

        Identical files are corrected alike. A dropped image is dropped in all its places.
        """
        digests = samples.digests.astype("U32").tolist()
        known = [self.of.get(digest, Correction()) for digest in digests]
        kept = np.array([not each.is_dropped for each in known], bool)
        labels = [
            own if each.labels is None else each.labels
            for own, each in zip(samples.labels, known, strict=True)
        ]
        splits = [
            own if each.split is None else each.split for own, each in zip(samples.splits, known, strict=True)
        ]
        table = SampleTable(samples.paths, labels, splits, samples.groups, samples.digests, samples.states)
        return table if kept.all() else table.take(np.flatnonzero(kept))

    def require_known(self, class_names: Iterable[str]) -> None:
        """Refuse a class that nothing else has: a typing error would make a class of its own.

        Raises:
            DataError: An image is relabeled to it.
        """
        known = {*class_names}
        new = sorted({name for each in self.of.values() for name in each.labels or ()} - known)
        if new:
            raise DataError(
                f"{self.source} relabels images to {new[0]!r}, which is no known class. The closest ones are "
                f"{closest(new[0], known)}"
            )

    def told(self, samples: SampleTable) -> str:
        """What they do to a table of samples, in words."""
        digests = samples.digests.astype("U32").tolist()
        found = [self.of[digest] for digest in digests if digest in self.of]
        absent = len(self.of.keys() - {*digests})
        parts = {
            "relabeled": sum(each.labels is not None for each in found),
            "dropped": sum(each.is_dropped for each in found),
            "moved to another split": sum(each.split is not None for each in found),
        }
        done = ", ".join(f"{count:,} {what}" for what, count in parts.items() if count) or "none applies"
        lost = f"; {count_of(absent, 'image')} of it not in the data set" if absent else ""
        gone = sorted(_classes(samples) - _classes(self.apply(samples)))
        without = f". No image is left of {some_of(gone)}: the classifier will not know it" if gone else ""
        return f"Corrections of {self.source}: {done}{lost}{without}"


def _classes(samples: SampleTable) -> set[str]:
    return {name for labels in {*samples.labels} for name in labels}


def _lines(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The lines of a table with their numbers in the file, also as spreadsheets save it.

    Excel separates cells by semicolons where commas are decimal points, and its "Unicode text" is UTF-16 with
    tabs.
    """
    try:
        with path.open("rb") as file:
            is_utf16 = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        encoding = "utf-16" if is_utf16 else "utf-8-sig"
        with path.open(newline="", encoding=encoding, errors="surrogateescape") as file:
            begin = file.readline()
            file.seek(0)
            lines = csv.DictReader(file, delimiter=max(",;\t", key=begin.count), strict=True)
            lacking = [name for name in _NEEDED if name not in (lines.fieldnames or ())]
            if lacking:
                raise DataError(
                    f"{path} lacks the column {lacking[0]}. Give the issues.csv of `fastcls audit`, with its "
                    "first line"
                )
            for line in lines:
                if any(line[name] is None for name in _NEEDED):
                    raise DataError(f"{path}, line {lines.line_num}: it has too few values")
                yield lines.line_num, line
    except OSError as error:
        raise DataError(
            f"Cannot read {path}: {error.strerror}. Give the issues.csv of `fastcls audit`"
        ) from error
    except (csv.Error, UnicodeError) as error:
        raise DataError(
            f"{path} is no table of issues: {error}. Save it as CSV in UTF-8, with the first line that the "
            "audit wrote"
        ) from error


def _parse(action: str, line: Mapping[str, str], task: Task) -> Correction:
    if len(line["digest"]) != 2 * files.DIGEST_BYTES or not _HEX.issuperset(line["digest"]):
        raise ValueError(f"its digest is none: {line['digest']!r}. Leave this column as the audit wrote it")
    if action == DROP:
        return Correction(is_dropped=True)
    if action == RELABEL:
        return Correction(labels=_labels(line["suggested"], task))
    if action.startswith(SPLIT) and action.removeprefix(SPLIT) in SPLITS:
        return Correction(split=action.removeprefix(SPLIT))
    splits = ", ".join(f"{SPLIT}{split}" for split in SPLITS)
    raise ValueError(f"unknown action {action!r}. Write one of: {RELABEL}, {DROP}, {splits}")


def _labels(text: str, task: Task) -> tuple[str, ...]:
    if not text and not task.may_have_none:
        raise ValueError(f"{RELABEL} needs the new class in the column suggested")
    try:
        return tuple(sorted({*task.read_cell(text)}))
    except ValueError as error:
        raise ValueError(
            f"suggested must be {task.write_cell(('one class',))} or more such names, or [] for no class. "
            f"Received: {text!r}"
        ) from error


def _merge(known: Correction, new: Correction) -> Correction:
    """What two lines of one image say together."""
    if known.labels is not None and new.labels not in (None, known.labels):
        raise ValueError(f"another line relabels the same image to {', '.join(known.labels)}")
    if known.split is not None and new.split not in (None, known.split):
        raise ValueError(f"another line moves the same image to {known.split}")
    both = replace(new, is_dropped=known.is_dropped or new.is_dropped)
    if both.is_dropped and (known.labels, known.split, new.labels, new.split) != (None,) * 4:
        raise ValueError("another line relabels or moves the same image, which is dropped")
    labels = known.labels if new.labels is None else new.labels
    return replace(both, labels=labels, split=known.split if new.split is None else new.split)

"""Text tables: their encoding, what separates the cells, and whether the first line names the columns."""

from __future__ import annotations

import codecs
import contextlib
import csv
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

from fastcls.data.readers.grid import PATH_NAMES, VAGUE_NAMES, Grid, IsImage, Rows
from fastcls.errors import DataError
from fastcls.wording import count_of

_DELIMITERS = (",", ";", "\t", "|")
_SPACE = " "
_NAMED = {"\t": "tabs", _SPACE: "spaces"}
_COMMENT = "#"
_EXCEL = re.compile(
    r"\"?sep=([^\w\s\"]|\t)\"?[,;\t]*", re.IGNORECASE
)  # its own line for what separates cells
_BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
# UTF-16 without a mark, by which of its first bytes are not 0: names begin with plain letters.
_HALVES = {b"\1\0\1\0": "utf-16-le", b"\0\1\0\1": "utf-16-be"}
_PLAIN = "utf-8-sig"
_OLD = {"cp1252": "Windows-1252 (Latin-1)", "latin-1": "Latin-1"}
_BLOCK = 1 << 16
logger = logging.getLogger(__name__)


@contextlib.contextmanager
def open_delimited(path: Path, delimiter: str | None, is_image: IsImage) -> Iterator[Grid]:
    """Open a CSV or the like: a table, or a list of paths and labels without a first line of names.

    Args:
        path: The file.
        delimiter: What separates cells; None for the one of , ; tab and | of which its first line has most,
            or for spaces before the label where it has none.
        is_image: Whether a cell of the first line is the path of an image, so that it names no columns.

    Raises:
        DataError: It cannot be read.
    """
    with _explained(path):
        encoding = _encoding(path)
        with path.open(encoding=encoding, newline="") as file:
            begin = _look_at_begin(file, delimiter, is_image)
            used = begin.delimiter
            notes = ["UTF-16"] if encoding.startswith("utf-16") else []
            if used not in (",", delimiter):
                notes.append(f"cells separated by {_NAMED.get(used, repr(used))}")
            if begin.comments:
                notes.append(f"{count_of(begin.comments, 'line')} with # left out")
            cells = _cells(file, used, begin.skipped)
            header = [name.strip() for name in next(cells, (0, []))[1]]
            if begin.is_marked:
                header[0] = header[0].lstrip(f"{_COMMENT} ")
            if _has_no_names(header, is_image):
                notes.append("no first line of names: columns are numbered")
                cells = _cells(file, used, begin.skipped)
                header = [str(number) for number in range(1, len(header) + 1)]
            columns = _told_apart(header)
            twice = frozenset(name for name, count in Counter(header).items() if name and count > 1)
            yield Grid(tuple(columns), _numbered(cells, columns), tuple(notes), twice=twice)


@contextlib.contextmanager
def open_own(path: Path) -> Iterator[Grid]:
    """Open a CSV as fastcls writes it.

    Raises:
        DataError: It cannot be read.
    """
    with _explained(path), path.open(encoding=_PLAIN, newline="") as file:
        cells = _cells(file, ",", 0)
        header = [name.strip() for name in next(cells, (0, []))[1]]
        yield Grid(tuple(header), _numbered(cells, header))


class _Begin(NamedTuple):
    """How a text table begins.

    Attributes:
        delimiter: What separates its cells.
        skipped: How many lines come before its first.
        comments: How many of these are comments.
        is_marked: Whether the names of its columns follow a "#", as NumPy writes them.
    """

    delimiter: str
    skipped: int
    comments: int
    is_marked: bool


def _look_at_begin(file: Iterable[str], delimiter: str | None, is_image: IsImage) -> _Begin:
    skipped, told, first = 0, "", ""
    comments: list[str] = []
    for first in file:
        excel = _EXCEL.fullmatch(first.rstrip("\r\n")) if not (told or comments) else None
        told = excel[1] if excel else told
        if not excel and first.strip():
            if not _may_be_comment(first, delimiter or told, is_image):
                break
            comments.append(first)
        skipped, first = skipped + 1, ""
    used = delimiter or told or _delimiter(first or "".join(comments[-1:]))
    is_marked = bool(comments) and _has_names(comments[-1], first, used, is_image)
    if is_marked:  # blank lines between them do not matter
        skipped, comments = skipped - 1, comments[:-1]
    return _Begin(used, skipped, len(comments), is_marked)


def _may_be_comment(line: str, delimiter: str, is_image: IsImage) -> bool:
    """Whether a line is one, or the names of columns after a "#"; "#1.jpg,rose" is neither."""
    if not line.startswith(_COMMENT):
        return False
    return line.startswith(f"{_COMMENT} ") or not any(
        map(is_image, _row(line, delimiter or _delimiter(line)))
    )


def _has_names(comment: str, first: str, delimiter: str, is_image: IsImage) -> bool:
    """Whether a comment names the columns of the line after it."""
    names, cells = _row(comment.lstrip(f"{_COMMENT} "), delimiter), _row(first, delimiter)
    if any(name.strip().lower() in PATH_NAMES for name in names):
        return True
    return len(names) == len(cells) > 1 and any(map(is_image, cells))


def _row(line: str, delimiter: str) -> list[str]:
    return next((cells for _, cells in _split([line], delimiter)), [])


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, UnicodeError, csv.Error) as error:
        raise DataError(
            f"{path} cannot be read as CSV: {error}. Save it as UTF-8, separate cells with commas (or name "
            "the character with --delimiter), and quote cells that contain commas."
        ) from error


def _encoding(path: Path) -> str:
    """The encoding of a text file: by its mark, or the first that fits."""
    with path.open("rb") as file:
        begin = file.read(4)
    for mark, encoding in _BOMS.items():
        if begin.startswith(mark):
            return encoding
    half = _HALVES.get(bytes(map(bool, begin)))
    if half and _fits(path, half):
        return half
    if _fits(path, _PLAIN):
        return _PLAIN
    encoding = next(old for old in _OLD if _fits(path, old))
    logger.warning("%s is not UTF-8: it is read as %s", path, _OLD[encoding])
    return encoding


def _fits(path: Path, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                if "\0" in decoder.decode(block):
                    raise csv.Error("it is no text")
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _delimiter(line: str) -> str:
    counts = {each: len(next(csv.reader([line], delimiter=each), [])) for each in _DELIMITERS}
    best = max(_DELIMITERS, key=counts.__getitem__)
    if counts[best] < 2:
        return _SPACE if len(line.split()) > 1 else ","
    return best


def _cells(file: TextIO, delimiter: str, skipped: int) -> Iterator[tuple[int, list[str]]]:
    """The number of each line that is not empty, and its cells; from the line after some others."""
    file.seek(0)
    for _ in range(skipped):
        file.readline()
    return ((skipped + number, row) for number, row in _split(file, delimiter))


def _split(file: Iterable[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    if delimiter == _SPACE:  # paths may have spaces too
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, line.strip().rsplit(None, 1)
        return
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    for row in reader:
        if row:
            yield reader.line_num, row


def _told_apart(header: Sequence[str]) -> list[str]:
    """The names, with a number after those that an earlier column has."""
    return [
        f"{name} (column {number})" if name and name in header[: number - 1] else name
        for number, name in enumerate(header, 1)
    ]


def _has_no_names(header: Sequence[str], is_image: IsImage) -> bool:
    known = any(name.lower() in (*PATH_NAMES, *VAGUE_NAMES) for name in header)
    return not known and any(is_image(cell) for cell in header if cell)


def _numbered(cells: Iterable[tuple[int, list[str]]], header: Sequence[str]) -> Rows:
    for number, row in cells:
        if any(row[len(header) :]):
            raise csv.Error(f"line {number} has {len(row)} cells for {len(header)} columns")
        yield number, dict(zip(header, row, strict=False))

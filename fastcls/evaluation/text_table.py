"""Text tables for a terminal: columns that align whatever the script of the class names."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from fastcls.wording import count_of

COLUMNS = 80  # of a terminal
MOST_CLASSES = 100  # with a row of their own


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Align the columns of some rows: the first to the left, the others to the right.

    >>> print(format_table([["class", "F1"], ["rose", "0.5"]]))
    class   F1
    rose   0.5
    """
    widths = [max(map(text_width, column)) for column in zip(*rows, strict=True)]
    return "\n".join(_format_row(row, widths) for row in rows)


def first_classes(rows: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """The rows of the first classes of many, and one that counts the others, which only a file has.

    >>> first_classes([[f"{place}", "0.5"] for place in range(1200)])[99:]
    [['99', '0.5'], ['and 1,100 more classes', '']]
    """
    more = len(rows) - MOST_CLASSES
    if more <= 0:
        return [*rows]
    rest = [f"and {count_of(more, 'more class')}", *[""] * (len(rows[0]) - 1)]
    return [*rows[:MOST_CLASSES], rest]


def shorten(name: str, columns: int) -> str:
    """A name on one line and at most so many columns wide.

    >>> shorten("a very long name", 8)
    'a very …'
    """
    name = "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in name
    )
    if text_width(name) <= columns:
        return name
    while text_width(name) > columns - 1:
        name = name[:-1]
    return name + "…"


def wrap_parts(parts: Iterable[str]) -> str:
    """Parts of a sentence with commas between them, in lines that a terminal holds.

    >>> print(wrap_parts(["a" * 40, "b" * 30, "c"]))
    aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, bbbbbbbbbbbbbbbbbbbbbbbbbbbbbb, c
    """
    lines = [""]
    for part in parts:
        longer = f"{lines[-1]}, {part}" if lines[-1] else part
        if lines[-1] and text_width(longer) >= COLUMNS:
            lines.append(part)
        else:
            lines[-1] = longer
    return ",\n".join(lines)


def _format_row(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (" " * (width - text_width(cell)) for cell, width in zip(row, widths, strict=True))
    cells = [row[0] + first] + [space + cell for space, cell in zip(others, row[1:], strict=True)]
    return "  ".join(cells).rstrip()


def text_width(text: str) -> int:
    """How many terminal columns the longest line of a text takes."""
    return max(map(_line_width, text.split("\n")))


def _line_width(text: str) -> int:
    return sum(_character_columns(character) for character in text)


def _character_columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1

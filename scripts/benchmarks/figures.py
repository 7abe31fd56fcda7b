"""Medians with their spread, and tables of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Spread:
    """Median, least and greatest of repeated measurements."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread | None:
        """Of some values; None when there are none."""
        known = list(values)
        return cls(statistics.median(known), min(known), max(known)) if known else None

    def __str__(self) -> str:
        if self.low == self.high:
            return digits(self.median)
        return f"{digits(self.median)} ({digits(self.low)}-{digits(self.high)})"


Cell = Spread | float | str | None


@dataclass(frozen=True)
class Table:
    """A table with a title and what its reader must know.

    Attributes:
        title: What was measured.
        columns: Their names, with units.
        rows: A cell per column.
        notes: Sentences below it.
    """

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        """As Markdown."""
        lines = [f"## {self.title}", "", _line(self.columns), _line("---" for _ in self.columns)]
        lines += [_line(map(_shown, row)) for row in self.rows]
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes), ""])

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it, unrounded."""
        rows = [
            {
                name: asdict(cell) if isinstance(cell, Spread) else cell
                for name, cell in zip(self.columns, row, strict=True)
            }
            for row in self.rows
        ]
        return {"title": self.title, "rows": rows, "notes": list(self.notes)}


def ratio(one: Spread | None, other: Spread | None) -> float | None:
    """Of two medians; None where one is missing."""
    return one.median / other.median if one and other and other.median else None


def digits(value: float) -> str:
    """Three significant digits, never fewer than the integer part has; whole numbers as they are."""
    if not math.isfinite(value) or float(value).is_integer():
        return f"{value:.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _shown(cell: Cell) -> str:
    if cell is None:
        return ""
    return digits(cell) if isinstance(cell, (int, float)) else str(cell)

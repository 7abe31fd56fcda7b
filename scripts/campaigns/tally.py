"""Counts of a campaign, as a table, and its failures with what repeats them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Verdict:
    """What became of one trial.

    Attributes:
        trial: What `--trial` takes to repeat it.
        row: The names of its line in the table.
        outcome: The column to count it in, if it held.
        failures: What did not hold; empty if all did.
    """

    trial: str
    row: tuple[str, ...]
    outcome: str
    failures: tuple[str, ...] = ()


@dataclass
class Tally:
    """The counts so far.

    Args:
        heads: Titles of the columns that name a line.
        outcomes: Titles of the columns of trials that held.
    """

    heads: Sequence[str]
    outcomes: Sequence[str]
    _counts: Counter[tuple[tuple[str, ...], str]] = field(default_factory=Counter)
    failed: list[Verdict] = field(default_factory=list)

    def add(self, verdict: Verdict) -> None:
        """Count a trial."""
        self._counts[verdict.row, "failed" if verdict.failures else verdict.outcome] += 1
        if verdict.failures:
            self.failed.append(verdict)

    def __str__(self) -> str:
        rows = sorted({row for row, _ in self._counts})
        columns = (*self.outcomes, "failed")
        lines = [[*self.heads, "tries", *columns]]
        for row in rows:
            counts = [self._counts[row, column] for column in columns]
            lines.append([*row, *map(str, (sum(counts), *counts))])
        sums = [sum(self._counts[row, column] for row in rows) for column in columns]
        lines.append(["total", *[""] * (len(self.heads) - 1), *map(str, (sum(sums), *sums))])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )

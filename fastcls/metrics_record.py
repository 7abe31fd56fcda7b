"""What metrics.json of a test holds, as far as anything reads it by name; the rest is figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypedDict

from fastcls import files
from fastcls.records import Amount, Count, Rule, made

METRICS = "metrics.json"
_TWO = Rule("a list of 2", lambda values: len(values) == 2)


class _Class(TypedDict):
    class_name: str


class _On(TypedDict, total=False):
    """See `fastcls.evaluation.tested_on.TestedOn`."""

    data: str
    root: str
    part: str
    images: Count
    digest: str
    model: str
    seen: dict[str, Count] | None
    date: str
    unreadable: Count
    seconds: Amount
    unfamiliar: Count | None
    features: str
    cached: Count
    left_out: Count
    used: Count
    added: Count | None
    gone: Count
    compact: bool
    corrections: str
    corrected: dict[str, Any] | None
    parity: dict[str, Any] | None
    fastcls: str


class Metrics(TypedDict, total=False):
    """Figures of a test, those of each class, and on what it was made."""

    images: Count
    top_k: Count
    intervals: dict[str, Annotated[list[Amount | None], _TWO]] | None
    classes: list[_Class]
    tested_on: _On


_NO_FIGURES = {"class_name", "intervals", "classes", "tested_on"}


def read_metrics(folder: Path) -> dict[str, Any]:
    """Read metrics.json in a folder.

    Raises:
        ValueError: It is damaged; the message is a fact.
        OSError: It cannot be read.
    """
    try:
        known: Any = made(Metrics, files.read_json(folder / METRICS))
        for row in (known, *known.get("classes", ())):
            made(dict[str, Amount | None], {name: row[name] for name in row.keys() - _NO_FIGURES})
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{METRICS} is damaged: {error}") from error
    found: dict[str, Any] = known
    return found

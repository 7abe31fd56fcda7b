"""Write an evaluation as a folder of files: scores, tables, a picture and a row per image."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastcls import files
from fastcls.data.csv_table import write_table
from fastcls.evaluation.figures import Figures
from fastcls.metrics_record import METRICS

PREDICTIONS = "predictions.csv"
_UNFAMILIARITY = "unfamiliarity"
_PLAIN = 6  # columns before the probabilities of the classes


def write_evaluation(
    evaluation: Figures,
    predictions: Iterable[Any],
    folder: Path,
    *,
    about: Mapping[str, Any] | None = None,
    compact: bool = False,
    unfamiliarity: Sequence[float] | None = None,
) -> None:
    """Write metrics.json, predictions.csv, per_class.csv, other tables, and pictures.

    Args:
        evaluation: What `evaluate` or `evaluate_multi_label` returned.
        predictions: A row of predictions.csv each, in this order.
        folder: Made if missing. Older files of these names are replaced.
        about: What else metrics.json is to hold, JSON-able.
        compact: Leave the probabilities of the classes out of predictions.csv.
        unfamiliarity: Of each prediction, for one more column before these; None where that is not known.
    """
    rows: Iterable[list[Any]] = evaluation.prediction_rows(predictions, compact=compact)
    if unfamiliarity is not None:
        cells = itertools.chain([_UNFAMILIARITY], map("{:.3f}".format, unfamiliarity))
        rows = ([*row[:_PLAIN], cell, *row[_PLAIN:]] for row, cell in zip(rows, cells, strict=True))
    for name, write in _writers(evaluation, rows, about or {}).items():
        write(folder / name)


def file_names(evaluation: Figures) -> tuple[str, ...]:
    """The files that `write_evaluation` writes."""
    return tuple(_writers(evaluation, (), {}))


def _writers(
    evaluation: Figures, predictions: Iterable[list[Any]], about: Mapping[str, Any]
) -> dict[str, Callable[[Path], None]]:
    """What writes each file, by its name."""

    def table(rows: Iterable[Iterable[Any]]) -> Callable[[Path], None]:
        return lambda path: _write_csv(path, rows)

    return {
        METRICS: lambda path: files.write_json(path, {**evaluation.to_dict(), **about}),
        "per_class.csv": table(_class_rows(evaluation)),
        **{name: table(rows) for name, rows in evaluation.csv_tables().items()},
        "confusion.png": evaluation.draw,
        "reliability.png": evaluation.draw_reliability,
        PREDICTIONS: table(predictions),
    }


def _class_rows(evaluation: Figures) -> Iterable[Iterable[Any]]:
    """A row per class; "-" for a score that is undefined."""
    rows = evaluation.class_dicts()
    yield rows[0]
    for row in rows:
        yield ["-" if value is None else value for value in row.values()]


def _write_csv(path: Path, rows: Iterable[Iterable[Any]]) -> None:
    lines = ([*row] for row in rows)
    with files.atomic_path(path) as temporary:
        write_table(temporary, next(lines), lines)

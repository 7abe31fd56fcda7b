"""Write the report of a run: gather, choose what is shown, draw, and put it into one file."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fastcls import files
from fastcls.errors import OptionError
from fastcls.files import PathLike, as_path
from fastcls.parallel import both
from fastcls.report import facts, pixel_facts
from fastcls.report.advice import Advice, Findings, advise
from fastcls.report.counts import CONFUSIONS
from fastcls.report.explained import MOST, explain_mistakes
from fastcls.report.learning import read_curve
from fastcls.report.material import Material, gather
from fastcls.report.page import render
from fastcls.report.payload import payload
from fastcls.report.projection import Points, project
from fastcls.report.selection import LARGEST, Selection, select
from fastcls.report.suspects import find_suspects
from fastcls.report.thumbnails import Thumbnails, make_thumbnails
from fastcls.runs import REPORT
from fastcls.specs import check_at_least
from fastcls.wording import count_of

_USEFUL = 0.95  # precision of the threshold that the advice names


@dataclass(frozen=True)
class Report:
    """A report that was written.

    Attributes:
        path: The page.
        images: How many images it shows.
        notes: What is missing on it, in sentences.
    """

    path: Path
    images: int
    notes: tuple[str, ...]


def write_report(
    run: PathLike,
    out: PathLike | None = None,
    *,
    test: str | None = None,
    explain: int = 0,
    curve: PathLike | None = None,
) -> Path:
    """Write one HTML page about a run, which needs no network and no other file.

    Args:
        run: The run folder.
        out: The page; by default report.html in the run, with a number where another page is there.
        test: The name of the test that it shows; by default the latest of those with the fewest images that
            the run was trained on.
        explain: For how many mistakes to show where the classifier looks: they are forwarded again.
        curve: The .json of a learning curve of `fastcls curve`, to show it too.

    Returns:
        The page.

    Raises:
        OptionError: It is no run, a file of it is damaged, there is no such test, or `out` is taken or cannot
            be written.
    """
    return make_report(run, out, test=test, explain=explain, curve=curve).path


def make_report(
    run: PathLike,
    out: PathLike | None = None,
    *,
    test: str | None = None,
    explain: int = 0,
    curve: PathLike | None = None,
) -> Report:
    """What `write_report` does, and what is missing on the page."""
    folder, asked = as_path(run, "run"), None if out is None else as_path(out, "out")
    check_at_least("explain", explain, 0)
    material = gather(folder, test)
    _require_new(asked, folder)
    learned = None if curve is None else read_curve(as_path(curve, "curve"), material)
    text, selection, notes = _render(material, explain, learned)
    path = _write(text, asked, folder)
    return Report(path, len(selection.places), notes)


def _require_new(asked: Path | None, folder: Path) -> None:
    """Refuse a page that cannot be written, or would replace something."""
    if asked is not None and asked.is_dir():
        raise OptionError(f"{asked} is a folder. Give --out the name of a file, such as {asked / REPORT}")
    if asked is not None:
        files.require_new(asked)
    else:
        files.require_writable(folder)


def _render(
    material: Material, explain: int, curve: dict[str, Any] | None
) -> tuple[str, Selection, tuple[str, ...]]:
    is_whole = len(material.images) <= LARGEST  # then all are shown, whatever the audit doubts
    material = material if is_whole else _audited(material)
    selection = select(material)
    thumbnails = make_thumbnails([material.images.files[place] for place in selection.places])
    if is_whole:
        # Modules that both import are imported before there are two threads.
        importlib.import_module("fastcls.training.heads.logreg")
        points, material = both(partial(_points, material, selection), partial(_audited, material))
    else:
        points = _points(material, selection)
    explained = explain_mistakes(material, selection, min(explain, MOST))
    notes = (*material.notes, *_notes(selection, thumbnails, material.suspects.unjudged))
    data = payload(material, selection, thumbnails.texts, points)
    advice = _advice(material, curve["sentence"] if curve else "")
    context = {**_context(material, notes), "advice": advice, "explained": len(explained), "curve": curve}
    return render({**data, "explained": explained, "curve": curve}, **context), selection, notes


def _audited(material: Material) -> Material:
    return replace(material, suspects=find_suspects(material.features, material.images))


def _context(material: Material, notes: tuple[str, ...]) -> dict[str, Any]:
    result = material.result
    known = facts.figures(result.metrics) if result else []
    return {
        "title": material.run.folder.resolve().name,
        "lead": facts.lead(material),
        "tested": facts.tested_lead(material),
        "headlines": known[: facts.HEADLINES],
        "figures": known[facts.HEADLINES :],
        "notes": notes,
        "material": material,
        "classes": facts.class_rows(material),
        "mistakes": int((~result.correct).sum()) if result else 0,
        "data_facts": facts.data_facts(material),
        "distributions": pixel_facts.distributions(material),
        "poor_kinds": pixel_facts.poor_kinds(material),
        "provenance": facts.provenance(material),
        "stages": facts.stages(material),
        "asked": material.run.resolved,
    }


def _points(material: Material, selection: Selection) -> Points:
    """Places on planes of the images of a page; those without a row have none."""
    rows = material.images.rows[selection.places]
    inside = np.flatnonzero(rows >= 0)
    if material.features is None or not len(inside):
        return {}
    features = material.features
    found = project(features.rows[rows[inside]], features.digests[rows[inside]].tolist(), material.run.folder)
    output: Any = {name: [None] * len(rows) for name in found}
    for name, points in found.items():
        for page, point in zip(inside.tolist(), points, strict=True):
            output[name][page] = point
    known: Points = output
    return known


def _notes(selection: Selection, thumbnails: Thumbnails, unjudged: str) -> Iterator[str]:
    shown = len(selection.places)
    if shown < selection.total:
        yield (
            f"Of {selection.total:,} images the page shows {shown:,}: the mistakes, what they are compared "
            "with, and a sample of the others. Figures are of all."
        )
    if thumbnails.missing:
        yield (
            f"{count_of(thumbnails.missing, 'image')} could not be read where the data set was, so that "
            f"{'it has' if thumbnails.missing == 1 else 'they have'} no picture here."
        )
    if thumbnails.skipped:
        yield (
            f"{count_of(thumbnails.skipped, 'image')} of the {shown:,} have no picture, so that the page "
            "stays small."
        )
    if unjudged:
        yield unjudged


def _advice(material: Material, curve: str) -> list[Advice]:
    result = material.result
    if result is None:
        return []
    metrics, classes = result.metrics, len(material.class_names)
    counts = facts.split_counts(material)
    recall = {row["class_name"]: row.get("recall") for row in metrics.get("classes", [])}
    tested = np.bincount([each for own in result.labels for each in own], minlength=classes)
    known = [recall.get(name) for name in material.class_names]
    values = np.array([np.nan if value is None else value for value in known], float)
    headline = next(iter(facts.figures(metrics)), None)
    return advise(
        Findings(
            class_names=material.class_names,
            trained=counts[:, :2].sum(axis=1),
            tested=tested,
            recall=np.where(tested > 0, values, np.nan),
            confusion=CONFUSIONS[material.run.task](result, classes),
            label_errors=material.suspects.counts[0],
            leaks=material.suspects.counts[1],
            seen=sum((result.on.get("seen") or {}).values()),
            unreadable=len(material.features.failures) if material.features else 0,
            calibration=metrics.get("ece"),
            overconfidence=_overconfidence(material),
            interval=_interval(headline),
            curve=curve,
            headline=headline.name if headline else "",
            thresholds=_useful_threshold(material),
        )
    )


def _interval(figure: facts.Figure | None) -> tuple[float, float] | None:
    if figure is None or figure.low is None or figure.high is None or not figure.is_share:
        return None
    return figure.low, figure.high


def _overconfidence(material: Material) -> float:
    assert material.result is not None
    confidence = material.result.confidence
    if not len(confidence) or np.isnan(confidence).all():
        return 0.0
    return float(np.nanmean(confidence) - material.result.correct.mean())


def _useful_threshold(material: Material) -> dict[str, float]:
    """The lowest threshold with a precision of 95 %, where not all answers have it."""
    table = material.result.thresholds if material.result else {}
    rows = [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]
    good = (row for row in rows if (row.get("precision") or 0) >= _USEFUL)
    first: Any = next(good, None)
    if first is None or first is rows[0] or not first.get("coverage"):
        return {}
    return {name: float(first[name]) for name in ("threshold", "coverage", "precision")}


def _write(text: str, out: Path | None, folder: Path) -> Path:
    """Write the page where it was asked for, or where no other page of the run is."""
    for path in [out] if out else _numbered(folder):
        try:
            with files.new_path(path) as temporary:
                temporary.write_text(text, encoding="utf-8", newline="")
        except OptionError:
            if out:
                raise
            continue
        return path
    raise AssertionError("there is always another number")


def _numbered(folder: Path) -> Iterator[Path]:
    name = Path(REPORT)
    yield folder / name
    for number in itertools.count(2):
        yield folder / f"{name.stem}-{number}{name.suffix}"

"""`fastcls runs`: what has been trained and cached."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fastcls.errors import spoken
from fastcls.sizes import format_bytes
from fastcls.wording import on_one_line

if TYPE_CHECKING:
    from fastcls.inventory import Entry

# What is shown of the figures of one label, and of several labels, per image: its name in words.
_FIGURES = {"accuracy": "accuracy", "auroc": "AUROC", "mean_auroc": "AUROC"}


@click.command()
@click.argument("folders", nargs=-1, type=click.Path(), metavar="[FOLDER]...")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON per run or cache.")
def runs(folders: tuple[str, ...], as_json: bool) -> None:
    """List runs and caches.

    They are searched for below each FOLDER, by default the current one; hidden folders and links are
    skipped, and no model is loaded. METRIC says of what the figures are: accuracy, or the mean AUROC over the
    classes with several labels per image. VAL is that of the images for validation; TEST has one figure for
    each data set that was tested on, by its name. Unfinished and damaged ones are listed with the reason.
    """
    from fastcls.inventory import find

    found = [entry for folder in folders or (".",) for entry in find(folder)]
    if as_json:
        for entry in found:
            click.echo(json.dumps({**asdict(entry), "path": spoken(entry.path)}))
        return
    shown = [_run_rows(found), _cache_rows(found)]
    click.echo("\n\n".join(filter(None, shown)) or "No runs or caches found")
    for entry in found:
        if entry.problem:
            click.echo(f"{entry.state.capitalize()}: {_shown(entry.path)}: {entry.problem}", err=True)


def _run_rows(found: Sequence[Entry]) -> str:
    rows = [["run", "date", "size", "base", "cut", "train", "val", "head", "metric", "val", "test"]]
    for entry in found:
        if entry.kind == "run":
            counts = [str(entry.images.get(use, "-")) for use in ("train", "val")]
            tests = [f"{name} {_figure(tested)}" for name, tested in entry.tests.items()]
            figures = [_metric(entry), _figure(entry.val), ", ".join(tests) or "-"]
            rows.append([*_start(entry), *counts, entry.head or "-", *figures])
    return _table(rows)


def _cache_rows(found: Sequence[Entry]) -> str:
    rows = [["cache", "date", "size", "base", "cut", "images"]]
    for entry in found:
        if entry.kind == "cache":
            images = ", ".join(f"{name} {count}" for name, count in entry.images.items())
            rows.append([*_start(entry), images or "-"])
    return _table(rows)


def _start(entry: Entry) -> list[str]:
    date = datetime.fromisoformat(entry.date.replace("Z", "+00:00")).astimezone() if entry.date else None
    when = f"{date:%Y-%m-%d %H:%M}" if date else "-"
    base = Path(entry.base).stem if "/" in entry.base else entry.base
    return [_shown(entry.path), when, format_bytes(entry.bytes), base or "-", entry.cut or "-"]


def _metric(entry: Entry) -> str:
    told = dict.fromkeys(_FIGURES[name] for name in map(_chief, (entry.val, *entry.tests.values())) if name)
    return "/".join(told) or "-"


def _figure(figures: Mapping[str, float]) -> str:
    name = _chief(figures)
    return f"{figures[name]:.3f}" if name else "-"


def _chief(figures: Mapping[str, float]) -> str:
    """The name of the figure that is shown; "" without one."""
    return next((name for name in _FIGURES if name in figures), "")


def _table(rows: Sequence[Sequence[str]]) -> str:
    from fastcls.evaluation.text_table import format_table

    return format_table(rows) if len(rows) > 1 else ""


def _shown(path: Path) -> str:
    return on_one_line(spoken(path))

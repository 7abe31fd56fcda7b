"""`fastcls export`: a run in the formats of other programs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fastcls.cli import options
from fastcls.cli.options import SourceSpec, SpecCommand
from fastcls.specs.exporting import ExportCheckSpec, ExportSpec

if TYPE_CHECKING:
    from fastcls.exporting.exporter import Exported


@click.command(
    cls=SpecCommand,
    specs={"formats": ExportSpec, "check": ExportCheckSpec, "source": SourceSpec},
    several=("format", "precision"),
)
@click.argument("run", type=click.Path())
@click.option(
    "--out",
    type=click.Path(),
    help="Folder in which a folder is made for each export. [default: RUN/exports]",
)
@click.option("--dry-run", is_flag=True, help="Show what would be written, and stop.")
def export(
    run: str,
    out: str | None,
    dry_run: bool,
    formats: Sequence[ExportSpec],
    check: ExportCheckSpec,
    source: SourceSpec,
) -> None:
    """Write a run in the formats of other programs.

    RUN is a run folder or a classifier.keras. Each export takes RGB images of 0-255 (`image`) and gives
    `probabilities`; names of classes, thresholds and the rule of pixels are inside of it.

    Each is run by the runtime of its format, in a process of its own, and compared with the Keras model on
    images of the run, or of --data. One that differs too much is not kept, and the exit code is 1.
    """
    from fastcls.exporting.exporter import export_planned
    from fastcls.exporting.photos import open_photos
    from fastcls.exporting.planner import plan_export

    dataset = open_photos(check.data, source.open) if check.data else None
    plan = plan_export(Path(run), formats, check, Path(out) if out else None, dataset)
    if dry_run:
        click.echo(str(plan))
        return
    made = export_planned(plan, progress=options.show_progress())
    _print(made)
    if not all(each.folder for each in made):
        sys.exit(1)


def _print(made: Sequence[Exported]) -> None:
    from fastcls.evaluation.text_table import format_table

    is_top_1 = all(each.check.get("decisions") == each.check.get("images") for each in made)
    same = "same top-1" if is_top_1 else "same labels"
    head = ["format", "precision", "MB", "max diff", same, "ms/image"]
    lines = format_table([head, *map(_row, made)]).split("\n")
    for line, status in zip(lines, ["status", *(each.status for each in made)], strict=True):
        click.echo(f"{line.ljust(max(map(len, lines)))}  {status}")
    kept = [each.folder for each in made if each.folder]
    if kept:
        click.echo(f"In {kept[0].parent}: {', '.join(folder.name for folder in kept)}")
    lost = [each.spec.name for each in made if not each.folder]
    if lost:
        click.echo(f"Not kept: {', '.join(lost)}. Use another format or precision", err=True)


def _row(made: Exported) -> list[str]:
    check, figures = made.check, ["", "", "", ""]
    if check:
        same = f"{check['agreeing']}/{check['decisions']}"
        time = "" if check["ms_per_image"] is None else f"{check['ms_per_image']:.1f}"
        figures = [f"{made.record['bytes'] / 1e6:.2f}", f"{check['max_difference']:.1e}", same, time]
    return [made.spec.format, made.spec.precision, *figures]

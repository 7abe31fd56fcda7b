"""`fastcls report`: one HTML page about a run."""

from __future__ import annotations

from pathlib import Path

import click

from fastcls.cli.logs import hide_training
from fastcls.cli.printing import print_report


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The page. [default: RUN/report.html, with a number if another page is there]",
)
@click.option(
    "--test", metavar="NAME", help="Which test of the run is shown. [default: the latest of new images]"
)
@click.option(
    "--explain",
    type=click.IntRange(0, 48),
    default=0,
    metavar="N",
    help="Show for the N most confident mistakes where the classifier looks (Grad-CAM). They are forwarded "
    "again, which takes seconds. [default: none]",
)
@click.option(
    "--curve",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Also show the learning curve whose .json `fastcls curve` has written.",
)
def report(run: Path, out: Path | None, test: str | None, explain: int, curve: Path | None) -> None:
    """Write one HTML page about a run.

    It shows the figures of a test, the images behind each number, suspected label errors, a map of the
    bottlenecks and what to do next. It needs no network and no other file. An earlier page is never
    overwritten.

    All of it comes from the run and its cache. Images are only read for their thumbnails: without them, or
    without the cache, the page says what is missing.
    """
    from fastcls.report.reporter import make_report

    hide_training()  # that of the audit
    written = make_report(run, out, test=test, explain=explain, curve=curve)
    for note in written.notes:
        click.echo(note)
    print_report(written)

"""`fastcls test`: a classifier on images of known class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fastcls.cli import options


@click.command()
@click.argument("run", type=click.Path())
@click.argument("data", type=click.Path())
@options.data_options
@click.option(
    "--out",
    type=click.Path(),
    help="Folder for tables and pictures. [default: RUN/test/ and the name of DATA]",
)
@click.option("--batch-size", type=click.IntRange(1), default=16, show_default=True, help="Images per pass.")
@options.max_pixels_option
def test(
    run: str, data: str, out: str | None, batch_size: int, max_pixels: int | None, **values: Any
) -> None:
    """Test the classifier RUN on the images of DATA.

    RUN is a run folder or a classifier.keras; DATA a folder per class, a CSV, TFRecord files, or a split
    folder, of which the test part is taken. No result is written over another one; a warning says if images
    had a part in the training.
    """
    from fastcls.evaluation.tester import run_test

    dataset = options.open_data(data, values)
    progress = options.show_progress()
    folder = Path(out) if out else None
    result = run_test(
        Path(run), dataset, folder, batch_size=batch_size, max_pixels=max_pixels, progress=progress
    )
    print_test(result)


def print_test(result: Any) -> None:
    """Print the tables of a test, and what was tested on."""
    click.echo(result.evaluation.table())
    for failed in result.unreadable:
        click.echo(f"Unreadable: {str(failed.path)!r}: {failed.reason}", err=True)
    click.echo(str(result.on))
    click.echo(f"In {result.folder}: {', '.join(result.files)}")

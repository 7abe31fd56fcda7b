"""`fastcls suggest`: which images to label next."""

from __future__ import annotations

import click

from fastcls.cli import options
from fastcls.cli.printing import print_suggested


@click.command()
@click.argument("folder", type=click.Path())
@click.option(
    "--from", "run", required=True, type=click.Path(), metavar="RUN", help="Run that is to become better."
)
@click.option(
    "--count",
    type=click.IntRange(1),
    metavar="N",
    default=50,
    show_default=True,
    help="How many images to suggest.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False),
    metavar="FILE.csv",
    default="suggest.csv",
    show_default=True,
    help="Table to write.",
)
def suggest(folder: str, run: str, count: int, out: str) -> None:
    """Suggest which images to label next.

    FOLDER holds images without classes; folders in it mean nothing. Those that the cache of RUN lacks are
    forwarded, once.

    Suggested are images that RUN is unsure of (small margins), and of these such as are unlike all labeled
    ones and each other (k-center). The table has path, predicted class, confidence, margin, and the most
    similar labeled image with its class. No image is moved.
    """
    from fastcls.suggester import suggest as suggest_images

    print_suggested(suggest_images(folder, run, count, out, progress=options.show_progress()))

"""`fastcls curve`: what more images would bring."""

from __future__ import annotations

import shlex
from pathlib import Path

import click


@click.command()
@click.argument("cache", type=click.Path())
@click.option(
    "--name",
    metavar="NAME",
    help="Name of the data set in the cache to look at. [default: the only one in the cache]",
)
@click.option(
    "--out",
    type=click.Path(),
    metavar="FILE.png",
    help="Picture to draw; its numbers are written beside it as FILE.json. [default: curves/NAME.png]",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Random seed of the folds."
)
def curve(cache: str, name: str | None, out: str | None, seed: int) -> None:
    """Tell whether more images would help.

    CACHE is the folder that `fastcls extract` or `run` has made of the images (`fastcls runs` lists all), or
    the folder of several. Images are neither read nor forwarded, and those of the test part stay out.

    Logistic regression is trained on 10, 20 ... 100 % of the images and predicts others: the accuracy (with
    several labels per image, the mean AUROC) of each is drawn and followed up to twice the images.
    """
    from fastcls.cli.logs import hide_training
    from fastcls.evaluation import learning_curve as curves

    if out:
        curves.require_picture(Path(out))
    else:
        curves.require_pictures()
    hide_training()
    found = curves.learning_curve(cache, name, seed=seed)
    picture, numbers = curves.write_curve(found, Path(out) if out else curves.new_picture(found.name))
    click.echo(str(found))
    click.echo(f"In {picture}, {numbers}")
    click.echo(f"Next: fastcls report RUN --curve {shlex.quote(str(numbers))}")

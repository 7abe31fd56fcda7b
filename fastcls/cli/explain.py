"""`fastcls explain`: where in images a classifier sees a class."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fastcls.cli import options
from fastcls.cli.options import PixelSpec, SpecCommand
from fastcls.specs import DrawSpec, ExplainSpec
from fastcls.wording import count_of

if TYPE_CHECKING:
    from fastcls.inference.explained_folder import Explained


@click.command(cls=SpecCommand, specs={"explanation": ExplainSpec, "pictures": DrawSpec, "pixels": PixelSpec})
@click.argument("run", type=click.Path())
@click.argument("images", nargs=-1, required=True, type=click.Path())
@click.option("--out", required=True, type=click.Path(), help="Folder to create.")
@options.image_key
@options.batch_size
def explain(
    run: str,
    images: tuple[str, ...],
    out: str,
    image_key: str | None,
    batch_size: int,
    explanation: ExplainSpec,
    pictures: DrawSpec,
    pixels: PixelSpec,
) -> None:
    """Show where in images a classifier sees a class.

    RUN is a run folder or a classifier.keras. IMAGES are image files, folders (searched recursively), quoted
    patterns, URLs or TFRecord files. Grad-CAM weighs the channels of a map of the network by how much they
    raise the logit of a class, and shows where the sum is high. One map is as coarse as the layer: 7x7
    positions in many networks.

    In --out, each image has a picture at the same relative path: the image, and beside it the evidence for
    each class. contact_sheet.jpg shows up to 48 of them, explained.csv lists all with class and confidence.

    Unreadable images are reported on stderr and left out; the exit code is then 1.
    """
    from fastcls import files
    from fastcls.inference.classifier import Classifier
    from fastcls.inference.explained_folder import explain_files

    files.require_new_folder(Path(out))
    done = explain_files(
        *(Classifier.load(run), images, Path(out), explanation, pictures),
        image_key=image_key,
        batch_size=batch_size,
        max_pixels=pixels.max_pixels,
        progress=options.show_progress(),
    )
    _print(done, explanation.method)
    if done.unreadable:
        sys.exit(1)


def _print(done: Explained, method: str) -> None:
    for path, reason in done.unreadable:
        click.echo(f"Unreadable: {str(path)!r}: {reason}", err=True)
    shape = "x".join(map(str, done.shape[:2]))
    click.echo(
        f"Explained {count_of(done.images, 'image')}: {count_of(done.maps, 'map')} by {method}, layer "
        f"{done.layer} ({shape})"
    )
    click.echo(f"In {done.folder}: contact_sheet.jpg, explained.csv, explained.json, and a picture per image")
    click.echo(f"Next: open {done.folder / 'contact_sheet.jpg'}")

"""`fastcls predict`: classes of image files."""

from __future__ import annotations

import csv
import io
import json
import sys

import click

from fastcls.cli import options
from fastcls.cli.options import PixelSpec, SpecCommand


@click.command(cls=SpecCommand, specs={"pixels": PixelSpec})
@click.argument("run", type=click.Path())
@click.argument("images", nargs=-1, required=True, type=click.Path())
@click.option(
    "--top-k",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Classes to print per image.",
)
@click.option("--json", "form", flag_value="json", help="Print one line of JSON per image.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV: path,rank,class,confidence.")
@click.option("--image-key", metavar="KEY", help="Key of the image file in the records of TFRecord files.")
@click.option(
    "--batch-size", type=click.IntRange(1), default=16, show_default=True, help="Images per forward pass."
)
def predict(
    run: str,
    images: tuple[str, ...],
    top_k: int,
    form: str | None,
    image_key: str | None,
    batch_size: int,
    pixels: PixelSpec,
) -> None:
    """Classify images.

    RUN is a run folder or a classifier.keras. IMAGES are image files, folders (searched recursively) or
    TFRecord files.

    A classifier of several labels per image prints every class that reaches its threshold, which was chosen
    in validation; there may be none.

    Unreadable images are reported on stderr and skipped; the exit code is then 1.
    """
    from fastcls.inference.classifier import Classifier
    from fastcls.inference.inputs import each

    paths = list(each(images, image_key))
    classifier = Classifier.load(run)
    if not classifier.task.takes_top_k:
        options.refuse_typed(f"a classifier of {classifier.task} per image", "top_k")
        top_k = len(classifier.class_names)
    failed = 0
    if form == "csv":
        click.echo("path,rank,class,confidence")
    for result in classifier.stream(paths, batch_size=batch_size, max_pixels=pixels.max_pixels):
        if result.probabilities is None:
            failed += 1
            click.echo(f"Unreadable: {str(result.path)!r}: {result.reason}", err=True)
        else:
            click.echo(_FORMS[form](str(result.path), result.top(top_k)))
    if failed:
        sys.exit(1)


def _as_line(path: str, best: list[tuple[str, float]]) -> str:
    shown = path if path.isprintable() else repr(path)
    return f"{shown}: " + (", ".join(f"{name} {value:.1%}" for name, value in best) or "no class")


def _as_json(path: str, best: list[tuple[str, float]]) -> str:
    classes = [{"class": name, "confidence": round(value, 6)} for name, value in best]
    return json.dumps({"path": path, "predictions": classes})


def _as_csv(path: str, best: list[tuple[str, float]]) -> bytes:
    text = io.StringIO()
    rows = [(path, rank, name, f"{value:.6f}") for rank, (name, value) in enumerate(best, 1)]
    rows = rows or [(path, 0, "", "")]  # an image without any class keeps its line
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().removesuffix("\n").encode(errors="surrogateescape")  # names need not be UTF-8


_FORMS = {None: _as_line, "json": _as_json, "csv": _as_csv}

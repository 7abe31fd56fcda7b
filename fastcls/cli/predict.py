"""`fastcls predict`: classes of image files."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from fastcls.cli import options


@click.command()
@click.argument("run", type=click.Path())
@click.argument("images", nargs=-1, required=True, type=click.Path())
@click.option("--top-k", type=click.IntRange(1), default=1, show_default=True, help="Classes per image.")
@click.option("--json", "form", flag_value="json", help="Print a JSON object per line and image.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV: path,rank,class,confidence.")
@click.option("--batch-size", type=click.IntRange(1), default=16, show_default=True, help="Images per pass.")
@options.max_pixels_option
def predict(
    run: str,
    images: tuple[str, ...],
    top_k: int,
    form: str | None,
    batch_size: int,
    max_pixels: int | None,
) -> None:
    """Classify IMAGES, files or folders (with all that is below them), with the classifier RUN.

    A TFRecord file stands for the images in it.

    A classifier of several labels per image gives each class that reaches its threshold, which validation
    chose; there may be none.

    Unreadable images are reported on stderr and do not stop the others; the exit code is then 1.
    """
    from fastcls.inference.classifier import Classifier

    paths = list(_list(images))
    classifier = Classifier.load(Path(run))
    if not classifier.task.takes_top_k:
        options.refuse_typed(f"a classifier of {classifier.task} per image", {"top_k"})
        top_k = len(classifier.class_names)
    failed = 0
    if form == "csv":
        click.echo("path,rank,class,confidence")
    for result in classifier.predict(paths, batch_size=batch_size, max_pixels=max_pixels):
        if result.probabilities is None:
            failed += 1
            click.echo(f"Unreadable: {str(result.path)!r}: {result.reason}", err=True)
        else:
            best = _best(classifier, result.probabilities, top_k)
            click.echo(_FORMS[form](str(result.path), best))
    if failed:
        sys.exit(1)


def _list(images: Iterable[str]) -> Iterator[Path]:
    from fastcls.data.folder import list_images
    from fastcls.data.tfrecord_reader import find_tfrecords, record_addresses
    from fastcls.errors import DataError

    for place in map(Path, images):
        records = find_tfrecords(place)
        for file in records:
            yield from record_addresses(file)
        if records:
            continue
        if not place.is_dir():
            yield place
            continue
        found = list_images(place)
        if not found.images:
            raise DataError(f"There is no image in {place}")
        yield from (place / name for name in sorted([*found.images, *found.broken]))


def _best(classifier: Any, probabilities: Any, top_k: int) -> list[tuple[str, float]]:
    order = classifier.rank(probabilities)[:top_k]
    return [(classifier.class_names[label], float(probabilities[label])) for label in order]


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

"""Options of how a data set is read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fastcls.cli.options.common import Command, apply

if TYPE_CHECKING:
    from fastcls.data.dataset import Dataset


def data_options(command: Command) -> Command:
    """How a CSV is read."""
    return apply(
        command,
        click.option(
            "--label-separator",
            metavar="TEXT",
            help="What stands between the labels of an image in a CSV, such as '|' or '$': an image may then "
            "have any number. [default: one label per image]",
        ),
        click.option(
            "--image-root",
            type=click.Path(file_okay=False, path_type=Path),
            help="Folder that the paths of a CSV are relative to. [default: that of the CSV]",
        ),
    )


full_decode_option = click.option(
    "--full-decode",
    is_flag=True,
    help="Decode JPEGs at their full size; else those of twice the image size or more are scaled down while "
    "they are decoded, several times faster and a little softer.",
)
max_pixels_option = click.option(
    "--max-pixels",
    type=click.IntRange(1),
    help="Images that have more pixels when they are decoded are not read. [default: as many as the memory "
    "allows each decoding thread]",
)


def open_data(path: str | Path, values: dict[str, Any]) -> Dataset:
    """Open a data set, and take the options of how out of a command's values."""
    from fastcls.data.dataset import Dataset

    return Dataset.open(Path(path), **{name: values.pop(name) for name in ("label_separator", "image_root")})

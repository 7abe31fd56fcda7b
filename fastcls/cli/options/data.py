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


def open_data(path: str | Path, values: dict[str, Any]) -> Dataset:
    """Open a data set, and take the options of how out of a command's values."""
    from fastcls.data.dataset import Dataset

    return Dataset.open(Path(path), **{name: values.pop(name) for name in ("label_separator", "image_root")})

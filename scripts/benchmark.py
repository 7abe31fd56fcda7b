"""Time fastcls against what it replaces, on the same images in the same run.

    python scripts/benchmark.py PHOTOS --base mobilenetv2 --weights FILE

Every contender runs in a fresh process, in turn with the others, several times. Prints Markdown tables of
the medians (min-max) and writes the figures as JSON; what is going on is said on stderr.
"""

from __future__ import annotations

import json
import re
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from benchmarks import command, extract, growth, large, machine, noop, photos, scaling, train
from benchmarks.setup import Setup

PARTS = {
    "extract": extract.measure,
    "limits": extract.measure_limits,
    "large": large.measure,
    "train": train.measure,
    "command": command.measure,
    "noop": noop.measure,
    "scaling": scaling.measure,
    "growth": growth.measure,
}
DEFAULT = tuple(name for name in PARTS if name != "growth")


def _size(_context: click.Context, _option: click.Parameter, value: str) -> tuple[int, int] | None:
    if value == "own":
        return None
    found = re.fullmatch(r"(\d+)x(\d+)", value)
    if not found:
        raise click.BadParameter(f"{value!r} is neither WIDTHxHEIGHT nor 'own'")
    return int(found[1]), int(found[2])


@click.command()
@click.argument("folder", metavar="PHOTOS", type=click.Path(exists=True, path_type=Path))
@click.option("--base", default="mobilenetv2", show_default=True)
@click.option("--weights", help="As for `fastcls extract`.")
@click.option(
    "--part", "parts", type=click.Choice(list(PARTS)), multiple=True, default=DEFAULT, show_default=True
)
@click.option(
    "--contender",
    "contenders",
    type=click.Choice(extract.names()),
    multiple=True,
    help="Of the extraction; all by default.",
)
@click.option(
    "--images", type=click.IntRange(min=2), help="How many; mirrored photos are added when there are fewer."
)
@click.option(
    "--size",
    callback=_size,
    default="500x375",
    show_default=True,
    help="Re-encode the photos at this size, or 'own'.",
)
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True)
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Of the training without a cache.",
)
@click.option("--large-images", type=click.IntRange(min=2), default=64, show_default=True)
@click.option(
    "--tiny-images",
    "counts",
    type=click.IntRange(min=2),
    multiple=True,
    default=(1_000, 10_000, 100_000, 1_000_000),
    show_default=True,
    help="Counts that the growth is measured at.",
)
@click.option(
    "--before",
    type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path),
    help="Checkout of an earlier version, to compare whole commands with.",
)
@click.option(
    "--json", "report", type=click.Path(path_type=Path), default=Path("benchmark.json"), show_default=True
)
def main(
    folder: Path,
    base: str,
    weights: str | None,
    parts: tuple[str, ...],
    contenders: tuple[str, ...],
    images: int | None,
    size: tuple[int, int] | None,
    repeats: int,
    epochs: int,
    large_images: int,
    counts: tuple[int, ...],
    before: Path | None,
    report: Path,
) -> None:
    """Compare on PHOTOS, a folder per class."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # in order: nothing is left
    with tempfile.TemporaryDirectory() as temporary:
        prepared = photos.prepare(folder.absolute(), Path(temporary) / "photos", size=size, limit=images)
        setup = Setup(
            prepared,
            Path(temporary),
            base,
            weights,
            repeats,
            epochs,
            large_images,
            counts,
            contenders,
            before,
        )
        header = _header(setup, size)
        click.echo("\n".join(f"- {name}: {value}" for name, value in header.items()) + "\n")
        figures: dict[str, Any] = {"header": header, "tables": []}
        for part in parts:
            for table in PARTS[part](setup):
                click.echo(table.markdown())
                figures["tables"].append(table.to_dict())
            # After each part: what ends the next one does not take this one along.
            report.write_text(json.dumps(figures, indent=2), encoding="utf-8")


def _header(setup: Setup, size: tuple[int, int] | None) -> dict[str, str]:
    shape = f"{size[0]}x{size[1]} JPEG, quality {photos.QUALITY}" if size else "as they are"
    return {
        "images": f"{len(photos.list_photos(setup.photos))}, {shape}",
        "base": f"{setup.base}, weights {Path(setup.weights).name if setup.weights else 'default'}",
        "repeats": f"{setup.repeats}, in turn; median (min-max)",
        **machine.describe(),
    }


if __name__ == "__main__":
    main()

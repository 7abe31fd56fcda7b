"""`fastcls extract`: images to bottleneck shards."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from fastcls.cli import options


@click.command()
@click.argument("data", type=click.Path())
@options.data_options
@options.base_options
@options.cut_options
@options.extract_options
def extract(data: str, cache_root: str, **values: Any) -> None:
    """Forward the images of DATA through the trunk of a base and keep the bottlenecks.

    DATA is a folder made by split-data, a folder per class, or a CSV (path,label[,group][,split]); with a
    --label-separator, or a column of 0 and 1 per class, images have any number of labels. Images that
    were forwarded before, under whatever name, label or split, are not forwarded again.
    """
    from fastcls.extraction.extractor import extract

    cut, config = options.read_cut(values), options.read_extract(values)
    dataset = options.open_data(data, values)
    cache, done = extract(dataset, cut, Path(cache_root), config, progress=options.show_progress())
    print_extraction(cache, done)
    click.echo(f"Next: fastcls train-head {shlex.quote(str(cache.folder))} --out runs/NAME")


def print_extraction(cache: Any, done: Any) -> None:
    """Print the figures of an extraction."""
    from fastcls.extraction.fidelity import Fidelity

    manifest = cache.manifest
    shape = "x".join(map(str, manifest.shape))
    click.echo(
        f"Cache {cache.folder}: {manifest.base} cut at {manifest.layer}, {shape} {manifest.dtype}; "
        f"normalize {manifest.normalize}"
    )
    if done.engine:
        click.echo(f"{done.engine} in {manifest.precision}, {done.crew}")
    if done.fidelity:
        click.echo(f"Against Keras in float32: {Fidelity(**done.fidelity)}")
    click.echo(
        f"{done.images} images: {done.forwarded} forwarded, {done.reused} reused, "
        f"{done.failures} unreadable; {done.seconds:.1f} s"
    )
    if done.failures:
        click.echo(f"The unreadable images are listed in {cache.folder / 'failures.csv'}:", err=True)
        for failure in cache.failures()[:5]:
            click.echo(f"  {failure.path!r}: {failure.reason}", err=True)

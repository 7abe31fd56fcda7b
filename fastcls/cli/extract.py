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
@options.view_options
@options.extract_options
@options.name_option
@click.option(
    "--preview",
    type=click.Path(dir_okay=False),
    metavar="FILE.png",
    help="Draw some images, a row each, with their views, as the trunk would see them, and stop: nothing is "
    "extracted.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be forwarded; do and write nothing.")
def extract(
    data: str, cache_root: str, name: str | None, preview: str | None, dry_run: bool, **values: Any
) -> None:
    """Forward the images of DATA through the trunk of a base and keep the bottlenecks.

    DATA is a folder made by split-data, a folder per class, TFRecord files (one, a folder of them, or a
    pattern), or a CSV (path,label[,group][,split]); with a --label-separator, or a column of 0 and 1 per
    class, images have any number of labels. Images that were forwarded before, under whatever name, label
    or split, are not forwarded again.
    """
    from fastcls.extraction.extractor import extract_planned
    from fastcls.extraction.planner import plan_extraction

    cuts, views, config = options.read_cuts(values), options.read_views(values), options.read_extract(values)
    dataset, root = options.open_data(data, values), Path(cache_root)
    if preview:
        _draw(preview, dataset, cuts[0], root, views, config.max_pixels)
        return
    plan = plan_extraction(dataset, cuts, root, config, views=views, name=name)
    if dry_run:
        click.echo(f"{plan}\nNothing was written")
        return
    for cache, done in extract_planned(plan, progress=options.show_progress()):
        print_extraction(cache, done)
        said = f" --name {shlex.quote(cache.listing.name)}" if cache.is_shared else ""
        click.echo(f"Next: fastcls train-head {shlex.quote(str(cache.folder))}{said} --out runs/NAME")


def _draw(preview: str, dataset: Any, cut: Any, root: Path, views: Any, max_pixels: int | None) -> None:
    from fastcls.extraction.contact_sheet import draw_contact_sheet

    unused = {"engine", "workers", "batch_size", "shard_size", "compress", "max_failures", "name"}
    options.refuse_typed("--preview", unused)
    count = draw_contact_sheet(dataset, cut, root, views, Path(preview), max_pixels=max_pixels)
    click.echo(f"{count} images, each with {views.views} views: {preview}. Nothing was extracted")


def print_extraction(cache: Any, done: Any) -> None:
    """Print the figures of an extraction."""
    from fastcls.extraction.fidelity import Fidelity

    manifest, listing = cache.manifest, cache.listing
    shape = "x".join(map(str, manifest.shape))
    click.echo(
        f"Cache {cache.folder}: {manifest.base} cut at {manifest.layer}, {shape} {manifest.dtype}; "
        f"normalize {manifest.normalize}"
    )
    if done.engine:
        click.echo(f"{done.engine} in {manifest.precision}, {done.crew}")
    if done.fidelity:
        click.echo(f"Against Keras in float32, when the cache was begun: {Fidelity(**done.fidelity)}")
    views = f" ({done.rows} views)" if done.views > 1 else ""
    click.echo(
        f"{done.images} images: {done.forwarded} forwarded{views}, {done.reused} reused, "
        f"{done.failures} unreadable; {done.seconds:.1f} s"
    )
    if done.views > 1:
        click.echo(f"{done.views} views of each image to train on: {listing.report().views}")
    click.echo(f"Listed as {listing.name} in {listing.samples_path.relative_to(cache.folder)}")
    if done.failures:
        click.echo(f"The unreadable images are listed in {listing.failures_path}:", err=True)
        for failure in listing.failures()[:5]:
            click.echo(f"  {failure.path!r}: {failure.reason}", err=True)

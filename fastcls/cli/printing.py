"""What several commands print of the same results."""

from __future__ import annotations

import sys
from typing import Any

import click
from tqdm import tqdm

from fastcls.specs import step_of

_METRICS = ("loss", "accuracy", "val_loss", "val_accuracy", "val_auroc")


def echo_above_bar(message: str | bytes, *, err: bool = False) -> None:
    """Print a line; a progress bar on the same terminal is drawn again below it."""
    stream = sys.stderr if err else sys.stdout
    if not stream.isatty():
        click.echo(message, err=err)
        return
    with tqdm.external_write_mode(stream):
        click.echo(message, err=err)


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
        click.echo(f"Compared with Keras in float32 when the cache was started: {Fidelity(**done.fidelity)}")
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


def print_training(trained: Any, out: str) -> None:
    """Print the figures of a training."""
    step = step_of(trained.best)
    count, seconds = len(trained.history), sum(row["seconds"] for row in trained.history)
    views = f" of {trained.config.views} views each" if (trained.config.views or 1) > 1 else ""
    click.echo(
        f"Run {out}: {len(trained.class_names)} classes, trained on {trained.train_count} images{views}, "
        f"validated on {trained.val_count}; {count} {step.many if count > 1 else step.one} in {seconds:.1f} s"
    )
    shown = [f"{metric} {value:.4f}" for metric, value in trained.best.items() if metric in _METRICS]
    click.echo(f"Kept {step.one} {trained.best[step.name]:g}" + (f": {', '.join(shown)}" if shown else ""))
    if trained.thresholds:
        pairs = zip(trained.class_names, trained.thresholds, strict=True)
        click.echo("Thresholds: " + ", ".join(f"{name} {value:.3f}" for name, value in pairs))


def print_test(result: Any) -> None:
    """Print the tables of a test, and what was tested on."""
    click.echo(result.evaluation.table())
    for failed in result.unreadable:
        click.echo(f"Unreadable: {str(failed.path)!r}: {failed.reason}", err=True)
    click.echo(str(result.on))
    click.echo(f"In {result.folder}: {', '.join(result.files)}")

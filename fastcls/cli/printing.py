"""What several commands print of the same results."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from fastcls.errors import spoken
from fastcls.sizes import format_bytes
from fastcls.specs import step_of
from fastcls.wording import count_of, figures_of, some_of

TERMINAL_COLUMNS = 80


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
    views = f" ({count_of(done.rows, 'view')})" if done.views > 1 else ""
    click.echo(
        f"Extracted {count_of(done.images, 'image')} in {done.seconds:.1f} s: {done.forwarded:,} forwarded"
        f"{views}, {done.reused:,} reused, {done.failures:,} unreadable"
    )
    shape = "x".join(map(str, manifest.shape))
    click.echo(
        f"Cache {spoken(cache.folder)}: {manifest.base} cut at {manifest.layer}, {shape} {manifest.dtype}; "
        f"normalize {manifest.normalize}"
    )
    if done.engine:
        click.echo(f"{done.engine} in {manifest.precision}, {done.resources}")
    if done.fidelity:
        click.echo(f"Precision: {Fidelity(**done.fidelity).in_words(manifest.precision)}")
    if done.views > 1:
        views = count_of(done.views, "view")
        click.echo(f"{views} of each image to train on: {listing.report().views}")
    click.echo(f"Listed as {listing.name} in {spoken(listing.samples_path)}")
    if done.failures:
        click.echo(f"The unreadable images are listed in {spoken(listing.failures_path)}:", err=True)
        for failure in listing.failures()[:5]:
            click.echo(f"  {failure.path!r}: {failure.reason}", err=True)


def print_next_training(cache: Any, name: str, splits: Collection[str]) -> None:
    """Print how to train a head on a cache.

    Args:
        cache: The cache.
        name: The data set in it.
        splits: The parts of the data set. Without one to validate on, some of its images are set aside.
    """
    said = f" --name {shlex.quote(name)}" if cache.is_shared else ""
    val = "" if "val" in splits else " --val 0.2"
    click.echo(f"Next: fastcls train-head {shlex.quote(spoken(cache.folder))}{said}{val} --out runs/NAME")


def print_training(trained: Any, out: str) -> None:
    """Print the figures of a training."""
    from fastcls.plans.wording import describe_constants

    step, count = step_of(trained.best), len(trained.history)
    seconds = sum(row["seconds"] for row in trained.history)
    views = trained.config.views or 1
    classes = count_of(len(trained.class_names), "class")
    images = count_of(trained.train_count, "image") + (f" of {views} views each" if views > 1 else "")
    shown = figures_of(trained.best)
    told = f": {shown}" if shown else ""
    if "prompts" in trained.best:  # nothing was tried or trained
        prompts = count_of(int(trained.best["prompts"]), step.one)
        click.echo(f"Run {out}: {classes} by {prompts}, validated on {trained.val_count:,} images{told}")
    else:
        click.echo(
            f"Run {out}: {classes}, trained on {images}, validated on {trained.val_count:,}; "
            f"{count_of(count, step.one, step.many)} in {seconds:.1f} s"
        )
        click.echo(f"Kept {step.one} {trained.best[step.name]:g}{told}")
    if getattr(trained, "refit_count", 0):
        click.echo(
            f"Refitted on all {count_of(trained.refit_count, 'image')}, those for validation too; the "
            "figures are of the head before that (--no-refit keeps that one)"
        )
    for line in describe_constants(trained.model):
        click.echo(line)
    if trained.thresholds:
        pairs = zip(trained.class_names, trained.thresholds, strict=True)
        click.echo("Thresholds: " + some_of([f"{name} {value:.3f}" for name, value in pairs], 20))


def print_pruned(trained: Any) -> None:
    """Print how many weights of each kernel are zero."""
    from fastcls.evaluation.text_table import format_table

    pruned = {**trained.pruned, "all": Counter()}
    for counts in trained.pruned.values():
        pruned["all"].update(counts)
    rows = [
        [name, f"{counts['weights']:,}", f"{counts['zeros'] / counts['weights']:.1%}"]
        for name, counts in pruned.items()
    ]
    click.echo(format_table([["pruned", "weights", "zeros"], *rows]))


def print_test(result: Any) -> None:
    """Print the tables of a test, and what was tested on."""
    from fastcls.evaluation.tested_on import tested_on

    click.echo(result.evaluation.table())
    for failed in result.unreadable:
        click.echo(f"Unreadable: {str(failed.path)!r}: {failed.reason}", err=True)
    click.echo(str(result.on))
    made = tested_on(result.folder)
    if made.get("date") != result.on.date:
        click.echo(f"The same result was there already, of {made['date']}, from the {made['features']}")
    click.echo(f"In {result.folder}: {', '.join(result.files)}")


def print_suggested(made: Any) -> None:
    """Print which images to label."""
    from fastcls.evaluation.text_table import format_table

    known = f"; {made.labeled:,} are in the data set of the run" if made.labeled else ""
    images = count_of(made.images, "new image")
    click.echo(f"Chosen from {images} in {made.folder}: {made.forwarded:,} forwarded{known}")
    rows = [
        [each.path, each.predicted or "no class", f"{each.confidence:.1%}", each.nearest_class or "no class"]
        for each in made.suggestions
    ]
    click.echo(format_table([["image", "predicted", "confidence", "nearest labeled"], *rows]))
    click.echo(f"{count_of(len(rows), 'image')} to label next, in {made.file}")
    click.echo(
        "Next: label them, add them to the images of the run, and run again: only new ones are forwarded"
    )


def print_calibration(made: Any) -> None:
    """Print what a calibration has brought."""
    from fastcls.evaluation.text_table import format_table

    calibration = made.calibration
    if made.thresholds is None:
        click.echo(f"Temperature {calibration.temperature:.3f}")
    else:
        rows = zip(made.class_names, calibration.scale, calibration.offset, made.thresholds, strict=True)
        numbers = [[name, *(f"{value:.3f}" for value in values)] for name, *values in rows]
        click.echo(format_table([["class", "scale", "offset", "threshold"], *numbers]))
    figures = [[f"{side.log_loss:.4f}", f"{side.ece:.4f}"] for side in (made.before, made.after)]
    lines = zip(("log loss", "ECE"), *figures, strict=True)
    click.echo(format_table([["", "before", "after"], *map(list, lines)]))
    click.echo(
        f"Measured on {count_of(made.images, 'image')}, {_JUDGED[made.measured_on]}; after: each fifth, "
        "calibrated by the others"
    )
    if made.after.log_loss >= made.before.log_loss:
        click.echo("The log loss is not lower: these probabilities were calibrated well enough before")
    click.echo(f"Run {made.folder}: predicts the same classes")


_JUDGED = {
    "validation": "those that it was validated on",
    "out of fold": "each judged by a head that was not fitted to it (out of fold)",
}


def print_report(written: Any) -> None:
    """Print where a report is."""
    size = format_bytes(written.path.stat().st_size)
    click.echo(f"Report of {count_of(written.images, 'image')} ({size}): {written.path}")


def print_summary(result: Any, out: str, written: Sequence[str], *, is_reported: bool) -> None:
    """Print what a run has come to, what to look at first, and what to do next: `report`, too, unless the
    report follows.
    """
    from fastcls.summary import summarize

    summary = summarize(result, Path(out))
    click.echo()
    if summary.figures:
        click.echo(f"Result: {summary.figures}")
    click.echo(f"In {out}: {', '.join(written) or 'nothing new'}")
    for place, finding in enumerate(summary.findings):
        click.echo(f"{'Look first at:' if place == 0 else '':14} {finding}")
    known = getattr(click.get_current_context().find_root().command, "commands", {})
    left_out = {"report"} if is_reported else set()
    commands = [each for each in summary.commands if each[0].split()[1] in known.keys() - left_out]
    for place, (line, shows) in enumerate(commands):
        start = f"{'Next:' if place == 0 else '':5} {line}"
        click.echo(f"{start}  # {shows}" if len(start) + len(shows) + 4 <= TERMINAL_COLUMNS else start)

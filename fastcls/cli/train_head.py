"""`fastcls train-head`: bottlenecks to a trained classifier."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from fastcls.cli import options
from fastcls.specs import HeadSpec, step_of

METRICS = ("loss", "accuracy", "val_loss", "val_accuracy", "val_auroc")


@click.command("train-head")
@click.argument("cache", type=click.Path())
@click.option("--out", required=True, type=click.Path(), help="Run folder to make.")
@click.option(
    "--name",
    metavar="NAME",
    help="Data set to train on, as `extract` has called it. [default: the only one of the cache]",
)
@options.train_options
@options.train_batch_size("--batch-size")
@click.option(
    "--from",
    "start",
    type=click.Path(),
    help="Run, or checkpoint kept in one, whose head is trained further.",
)
@click.option(
    "--val",
    type=float,
    help="Share of the training images to validate on; 0 trains without validation. "
    "[default: the validation part of the data]",
)
@click.option(
    "--views",
    type=int,
    help="Views of each image to train on, of which an epoch takes one; 1: the plain images. "
    "[default: all of the last extraction]",
)
@click.option("--allow-partial", is_flag=True, help="Train although images have no bottleneck yet.")
@click.option("--allow-stale", is_flag=True, help="Train although image files changed after extraction.")
@options.request_options
def train_head(cache: str, out: str, name: str | None, restart: bool, dry_run: bool, **values: Any) -> None:
    """Train a head on the bottlenecks of CACHE, and stitch it to the trunk.

    CACHE is a cache folder, or a folder that holds only one. The images are not needed. A training that was
    interrupted goes on when the same command is given again.
    """
    from fastcls.cache.store import Cache
    from fastcls.pipeline import train_planned
    from fastcls.plans.training import plan_training

    head, config = options.read_head(values), options.read_training(values)
    start = Path(values["start"]) if values["start"] else None
    typed = any(map(options.is_typed, ("kind", "layers", "bottleneck_norm", "train_batch_norm")))
    own_head = None if start and head == HeadSpec() and not typed else head
    plan = plan_training(
        *(Cache.find(Path(cache), name), own_head, config, Path(out)),
        start=start,
        request=options.read_request(),
        restart=restart,
    )
    if dry_run:
        click.echo(str(plan))
        return
    _, trained = train_planned(plan, progress=options.show_progress())
    print_training(trained, out)
    run = shlex.quote(out)
    click.echo(f"Next: fastcls test {run} DATA, or fastcls predict {run} IMAGE...")


def print_training(trained: Any, out: str) -> None:
    """Print the figures of a training."""
    step = step_of(trained.best)
    count, seconds = len(trained.history), sum(row["seconds"] for row in trained.history)
    views = f" of {trained.config.views} views each" if (trained.config.views or 1) > 1 else ""
    click.echo(
        f"Run {out}: {len(trained.class_names)} classes, trained on {trained.train_count} images{views}, "
        f"validated on {trained.val_count}; {count} {step.many if count > 1 else step.one} in {seconds:.1f} s"
    )
    shown = [f"{metric} {value:.4f}" for metric, value in trained.best.items() if metric in METRICS]
    click.echo(f"Kept {step.one} {trained.best[step.name]:g}" + (f": {', '.join(shown)}" if shown else ""))
    if trained.thresholds:
        pairs = zip(trained.class_names, trained.thresholds, strict=True)
        click.echo("Thresholds: " + ", ".join(f"{name} {value:.3f}" for name, value in pairs))

"""`fastcls finetune`: train a base itself, on images."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from fastcls.cli import options
from fastcls.cli.train_head import print_training

_BASE_ONLY = {"weights", "size", "normalize", "kind", "layers", "bottleneck_norm", "downscale"}
# Trained weights are changed little by little.
_DEFAULTS = {"epochs": 20, "learning_rate": 1e-4}


@click.command(context_settings={"default_map": _DEFAULTS})
@click.argument("data", type=click.Path())
@click.option("--out", required=True, type=click.Path(), help="Run folder to make.")
@click.option(
    "--base", help="A name that `fastcls bases` lists, a .keras, .h5 or SavedModel file, or module:function."
)
@click.option(
    "--from",
    "start",
    type=click.Path(),
    help="Run, or checkpoint kept in one, to train further, in place of a base.",
)
@options.base_details
@options.data_options
@options.finetune_options
@options.max_pixels_option
@options.train_options
@options.train_batch_size("--batch-size")
@click.option(
    "--val",
    type=float,
    help="Share of the training images to validate on; 0 trains without validation. "
    "[default: the validation part of the data]",
)
@options.request_options
def finetune(
    data: str, out: str, restart: bool, dry_run: bool, max_pixels: int | None, **values: Any
) -> None:
    """Train a network on the images of DATA, base and head together.

    The two steps of the field: train a head from the cache, then go on from that run at a low rate. Each
    epoch forwards each image again; `train-head --head tail` on a cache with views is many times quicker
    where only the last layers are to be trained.
    """
    from fastcls.pipeline import finetune_planned
    from fastcls.plans.finetuning import plan_finetuning

    start = _read_start(values)
    spec, head = options.read_finetune(values), options.read_head(values)
    config = options.read_training(values)
    dataset = options.open_data(data, values)
    plan = plan_finetuning(
        *(dataset, start, spec, config, Path(out)),
        head=None if isinstance(start, Path) else head,
        max_pixels=max_pixels,
        request=options.read_request(),
        restart=restart,
    )
    if dry_run:
        click.echo(str(plan))
        return
    trained = finetune_planned(plan, progress=options.show_progress())
    for path, reason in trained.unreadable.items():
        click.echo(f"Unreadable: {path!r}: {reason}", err=True)
    print_training(trained, out)
    run = shlex.quote(out)
    tested = shlex.quote(data) if "test" in dataset.splits else "DATA"  # the rest was trained on
    click.echo(f"Next: fastcls test {run} {tested}, or fastcls predict {run} IMAGE...")


def _read_start(values: dict[str, Any]) -> Any:
    """A base, or the folder of a run."""
    options.drop_loaded(values, "start", {"base", "include_top", *_BASE_ONLY})
    options.drop_loaded(values, "base", {"start"})
    base, start = values.pop("base"), values.pop("start")
    if (base is None) == (start is None):
        raise click.UsageError("Give either --base, or --from and the folder of a run.")
    if base is not None:
        return options.read_base({**values, "base": base})
    options.refuse_typed("--from", _BASE_ONLY | {"include_top"})
    return Path(start)

"""`fastcls promote`: a kept checkpoint as a run."""

from __future__ import annotations

import shlex

import click


@click.command()
@click.argument("run", type=click.Path())
@click.argument("checkpoint")
@click.option("--out", required=True, type=click.Path(), help="Run folder to create.")
def promote(run: str, checkpoint: str, out: str) -> None:
    """Make a kept checkpoint a run of its own.

    RUN is a run folder with checkpoints (--checkpoint-every), which stays as it is. CHECKPOINT is an epoch
    (12), a name (epoch-0012) or a path. `fastcls test RUN --epochs` compares them.
    """
    from fastcls.epochs import promote as promote_checkpoint

    promote_checkpoint(run, checkpoint, out)
    click.echo(f"Run {out}: {checkpoint} of {run}")
    click.echo(f"Next: fastcls test {shlex.quote(out)} DATA, or fastcls predict {shlex.quote(out)} IMAGE...")

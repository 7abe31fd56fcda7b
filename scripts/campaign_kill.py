"""Kill every command at random moments; the same command must go on, and end with the same result.

    python scripts/campaign_kill.py --trials 200 --seed 0

Each trial draws a moment of a command and a signal: KILL, TERM, INT or HUP, to the parent, a worker or all of
its processes. Half of the moments are times, uniform over the command's own duration with its imports; the
other half, where there is a C compiler, are calls that change a file. Then the same command is given again
until it ends well, and what is there is compared with what an uninterrupted one leaves: rows, tables, weights,
and no leftovers. Exit code 1 if a trial failed.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click
from campaigns import forks, kills, material
from campaigns.jobs import JOBS
from campaigns.shim import compile_shim
from campaigns.tally import Tally, report


@click.command(help=__doc__.partition("\n")[0])
@click.option("--trials", default=200, show_default=True, help="Over all commands, in turn.")
@click.option("--seed", default=0, show_default=True, help="Another seed, other moments.")
@click.option("--only", multiple=True, type=click.Choice([job.name for job in JOBS]), help="This command.")
@click.option("--trial", "named", multiple=True, metavar="COMMAND:SEED:NUMBER", help="Repeat this one.")
@click.option("--material", "kept", type=click.Path(path_type=Path), help="Make the data there, or find it.")
def main(trials: int, seed: int, only: tuple[str, ...], named: tuple[str, ...], kept: Path | None) -> None:
    """Run the trials and print the counts."""
    names = only or tuple(job.name for job in JOBS)
    chosen = named or [f"{names[number % len(names)]}:{seed}:{number}" for number in range(trials)]
    tally = Tally(kills.HEADS, kills.OUTCOMES)
    with tempfile.TemporaryDirectory(prefix="campaign-") as scratch:
        if kept is None or not kept.exists():
            forks.preload()
        campaign = kills.Campaign(
            material.prepare(kept or Path(scratch) / "material"),
            Path(scratch),
            compile_shim(Path(scratch)),
        )
        if campaign.shim is None:
            click.echo("No C compiler: signals come at times alone", err=True)
        for number, trial in enumerate(chosen):
            verdict = campaign.try_one(trial)
            tally.add(verdict)
            if verdict.failures:
                click.echo(report(verdict))
            elif sys.stderr.isatty() or number % 20 == 19:
                click.echo(f"{number + 1} of {len(chosen)}, {len(tally.failed)} failed", err=True)
    click.echo(str(tally))
    sys.exit(bool(tally.failed))


if __name__ == "__main__":
    main()

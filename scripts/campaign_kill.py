"""Kill every command at random moments; the same command must go on, and end with the same result.

    python scripts/campaign_kill.py --trials 200 --seed 0

Each trial draws a moment of a command and a signal: KILL, TERM, INT or HUP, to the parent, a worker or all of
its processes. Half of the moments are times, uniform over the command's own duration with its imports; the
other half, where there is a C compiler, are calls that change a file. Then the same command is given again
until it ends well, and what is there is compared with what an uninterrupted one leaves: rows, tables,
weights, and no leftovers. Exit code 1 if a trial failed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
from campaigns import kills
from campaigns.jobs import JOBS
from campaigns.main import name_trials, options, run
from campaigns.material import Material
from campaigns.shim import compile_shim
from campaigns.tally import Tally, Verdict

_NAMES = [job.name for job in JOBS]


@options("command", _NAMES, trials=200)
def main(trials: int, seed: int, only: tuple[str, ...], named: tuple[str, ...], kept: Path | None) -> None:
    """Kill every command at random moments: the same command must go on."""
    chosen = named or name_trials(only or _NAMES, seed, trials)
    run(chosen, kept, _make, Tally(kills.HEADS, kills.OUTCOMES))


def _make(material: Material, scratch: Path) -> Callable[[str], Verdict]:
    shim = compile_shim(scratch)
    if shim is None:
        click.echo("No C compiler: signals come at times alone", err=True)
    return kills.Campaign(material, scratch, shim).try_one


if __name__ == "__main__":
    main()

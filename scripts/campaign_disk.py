"""Let the disk fail under every command at random calls; the same command must go on.

    python scripts/campaign_disk.py --trials 100 --seed 0

From a call on that is drawn, all calls that change a file fail, as on a full, a broken or a read-only disk;
or all that read one. The command must end
with a clear message; the same command, on a whole disk, with the same result as if nothing had been. This
takes a C compiler. Exit code 1 if a trial failed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
from campaigns import disks
from campaigns.jobs import JOBS
from campaigns.main import name_trials, options, run
from campaigns.material import Material
from campaigns.shim import compile_shim
from campaigns.tally import Tally, Verdict

_NAMES = [job.name for job in JOBS]


@options("command", _NAMES, trials=100)
def main(trials: int, seed: int, only: tuple[str, ...], named: tuple[str, ...], kept: Path | None) -> None:
    """Let the disk fail under every command at random calls: the same command must go on."""
    chosen = named or name_trials(only or _NAMES, seed, trials)
    run(chosen, kept, _make, Tally(disks.HEADS, disks.OUTCOMES))


def _make(material: Material, scratch: Path) -> Callable[[str], Verdict]:
    shim = compile_shim(scratch)
    if shim is None:
        raise click.ClickException("This takes a C compiler (gcc or cc) and a dynamic linker with LD_PRELOAD")
    return disks.Campaign(material, scratch, shim).try_one


if __name__ == "__main__":
    main()

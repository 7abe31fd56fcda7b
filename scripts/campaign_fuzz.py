"""Damage every kind of file that is read back; a clear error or the right result must follow.

    python scripts/campaign_fuzz.py --trials 2000 --seed 0

Each case draws a file, a damage (a flipped bit, a byte of 0x80 and more, cut short, emptied, swapped, ...)
and a command that reads it. It must end with one message that names the file, or with the very result that
the whole file gives; never with a traceback, another result, or not at all. Then come files that were made to
do harm: code in models and pickles, links out of HDF5 files, bombs. Exit code 1 if a case failed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from campaigns import fuzzes, hostile
from campaigns.kinds import KINDS
from campaigns.main import name_trials, options, run
from campaigns.material import Material
from campaigns.tally import Tally, Verdict

_NAMES = [*(kind.name for kind in KINDS), hostile.KIND]


@options("kind of file", _NAMES, trials=2000)
def main(trials: int, seed: int, only: tuple[str, ...], named: tuple[str, ...], kept: Path | None) -> None:
    """Damage every kind of file that is read back: a clear error or the right result must follow."""
    kinds = [name for name in only or _NAMES if name != hostile.KIND]
    chosen = list(named) or name_trials(kinds, seed, trials)
    if not named and hostile.KIND in (only or _NAMES):
        chosen += [f"{hostile.KIND}:{name}" for name in hostile.CASES]
    run(chosen, kept, _make, Tally(fuzzes.HEADS, fuzzes.OUTCOMES))


def _make(material: Material, _scratch: Path) -> Callable[[str], Verdict]:
    campaign = fuzzes.Campaign(material)
    harm = partial(hostile.try_one, ready=material)
    return lambda trial: (harm if trial.startswith(f"{hostile.KIND}:") else campaign.try_one)(trial)


if __name__ == "__main__":
    main()

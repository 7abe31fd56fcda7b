"""What the scripts of all campaigns share: their options, the loop over the trials, the report."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click

from campaigns.material import Material
from campaigns.tally import Tally, Verdict

# Makes what runs a trial by its name, from the material and a folder for scratch files.
Make = Callable[[Material, Path], Callable[[str], Verdict]]


_Decorate = Callable[[Callable[..., None]], click.Command]


def options(subject: str, subjects: Sequence[str], trials: int) -> _Decorate:
    """The options of a campaign over some subjects."""
    described = (
        click.option("--trials", default=trials, show_default=True, help=f"Over every {subject}, in turn."),
        click.option("--seed", default=0, show_default=True, help="Another seed, other trials."),
        click.option("--only", multiple=True, type=click.Choice(subjects), help=f"This {subject}."),
        click.option("--trial", "named", multiple=True, metavar="NAME", help="Repeat this one alone."),
        click.option(
            "--material",
            "kept",
            type=click.Path(path_type=Path),
            help="Folder of the data that is tried on: made there, or found there as an earlier run left it.",
        ),
    )

    def decorate(function: Callable[..., None]) -> click.Command:
        for option in reversed(described):
            function = option(function)
        return click.command()(function)

    return decorate


def name_trials(subjects: Sequence[str], seed: int, trials: int) -> list[str]:
    """The names of trials that go over the subjects in turn.

    >>> name_trials(["run", "test"], 7, 3)
    ['run:7:0', 'test:7:1', 'run:7:2']
    """
    return [f"{subjects[number % len(subjects)]}:{seed}:{number}" for number in range(trials) if subjects]


def run(chosen: Sequence[str], kept: Path | None, make: Make, tally: Tally) -> None:
    """Run trials, print failures as they come and the counts in the end, and exit with 1 if one failed."""
    with contextlib.ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="campaign-"))
        ready = Material((kept or Path(scratch) / "material").absolute())
        stack.enter_context(_alone(ready.folder))
        try_one = make(ready, Path(scratch))
        for number, trial in enumerate(chosen, 1):
            verdict = try_one(trial)
            tally.add(verdict)
            if verdict.failures:
                click.echo("\n  ".join([f"FAILED --trial {verdict.trial}", *verdict.failures]))
            if number % 50 == 0 and number < len(chosen):
                click.echo(f"{number} of {len(chosen)}, {len(tally.failed)} failed", err=True)
    click.echo(str(tally))
    sys.exit(bool(tally.failed))


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise click.ClickException(f"Another campaign is at work in {folder}") from None
    finally:
        os.close(descriptor)

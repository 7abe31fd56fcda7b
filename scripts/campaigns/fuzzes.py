"""Damage a file, run a command that reads it, and judge: a clear error, or the right result."""

from __future__ import annotations

import random
import re
import shutil
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from campaigns import forks, processes
from campaigns.damage import DAMAGES, inflict
from campaigns.forks import Ended
from campaigns.kinds import KINDS, Kind, Promise, Reader
from campaigns.material import Material
from campaigns.results import Summary, differences, summarize
from campaigns.tally import Verdict

HEADS = ("kind", "damage")
OUTCOMES = ("right", "refused", "other")
_LIMIT_S = 120.0
_MEMORY_BYTES = 3 << 30
_AS_PROCESS = 0.02  # share of cases that run as a user runs them
# Where, besides its own folder, files are that can take the place of one.
_RIVALS = {
    **{"vectors": ("others",), "maps": ("others",), "run": ("rival",), "stopped.unfinished": ("rival",)},
    **{"data": ("tagged",), "half": ("data",), "tagged": ("data",), "photos": ("extra",)},
    **{"photos.csv": ("labels.csv",), "labels.csv": ("photos.csv",), "base.keras": ("run",)},
    **{"base.h5": ("lenet.weights.h5",), "lenet.weights.h5": ("base.h5",)},
}
# What no command may change, whatever it reads.
_OF_THE_USER = ("photos", "extra", "base.keras", "base.h5", "saved", "labels.csv", "photos.csv", "packed")


@dataclass(frozen=True)
class Outcome:
    """What the steps of a reader came to.

    Attributes:
        ended: How the last one ended.
        results: What they made.
    """

    ended: Ended
    results: Summary


@dataclass
class Campaign:
    """Cases on one material.

    Args:
        material: What is damaged.
    """

    material: Material
    _right: dict[Reader, Outcome] = field(default_factory=dict)

    def try_one(self, trial: str) -> Verdict:
        """Run the case of a name, KIND:SEED:NUMBER, which decides all that is drawn."""
        kind, draw = find_kind(trial.split(":")[0]), random.Random(trial)
        path = draw.choice(find_files(self.material, kind))
        reader = draw.choice([reader for reader in kind.readers if path.parts[0] in reader.needs])
        damage = draw.choice(DAMAGES)
        partners = _partners(self.material, path)
        right = self._find_right(reader)
        folder = self.material.lay_out(reader.needs)
        done = inflict(damage, folder / path, partners, draw)
        before = _bytes_of_the_user(folder)
        outcome = _run(reader, folder, as_process=draw.random() < _AS_PROCESS)
        promise = Promise.ALIVE if damage in kind.meant else kind.promise
        word, failures = judge(outcome, right, path, promise, prints=reader.prints)
        if before != _bytes_of_the_user(folder):
            failures.append("a file of the user was changed")
        failures += [f"left over: {name}" for name in _leftovers(folder)]
        shutil.rmtree(folder)
        drawn = f"drawn: {done} of {path}; then {'; '.join(reader.steps)}"
        return Verdict(trial, (kind.name, damage), word, (*failures, drawn) if failures else ())

    def _find_right(self, reader: Reader) -> Outcome:
        """What comes of it if nothing is damaged."""
        if reader not in self._right:
            outcome = _run(reader, self.material.lay_out(reader.needs), as_process=False)
            if outcome.ended.code and not reader.prints:
                raise RuntimeError(f"{reader.steps} does not even work undamaged:\n{outcome.ended.tail}")
            self._right[reader] = outcome
        return self._right[reader]


def find_kind(name: str) -> Kind:
    """The kind of a name.

    Raises:
        KeyError: There is none.
    """
    return {kind.name: kind for kind in KINDS}[name]


def find_files(material: Material, kind: Kind) -> list[Path]:
    """The files of a kind in the material, by their relative paths; those that hold something."""
    patterns = _expand(kind.pattern)
    for pattern in patterns:
        material.require(pattern.partition("/")[0])
    found = chain.from_iterable(material.whole.glob(pattern) for pattern in patterns)
    return sorted(
        path.relative_to(material.whole)
        for path in found
        if path.is_file() and path.stat().st_size and _is_read(path)
    )


def _is_read(path: Path) -> bool:
    is_report = "tensorboard" in path.parts or path.suffix == ".png"
    return "photos" in path.parts or not is_report


def _expand(pattern: str) -> list[str]:
    """Patterns of `Path.glob` for one with {a,b}.

    >>> _expand("{a,b}/*.csv")
    ['a/*.csv', 'b/*.csv']
    """
    found = re.fullmatch(r"(.*)\{(.*)\}(.*)", pattern)
    return [f"{found[1]}{name}{found[3]}" for name in found[2].split(",")] if found else [pattern]


def _partners(material: Material, path: Path) -> list[Path]:
    """Whole files of the same name, or else of the same suffix, that can take the place of one."""
    names = (path.parts[0], *_RIVALS.get(path.parts[0], ()))
    for name in names:
        material.require(name)
    roots = [material.whole / name for name in names]
    found = sorted(chain(roots, *(root.rglob("*") for root in roots)))
    others = [other for other in found if other.is_file() and other.suffix == path.suffix]
    others = [other for other in others if other.relative_to(material.whole) != path]
    return [other for other in others if other.name == path.name] or others or [material.whole / path]


def _run(reader: Reader, folder: Path, *, as_process: bool) -> Outcome:
    for step in reader.steps:
        if as_process:
            ended = processes.run(step.split(), folder, limit_s=_LIMIT_S)
        else:
            ended = forks.run_command(step.split(), folder, limit_s=_LIMIT_S)
        if ended.code:
            break
    found = summarize(folder)
    return Outcome(ended, {name: found[name] for name in found if re.fullmatch(reader.results, name)})


def judge(
    outcome: Outcome, right: Outcome, path: Path, promise: Promise, *, prints: bool
) -> tuple[str, list[str]]:
    """The column to count a case in, and what is wrong with it."""
    ended = outcome.ended
    failures = judge_alive(ended)
    if failures:
        return "", failures
    is_right = ended.code == right.ended.code and not differences(outcome.results, right.results)
    if is_right and (not prints or ended.out == right.ended.out):
        return "right", []
    if is_error(ended):
        unclear = promise is Promise.SAME and not names(ended, path)
        unnamed = [f"the message does not name {path}:\n{ended.tail}"] if unclear else []
        return "refused", unnamed + _half_made(outcome)
    if promise is Promise.ALIVE:
        return "other", []
    if promise is Promise.OTHERS and _others_are_right(outcome, right, prints=prints):
        return "other", []
    told = differences(outcome.results, right.results) or ["other output"]
    return "", ["another result, silently", *told, ended.tail]


def judge_alive(ended: Ended) -> list[str]:
    """What no file may bring about."""
    failures = []
    if ended.late:
        failures.append(f"no end after {_LIMIT_S:.0f} s:\n{ended.tail}")
    elif ended.code not in (0, 1, 2):
        failures.append(f"a crash:\n{ended.tail}")
    if "Traceback" in ended.out + ended.err:
        failures.append(f"a traceback:\n{ended.tail}")
    if ended.memory > _MEMORY_BYTES:
        failures.append(f"{ended.memory >> 20} MiB of memory")
    return failures


def is_error(ended: Ended) -> bool:
    """Whether a command ended with one message of what is wrong."""
    told = [line for line in ended.err.splitlines() if line.startswith("Error: ")]
    return ended.code in (1, 2) and len(told) == 1


def names(ended: Ended, path: Path) -> bool:
    """Whether the message names the file, or a folder that it is in."""
    told = ended.err[ended.err.index("Error: ") :]
    return any(part in told for part in path.parts)


def _half_made(outcome: Outcome) -> list[str]:
    """What an error left of a result that appears whole or not at all."""
    return [f"half made: {name}" for name in outcome.results if name in ("made", "stopped")]


def _others_are_right(outcome: Outcome, right: Outcome, *, prints: bool) -> bool:
    """One image is another, or none: all other rows, or printed lines, are as they were."""
    before, after = (_lines(made, prints=prints) for made in (right, outcome))
    return len(before - after) <= 1 and len(after - before) <= 1


def _lines(made: Outcome, *, prints: bool) -> set[str]:
    if prints:
        return set(made.ended.out.splitlines())
    return {f"{name} {text}" for name, text in made.results.items()}


def _leftovers(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob(".tmp-*")]


def _bytes_of_the_user(folder: Path) -> dict[str, bytes]:
    roots = [folder / name for name in _OF_THE_USER]
    files = chain(roots, *(root.rglob("*") for root in roots))
    return {str(path): path.read_bytes() for path in files if path.is_file()}

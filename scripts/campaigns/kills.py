"""Kill a command at a random moment, give it again until it ends well, and compare what is there."""

from __future__ import annotations

import random
import shutil
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from campaigns import processes
from campaigns.forks import Ended
from campaigns.jobs import Job, find_job
from campaigns.material import Material
from campaigns.results import Summary, differences, summarize
from campaigns.shim import Shim, read_count
from campaigns.tally import Verdict
from fastcls import interrupts

HEADS = ("command", "signal", "to", "moment")
OUTCOMES = ("held", "too late")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
INTERRUPTED = 130
_MESSAGE = interrupts.message(["extract"]).partition(".")[0]
_LIMIT_S = 240.0
_SECOND_KILL = 0.3  # share of trials that interrupt the rerun as well


@dataclass(frozen=True)
class Reference:
    """A command that nobody interrupted.

    Attributes:
        ended: How it ended.
        summary: What was there afterwards.
        calls: How many calls changed files; 0 where they cannot be counted.
    """

    ended: Ended
    summary: Summary
    calls: int


@dataclass(frozen=True)
class Blow:
    """One signal.

    Attributes:
        number: Which.
        target: To whom: "parent", "worker", "all", or "caller", whoever makes the call.
        share: When, as a share of the command's own duration.
        call: Or at which call that changes files; 0 for a time.
    """

    number: signal.Signals
    target: str
    share: float
    call: int = 0


@dataclass
class Campaign:
    """Trials on one material.

    Args:
        material: What the commands work on.
        scratch: An empty folder, whose path is part of no result.
        shim: Strikes at calls; None strikes at times alone.
    """

    material: Material
    scratch: Path
    shim: Shim | None
    _references: dict[str, Reference] = field(default_factory=dict)

    def try_one(self, trial: str) -> Verdict:
        """Run the trial of a name, COMMAND:SEED:NUMBER, which decides all that is drawn."""
        job, draw = find_job(trial.split(":")[0]), random.Random(trial)
        reference = self._reference(job)
        blows = [self._draw(draw, job, reference) for _ in range(1 + (draw.random() < _SECOND_KILL))]
        folder = self.material.lay_out(job.needs)
        failures, hits = [], 0
        for blow in blows:
            ended, was_hit, orphans = self._strike(job, folder, blow, reference)
            hits += was_hit
            failures += _judge_blow(ended, blow, reference, was_hit=was_hit)
            failures += [f"processes {orphans} did not end with their parent"] if orphans else []
            if not was_hit or ended.code == reference.ended.code:
                break
        else:
            ended = processes.run(job.arguments.split(), folder, limit_s=_LIMIT_S)
        failures += _judge_end(job, ended, summarize(folder), reference)
        shutil.rmtree(folder)
        first = blows[0]
        row = (job.name, first.number.name, first.target, "call" if first.call else "time")
        drawn = f"drawn: {'; '.join(map(str, blows))}"
        return Verdict(trial, row, OUTCOMES[not hits], (*failures, drawn) if failures else ())

    def _reference(self, job: Job) -> Reference:
        if job.name not in self._references:
            folder = self.material.lay_out(job.needs)
            count = self.scratch / "count"
            watched = self.shim.environment(folder, count) if self.shim else {}
            ended = processes.run(job.arguments.split(), folder, limit_s=_LIMIT_S, environment=watched)
            calls = read_count(count) if self.shim else 0
            if ended.late or ended.code not in (0, 1) or "Traceback" in ended.err:
                raise RuntimeError(f"{job.name} does not even run undisturbed:\n{ended.tail}")
            self._references[job.name] = Reference(ended, summarize(folder), calls)
            shutil.rmtree(folder)
        return self._references[job.name]

    def _draw(self, draw: random.Random, job: Job, reference: Reference) -> Blow:
        number = draw.choice(SIGNALS)
        if reference.calls and draw.random() < 0.5:
            return Blow(number, "caller", 0.0, draw.randint(1, reference.calls))
        target = draw.choice(("parent", "worker", "all") if job.workers else ("parent", "all"))
        return Blow(number, target, draw.random())

    def _strike(
        self, job: Job, folder: Path, blow: Blow, reference: Reference
    ) -> tuple[Ended, bool, list[int]]:
        watched, count = {}, self.scratch / "count"
        if self.shim and blow.call:
            watched = self.shim.environment(folder, count, call=blow.call, signal=blow.number)
        process = processes.Process(job.arguments.split(), folder, watched)
        was_hit = False
        if not blow.call:
            time.sleep(blow.share * reference.ended.seconds)
            if blow.target != "worker" or process.wait_for_worker():
                was_hit = process.send(blow.number, blow.target)
        ended = process.finish(_LIMIT_S)
        if blow.call:
            was_hit = read_count(count) >= blow.call
        return ended, was_hit, process.orphans()


def _judge_blow(ended: Ended, blow: Blow, reference: Reference, *, was_hit: bool) -> list[str]:
    """What is wrong with how a command ended that was struck; what it leaves behind is not looked at."""
    if ended.late:
        return [f"it had not ended {_LIMIT_S:.0f} s after it began"]
    failures = []
    if ended.fell:
        failures.append(f"a traceback:\n{ended.tail}")
    asked = blow.number in (signal.SIGINT, signal.SIGTERM) and blow.target in ("parent", "all")
    if was_hit and asked and ended.code != reference.ended.code:
        is_told = ended.code == INTERRUPTED and _MESSAGE in ended.err
        if not is_told and not _was_starting(ended):
            failures.append(f"it did not end with code {INTERRUPTED} and a word:\n{ended.tail}")
    return failures


def _was_starting(ended: Ended) -> bool:
    """Whether the interpreter itself was still starting: what it prints then is its own business."""
    was_ended = ended.code in (-signal.SIGTERM, -signal.SIGINT) or "KeyboardInterrupt" in ended.err
    return was_ended and not ended.fell


def _judge_end(job: Job, ended: Ended, summary: Summary, reference: Reference) -> list[str]:
    failures = []
    if ended.late or ended.code != reference.ended.code:
        failures.append(f"the same command did not end well:\n{ended.tail}")
    elif ended.fell:
        failures.append(f"a traceback:\n{ended.tail}")
    elif job.prints and ended.out != reference.ended.out:
        failures.append("it printed other results")
    return failures + differences(summary, reference.summary)

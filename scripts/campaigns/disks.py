"""Let the disk fail under a command from a random call on; on a whole disk, the same command goes on."""

from __future__ import annotations

import errno
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from campaigns import processes
from campaigns.forks import Ended
from campaigns.jobs import Job, find_job
from campaigns.material import Material
from campaigns.results import Summary, differences, summarize
from campaigns.shim import Shim, read_count
from campaigns.tally import Verdict

HEADS = ("command", "fault")
OUTCOMES = ("refused", "unharmed", "not met")
_LIMIT_S = 240.0
# A full disk, one that fails, one that becomes read-only after an error; and one that cannot be read.
FAULTS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EROFS": errno.EROFS, "EIO of reads": errno.EIO}
_READS = "EIO of reads"


@dataclass(frozen=True)
class _Reference:
    ended: Ended
    summary: Summary
    calls: dict[bool, int]  # by whether they are reads


@dataclass
class Campaign:
    """Trials on one material.

    Args:
        material: What the commands work on.
        scratch: A folder for the trials.
        shim: What lets calls fail.
    """

    material: Material
    scratch: Path
    shim: Shim
    _references: dict[str, _Reference] = field(default_factory=dict)

    def try_one(self, trial: str) -> Verdict:
        """Run the trial of a name, COMMAND:SEED:NUMBER, which decides all that is drawn."""
        job, draw = find_job(trial.split(":")[0]), random.Random(trial)
        reference = self._reference(job)
        fault = draw.choice([name for name in FAULTS if reference.calls[name == _READS]])
        call = draw.randint(1, reference.calls[fault == _READS])
        folder = self.material.lay_out(job.needs)
        struck, met = self._run(job, folder, call=call, errno=FAULTS[fault], reads=fault == _READS)
        failures = _judge(struck, reference.ended, is_met=met >= call)
        ended, _ = self._run(job, folder)
        if ended.late or ended.code != reference.ended.code or ended.fell:
            failures.append(f"the same command did not end well on a whole disk:\n{ended.tail}")
        failures += differences(summarize(folder), reference.summary)
        shutil.rmtree(folder)
        outcome = "not met" if met < call else "refused" if struck.code else "unharmed"
        drawn = f"drawn: {fault} from call {call} on"
        return Verdict(trial, (job.name, fault), outcome, (*failures, drawn) if failures else ())

    def _reference(self, job: Job) -> _Reference:
        if job.name not in self._references:
            calls = {}
            for reads in (False, True):
                folder = self.material.lay_out(job.needs)
                ended, calls[reads] = self._run(job, folder, reads=reads)
            self._references[job.name] = _Reference(ended, summarize(folder), calls)
            shutil.rmtree(folder)
        return self._references[job.name]

    def _run(
        self, job: Job, folder: Path, *, call: int = 0, errno: int = 0, reads: bool = False
    ) -> tuple[Ended, int]:
        """How it ended, and how many calls there were."""
        count = self.scratch / "count"
        watched = self.shim.environment(folder, count, call=call, errno=errno, reads=reads)
        process = processes.Process(job.arguments.split(), folder, watched)
        ended = process.finish(_LIMIT_S)
        process.orphans()
        return ended, read_count(count)


def _judge(ended: Ended, undisturbed: Ended, *, is_met: bool) -> list[str]:
    """What is wrong with how a command ended whose disk failed."""
    if ended.late:
        return [f"it had not ended after {_LIMIT_S:.0f} s"]
    if ended.fell or ended.code not in (0, 1):
        return [f"a traceback or a crash:\n{ended.tail}"]
    is_told = "Error: " in ended.err or ended.code == undisturbed.code
    return [] if is_told or not is_met else [f"no clear message:\n{ended.tail}"]

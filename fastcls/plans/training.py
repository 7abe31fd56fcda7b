"""The plan of `train-head`: a head that is trained from a cache."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastcls import runs
from fastcls.cache import checked_files
from fastcls.cache.corrections import Corrections
from fastcls.cache.store import Cache
from fastcls.plans.earlier import require_same_training
from fastcls.plans.wording import describe_files, describe_training, files_of
from fastcls.specs import FoldSpec, HeadSpec, TrainConfig, deciding
from fastcls.specs.option import Option
from fastcls.training.head_reader import load_head
from fastcls.training.head_trainer import HeadTraining, prepare_training
from fastcls.training.loop.checkpoints import has_checkpoint

if TYPE_CHECKING:
    from fastcls.training.cross_validator import Folding


@dataclass(frozen=True)
class TrainingPlan:
    """A training of a head that is checked, and of which nothing is done yet.

    Attributes:
        training: What is trained, and on which rows.
        out: The run folder.
        folder: Where the run is made: see `runs.examine`.
        asked: What was asked for, as far as it decides the result.
        options: Further options to store in run.json, for `--config`.
        restart: Begin again where a training was interrupted.
        folding: The cross-validation, if one is asked for.
    """

    training: HeadTraining
    out: Path
    folder: Path
    asked: Mapping[str, Any]
    options: Mapping[str, Any] | None = None
    restart: bool = False
    folding: Folding | None = None

    @property
    def writes(self) -> tuple[str, ...]:
        """What is written into the run folder; names of folders end with a slash."""
        if runs.is_complete(self.out):
            return ()
        training = self.training
        own = files_of(training.spec, training.config, has_val=training.chosen.val is not None)
        return (*own, *((runs.FOLDS, runs.OUT_OF_FOLD) if self.folding else ()))

    def __str__(self) -> str:
        """What `--dry-run` shows."""
        training = self.training
        counts = training.counts["train_count"], training.counts["val_count"]
        task = training.chosen.task
        lines = describe_training(training.spec, training.model, training.config, counts, task)
        lines = [*training.told, *lines, *([str(self.folding)] if self.folding else [])]
        return "\n".join([*lines, describe_files(self.out, self.folder, self.writes, restart=self.restart)])


def plan_training(
    cache: Cache,
    head: HeadSpec | None,
    config: TrainConfig,
    out: Path,
    *,
    start: Path | None = None,
    corrections: Path | None = None,
    given: Iterable[Option] = (),
    options: Mapping[str, Any] | None = None,
    folds: FoldSpec | None = None,
    restart: bool = False,
) -> TrainingPlan:
    """Check a training of a head, and decide all that it takes; nothing is written.

    Args:
        cache: The bottlenecks, and the data set that is trained on.
        head: What to train; None for `auto`, or the head of `start`.
        config: How to train it.
        out: The run folder; it appears whole. A complete run with the same options is kept.
        start: Run folder, or kept checkpoint of one, whose head is trained further.
        corrections: A table of issues that a person has edited.
        given: Options that were typed: see `choose_head`.
        options: Further options to store in run.json, for `--config`.
        folds: How the head is cross-validated; not by default.
        restart: Begin again where a training was interrupted.

    Raises:
        OptionError: `out` holds something else, another training was interrupted there, or the head does not
            fit.
        CacheError: The cache is partial, stale or damaged.
        DataError: A class has no image to train on, there is no validation part, or the corrections cannot be
            read.
    """
    given = tuple(given)
    asked = {
        "command": "train-head",
        "cache": cache.manifest.fingerprint,
        "head": asdict(head) if head else None,
        "training": asdict(config),
        "typed": deciding(head or HeadSpec(), config, given),
        "goes_on": start is not None,
        "corrections": _digest(corrections, cache) if corrections else None,
        **({"folds": asdict(folds)} if folds and folds.folds else {}),
    }
    folder = runs.examine(out, asked, has_checkpoint, restart=restart)
    checked_files.require_whole(cache.trunk_path)  # before the training, which does without it
    begun = load_head(start) if start else None
    training = prepare_training(cache, head, config, start=begun, corrections=corrections, given=given)
    if not restart:
        require_same_training(folder, training)
    folding = None
    if folds and folds.folds:
        from fastcls.training.cross_validator import prepare_folds  # SciPy takes a moment

        folding = prepare_folds(training, folds)
    return TrainingPlan(training, out, folder, asked, options, restart, folding)


def _digest(corrections: Path, cache: Cache) -> str:
    """What the corrections decide."""
    return Corrections.read(corrections, cache.listing.report().task).digest

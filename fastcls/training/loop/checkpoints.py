"""Which snapshots of a training are written, kept and gone on from."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastcls import files
from fastcls.errors import OptionError
from fastcls.records import as_json
from fastcls.runs import require_same_unfinished
from fastcls.specs import CheckpointSpec
from fastcls.tasks import LOSS, Monitor
from fastcls.training.loop.snapshots import Row, Snapshot, Standing, Trainee, write_snapshot

# Unless the user says how often: what a training that is killed may lose. One that is stopped loses nothing.
_LOSE_AT_MOST_S = 30.0
# Of a training that is not finished: if the last one is damaged, the one before is there.
_GO_ON_FROM = 2
_STOPPED = "stopped.keras"  # beside these, of one that was stopped within an epoch
logger = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one training.

    While it runs, the last ones to go on from are in `FOLDER/resume`; those that the user asked for
    are in `FOLDER/checkpoints`.

    Args:
        folder: Where; None for nowhere.
        spec: Which.
        identity: What decides the result, JSON-able: a checkpoint of another training is refused.
        about: What else is to be written into each, JSON-able.
        monitor: The figure that says which epoch is better.

    Attributes:
        folder: As given.
        found: The last checkpoint of this training, if it was interrupted.

    Raises:
        OptionError: Another training was interrupted here.
    """

    def __init__(
        self,
        folder: Path | None,
        spec: CheckpointSpec,
        identity: dict[str, Any],
        about: dict[str, Any],
        monitor: Monitor = LOSS,
    ) -> None:
        self.folder, self._spec, self._monitor = folder, spec, monitor
        self._identity = as_json(identity)
        self._about = dict(about)
        self._saved = time.monotonic()
        self.found = self._find(folder) if folder else None

    def resume(self, trainee: Trainee) -> Standing:
        """Go back to the last checkpoint, or stay at the beginning if there is none."""
        if not self.found or not self.folder:
            return Standing()
        try:
            standing = self.found.restore(trainee)
        except Exception as error:  # Keras fails on a file that does not fit anywhere
            raise OptionError(
                f"Cannot resume the training from {self.found.path}: {type(error).__name__}: {error}. Remove "
                "this file, or start over with --restart"
            ) from error
        epochs, steps = len(standing.history), standing.begun.steps
        where = f"after step {steps} of epoch {epochs + 1}" if steps else f"after epoch {epochs}"
        logger.warning("Resuming %s of the training in %s", where, self.folder)
        for path in _numbered(self.folder / "checkpoints"):
            if _epoch_of(path) > len(standing.history):
                path.unlink()
        if self.found.path.name != _STOPPED:
            self._keep(self.found.path, standing)
        return standing

    def save(self, standing: Standing, trainee: Trainee) -> None:
        """Write a checkpoint of the epoch that has ended, if it is time for one."""
        row = standing.history[-1]
        if self.folder is None or not self._is_due(row):
            return
        path = _resume_folder(self.folder) / f"epoch-{row['epoch']:04.0f}.keras"
        if not self._write(path, standing, trainee):
            return
        path.with_name(_STOPPED).unlink(missing_ok=True)
        _prune(path.parent, _GO_ON_FROM)
        self._keep(path, standing)
        self._saved = time.monotonic()

    def stop(self, standing: Standing, trainee: Trainee) -> str:
        """Write where a training stands that is stopped between two steps.

        Returns:
            Where that is, in words; "" where nothing is worth to be kept, or nothing is to be written.
        """
        epochs, steps = len(standing.history), standing.begun.steps
        if self.folder is None or self._spec.checkpoint_every == 0 or not (epochs or steps):
            return ""
        if not self._write(_resume_folder(self.folder) / _STOPPED, standing, trainee):
            return ""
        return f"step {steps} of epoch {epochs + 1}" if steps else f"epoch {epochs}"

    def _write(self, path: Path, standing: Standing, trainee: Trainee) -> bool:
        if not all(np.isfinite(weight).all() for weight in trainee.model.get_weights()):
            return False  # without validation, only the next epoch shows that the last step was one too far
        write_snapshot(path, standing, trainee, {"identity": self._identity, **self._about})
        return True

    def _keep(self, path: Path, standing: Standing) -> None:
        """Keep what the last epoch has written, if the user asked for it and it is not there already."""
        if not self.folder or not self._is_asked_for(standing.history[-1]):
            return
        kept = self.folder / "checkpoints" / path.name
        if is_kept(standing.history, self._spec, self._monitor) and not kept.exists():
            _link(path, kept)
        _prune(kept.parent, self._spec.checkpoint_keep)

    def forget(self) -> None:
        """Remove what the training goes on from: it has come to an end that would only be reached again."""
        if self.folder:
            forget_checkpoints(self.folder)

    def _find(self, folder: Path) -> Snapshot | None:
        for path in _to_go_on_from(folder):
            try:
                found = Snapshot.read(path)
            except OptionError as error:
                logger.warning("%s. Skipping it", error)
                continue
            require_same_unfinished(folder, found.state["identity"], self._identity)
            return found
        return None

    def _is_due(self, row: Row) -> bool:
        if self._spec.checkpoint_every == 0:
            return False
        is_late = time.monotonic() - self._saved + row["seconds"] > _LOSE_AT_MOST_S
        return is_late or self._is_asked_for(row)

    def _is_asked_for(self, row: Row) -> bool:
        return bool(self._spec.checkpoint_every) and row["epoch"] % (self._spec.checkpoint_every or 1) == 0


def has_checkpoint(folder: Path) -> bool:
    """Whether a training that was interrupted can go on in this folder."""
    return bool(_to_go_on_from(folder))


def forget_checkpoints(folder: Path) -> None:
    """Remove what a training goes on from; the checkpoints that the user asked for stay."""
    shutil.rmtree(_resume_folder(folder), ignore_errors=True)


def _to_go_on_from(folder: Path) -> list[Path]:
    """The best to go on from first."""
    place = _resume_folder(folder)
    stopped = place / _STOPPED
    return [*([stopped] if stopped.is_file() else []), *reversed(_numbered(place))]


def _resume_folder(folder: Path) -> Path:
    return folder / "resume"


def passes(row: Mapping[str, float], spec: CheckpointSpec) -> bool:
    """Whether an epoch is accurate enough to be kept."""
    return spec.min_accuracy is None or row["val_accuracy"] >= spec.min_accuracy


def merit(row: Mapping[str, float], monitor: Monitor) -> tuple[float, float]:
    """What makes an epoch better than another: how much is pruned, where something is, then validation."""
    return row.get("sparsity", 0.0), -monitor.cost(row)


def is_kept(history: Sequence[Row], spec: CheckpointSpec, monitor: Monitor = LOSS) -> bool:
    """Whether the last epoch, which is due, is to be kept."""
    last = history[-1]
    if not passes(last, spec):
        return False
    kept = [
        row for row in history[:-1] if not row["epoch"] % (spec.checkpoint_every or 1) and passes(row, spec)
    ]
    return not spec.checkpoint_best_only or all(merit(last, monitor) > merit(row, monitor) for row in kept)


def _numbered(folder: Path) -> list[Path]:
    """The checkpoints of a folder, from the first epoch to the last."""
    found = [path for path in folder.glob("epoch-*.keras") if path.stem.removeprefix("epoch-").isdecimal()]
    return sorted(found, key=_epoch_of)


def _epoch_of(path: Path) -> int:
    return int(path.stem.removeprefix("epoch-"))


def _prune(folder: Path, keep: int) -> None:
    for path in _numbered(folder)[:-keep]:
        path.unlink()


def _link(source: Path, path: Path) -> None:
    """Give a file a second name; copy it where the file system has no hard links."""
    with files.atomic_path(path) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)

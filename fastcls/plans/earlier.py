"""Whether a training that is there already, complete or interrupted, is the one that is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastcls import files, runs
from fastcls.cache.samples import SampleRow
from fastcls.data import image_bytes
from fastcls.data.decoder import Decoder, UnreadableImage, affordable_pixels
from fastcls.extraction.planner import CutPlan, ExtractionPlan
from fastcls.machine import cores
from fastcls.specs import HeadSpec, TrainConfig
from fastcls.storage.paths import as_place
from fastcls.training.head_trainer import HeadTraining, prepare_training
from fastcls.training.loop.checkpoints import Checkpoints
from fastcls.training.rows.selection import assign_uses
from fastcls.used_images import used_digests


def require_same_run(folder: Path, plan: ExtractionPlan, head: HeadSpec, config: TrainConfig) -> None:
    """Refuse to go on with a run of other images, or of another cache, before anything is forwarded.

    Args:
        folder: Where the run is, or is made.
        plan: The extraction, of one cut.
        head: The head that is asked for.
        config: How it is to be trained.

    Raises:
        OptionError: As the message says.
    """
    (cut,) = plan.cuts
    if cut.filled:
        require_same_training(folder, prepare_training(cut.filled, head, config))
        return
    unknown = [row for row, _ in cut.lacking]
    lacking = {row.path for row in _readable(unknown, cut, folder, plan.config.max_pixels)}
    gone = {row.path for row in unknown} - lacking
    rows = [row for row in cut.rows if row.digest and row.path not in gone]
    dataset = plan.viewed.dataset
    own, val, _ = assign_uses(rows, dataset.found_classes, config, str(dataset.root), dataset.task)
    used = {"train": [rows[place] for place in own], "val": [rows[place] for place in val]}
    if runs.is_complete(folder):
        known = runs.Run.open(folder).resolved
        now = {"images": images_digest(used), **_fingerprint(plan, known.get("cache"))}
        runs.require_same(folder, known, now)
        return
    forwarded = sum(row.path in lacking for rows in used.values() for row in rows)
    runs.require_same_unfinished(folder, {"images to forward": 0}, {"images to forward": forwarded})


def require_same_training(folder: Path, training: HeadTraining) -> None:
    """Refuse to go on with what is complete, or was interrupted, on other images or another cache.

    Raises:
        OptionError: As the message says.
    """
    if runs.is_complete(folder):
        runs.require_same(folder, runs.Run.open(folder).resolved, decided_by(training))
    elif not training.spec.is_fitted:
        Checkpoints(folder, training.config.checkpoints, training.identity, {})


def decided_by(training: HeadTraining) -> dict[str, Any]:
    """What decides a head: images and cache, but not the places of the rows, which a new cache changes."""
    places = {"train_rows", "val_rows"}
    own = {name: value for name, value in training.identity.items() if name not in places}
    return {**own, "images": images_digest(training.chosen.images)}


def images_digest(used: Mapping[str, Sequence[SampleRow]]) -> str:
    """Hash of the images of a training with their classes, by their use."""
    return files.json_digest({use: [(row.digest, row.labels) for row in used[use]] for use in used})


def _readable(
    rows: Sequence[SampleRow], cut: CutPlan, folder: Path, max_pixels: int | None
) -> list[SampleRow]:
    """The rows of images that can be read: those that the run knows, and what can be decoded besides."""
    known = used_digests(folder / runs.IMAGES)
    decoder = Decoder(cut.caches.pixels, max_pixels or affordable_pixels(cores()))
    return [row for row in rows if row.digest in known or _is_readable(row, cut, decoder)]


def _is_readable(row: SampleRow, cut: CutPlan, decoder: Decoder) -> bool:
    try:
        decoder.read(as_place(image_bytes.located(cut.viewed.dataset.root, row.path)))
    except UnreadableImage:
        return False
    return True


def _fingerprint(plan: ExtractionPlan, earlier: Any) -> dict[str, str]:
    """The cache that would be filled, as far as it is known that it is not the earlier one."""
    found = [plan.cuts[0].caches.fingerprint(candidate) for candidate in plan.candidates]
    known = [fingerprint for fingerprint in found if fingerprint]
    return {} if len(known) < len(found) or earlier in known else {"cache": known[0]}

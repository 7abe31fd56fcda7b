"""The plan of `finetune`: a network that is trained on images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastcls import runs
from fastcls.backend import import_keras, reproducible_build
from fastcls.bases.loader import load_without_download
from fastcls.cache.samples import SampleRow
from fastcls.data import image_bytes
from fastcls.data.dataset import Dataset
from fastcls.data.splitter import require_train_part
from fastcls.inference.classifier import Classifier
from fastcls.parallel import spread
from fastcls.plans.run import told_of
from fastcls.plans.wording import describe_files, describe_pruning, describe_training, files_of
from fastcls.specs import BaseSpec, FinetuneSpec, HeadSpec, TrainConfig
from fastcls.training.finetuner import Finetuning, Networks, networks_of, prepare_finetuning
from fastcls.training.loop.checkpoints import Checkpoints, has_checkpoint
from fastcls.training.networks import prunable
from fastcls.training.rows.selection import assign_uses


@dataclass(frozen=True)
class FinetuningPlan:
    """A training of a network that is checked, and of which nothing is done yet.

    What images look like inside is not known yet, unless a training of them is there already: those that
    cannot be read are left out while it runs.

    Attributes:
        dataset: The images.
        begun: What is trained: a base, or a classifier that is trained further.
        spec: What of it is trained, and how images come.
        config: How it is trained.
        head: What to put on a base.
        max_pixels: See `finetune`.
        networks: The network, with random weights where they would have to be downloaded first.
        counts: Images to train and to validate on, as far as they can be read.
        out: The run folder.
        folder: Where the run is made: see `runs.examine`.
        asked: What was asked for, as far as it decides the result.
        training: What follows from all of that, if a training of the same name is there already.
        options: Further options to store in run.json, for `--config`.
        restart: Begin again where a training was interrupted.
    """

    dataset: Dataset
    begun: BaseSpec | Classifier
    spec: FinetuneSpec
    config: TrainConfig
    head: HeadSpec | None
    max_pixels: int | None
    networks: Networks
    counts: tuple[int, int]
    out: Path
    folder: Path
    asked: Mapping[str, Any]
    training: Finetuning | None = None
    options: Mapping[str, Any] | None = None
    restart: bool = False

    @property
    def writes(self) -> tuple[str, ...]:
        """What is written into the run folder; names of folders end with a slash."""
        if runs.is_complete(self.out):
            return ()
        return files_of(None, self.config, has_val=self.counts[1] > 0)

    def __str__(self) -> str:
        """What `--dry-run` shows."""
        model, task = self.networks.trainee, self.dataset.task
        lines = describe_training(HeadSpec("linear"), model, self.config, self.counts, task)
        if self.spec.sparsity:
            lines += describe_pruning(prunable(model), self.spec.sparsity)
        return "\n".join([*lines, describe_files(self.out, self.folder, self.writes, restart=self.restart)])


def plan_finetuning(
    dataset: Dataset,
    start: BaseSpec | Path,
    spec: FinetuneSpec,
    config: TrainConfig,
    out: Path,
    *,
    head: HeadSpec | None = None,
    max_pixels: int | None = None,
    options: Mapping[str, Any] | None = None,
    restart: bool = False,
) -> FinetuningPlan:
    """Check a training of a network, and decide all that it takes; nothing is written.

    Images are decoded only where a training is there already, to find out whether it is of these.

    Args:
        dataset: The images.
        start: A base, or a run folder whose classifier is trained further.
        spec: What of it is trained, and how images come.
        config: How it is trained.
        out: The run folder; it appears whole. A complete run with the same options is kept.
        head: What to put on a base; a softmax layer by default.
        max_pixels: See `finetune`.
        options: Further options to store in run.json, for `--config`.
        restart: Begin again where a training was interrupted.

    Raises:
        OptionError: `out` holds something else, another training was interrupted there, or base, head or part
            to train do not fit.
        DataError: A class has no image to train on, or there is no validation part.
    """
    asked = {
        "command": "finetune",
        "data": told_of(dataset),
        "start": None if isinstance(start, Path) else asdict(start),
        "head": asdict(head) if head else None,
        "finetuning": asdict(spec),
        "training": asdict(config),
    }
    folder = runs.examine(out, asked, has_checkpoint, restart=restart)
    begun = Classifier.load(start) if isinstance(start, Path) else start
    if isinstance(begun, Classifier):
        begun.require_keras()
    rows = _rows(dataset, config, with_digests=isinstance(begun, Classifier))
    counts = len(rows[0]), len(rows[1])
    if isinstance(begun, Classifier):
        begun.known_images().warn_of([row.digest for row in rows[1]])
    import_keras()
    with reproducible_build():
        networks = networks_of(dataset, begun, spec, config, head, load=load_without_download)
    training = None
    if networks.is_whole and not restart and (runs.is_complete(folder) or has_checkpoint(folder)):
        training = prepare_finetuning(
            *(dataset, begun, spec, config),
            head=head,
            max_pixels=max_pixels,
            networks=networks,
            is_warned=True,
        )
        _require_same(folder, training)
    dataset.warn_of_conflicts()
    return FinetuningPlan(
        *(dataset, begun, spec, config, head, max_pixels, networks, counts, out, folder, asked, training),
        options=options,
        restart=restart,
    )


def _rows(
    dataset: Dataset, config: TrainConfig, *, with_digests: bool
) -> tuple[list[SampleRow], list[SampleRow]]:
    """Images to train and to validate on; raises DataError where they do not make a training."""
    require_train_part(dataset.given, (sample.split for sample in dataset.samples))
    samples = [sample for sample in dataset.samples if sample.split != "test"]
    keys = [sample.path for sample in samples]
    if config.val or with_digests:  # the bytes decide who validates
        keys = list(spread(image_bytes.digest_or_blank, map(dataset.locate, samples)))
    rows = [
        SampleRow(sample.path, dataset.names_of(sample), sample.split, sample.group, key)
        for sample, key in zip(samples, keys, strict=True)
        if key
    ]
    own, val, _ = assign_uses(rows, dataset.found_classes, config, str(dataset.root), dataset.task)
    return [rows[place] for place in own], [rows[place] for place in val]


def _require_same(folder: Path, training: Finetuning) -> None:
    """Raise OptionError where another training is complete, or was interrupted."""
    if runs.is_complete(folder):
        runs.require_same(folder, runs.Run.open(folder).resolved, training.identity)
    else:
        Checkpoints(folder, training.config.checkpoints, training.identity, {})

"""The plan of `finetune`: a network that is trained on images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fastcls import runs
from fastcls.backend import import_keras, reproducible_build
from fastcls.bases.loader import without_download
from fastcls.cache.samples import SampleRow
from fastcls.data import image_bytes
from fastcls.data.dataset import Dataset
from fastcls.inference.classifier import Classifier
from fastcls.parallel import spread
from fastcls.plans.run import table_digest
from fastcls.plans.wording import describe_files, describe_training, files_of
from fastcls.specs import BaseSpec, FinetuneSpec, HeadSpec, TrainConfig
from fastcls.training.finetuner import networks_of, sharing, trains_batch_norm
from fastcls.training.loop.checkpoints import has_checkpoint
from fastcls.training.rows.selection import assign_uses


@dataclass(frozen=True)
class FinetuningPlan:
    """A training of a network that is checked, and of which nothing is done yet.

    What images look like inside is not known yet: those that cannot be read are left out while it runs.

    Attributes:
        dataset: The images.
        begun: What is trained: a base, or a classifier that is trained further.
        spec: What of it is trained, and how images come.
        config: How it is trained.
        head: What to put on a base.
        max_pixels: See `finetune`.
        trainee: The network, with random weights where they would have to be downloaded first.
        counts: Images to train and to validate on, as far as they can be read.
        out: The run folder.
        folder: Where the run is made: see `runs.examine`.
        asked: What was asked for, as far as it decides the result.
        options: Further options to store in run.json, for `--config`.
        restart: Begin again where a training was interrupted.
    """

    dataset: Dataset
    begun: BaseSpec | Classifier
    spec: FinetuneSpec
    config: TrainConfig
    head: HeadSpec | None
    max_pixels: int | None
    trainee: Any
    counts: tuple[int, int]
    out: Path
    folder: Path
    asked: Mapping[str, Any]
    options: Mapping[str, Any] | None = None
    restart: bool = False

    @property
    def writes(self) -> tuple[str, ...]:
        """What is in the run folder in the end; names of folders end with a slash."""
        return files_of(None, self.config, has_val=self.counts[1] > 0)

    def __str__(self) -> str:
        """What `--dry-run` shows."""
        counts, task = self.counts, self.dataset.task
        lines = describe_training(HeadSpec("linear"), self.trainee, self.config, counts, task)
        return "\n".join([*lines, describe_files(self.out, self.folder, self.writes)])


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
    """Check a training of a network, and decide all that it takes; no image is decoded, nothing is written.

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
        "data": table_digest(dataset),
        "start": None if isinstance(start, Path) else asdict(start),
        "head": asdict(head) if head else None,
        "finetuning": asdict(spec),
        "training": asdict(config),
    }
    folder = runs.examine(out, asked, has_checkpoint, restart=restart)
    begun = Classifier.load(start) if isinstance(start, Path) else start
    counts = _count_rows(dataset, config)
    trainee = _build(dataset, begun, spec, config, head)
    return FinetuningPlan(
        *(dataset, begun, spec, config, head, max_pixels, trainee, counts, out, folder, asked),
        options=options,
        restart=restart,
    )


def _count_rows(dataset: Dataset, config: TrainConfig) -> tuple[int, int]:
    """Images to train and to validate on; raises DataError where they do not make a training."""
    samples = [sample for sample in dataset.samples if sample.split != "test"]
    keys = [sample.path for sample in samples]
    if config.val:  # the bytes decide who validates
        keys = list(spread(image_bytes.digest_or_blank, map(dataset.locate, samples)))
    rows = [
        SampleRow(sample.path, dataset.names_of(sample), sample.split, sample.group, key)
        for sample, key in zip(samples, keys, strict=True)
        if key
    ]
    own, val, _ = assign_uses(rows, dataset.found_classes, config, str(dataset.root), dataset.task)
    return len(own), len(val)


def _build(
    dataset: Dataset,
    begun: BaseSpec | Classifier,
    spec: FinetuneSpec,
    config: TrainConfig,
    head: HeadSpec | None,
) -> Any:
    """The network to train; raises OptionError where its parts do not fit."""
    # By the weights that were asked for.
    spec = replace(spec, train_batch_norm=trains_batch_norm(begun, spec))
    import_keras()
    if isinstance(begun, BaseSpec):
        begun = without_download(begun)
    # The network that is trained has the same names as if this one were not there.
    with sharing(), reproducible_build():
        _, trainee = networks_of(dataset, begun, spec, config, head)
    return trainee

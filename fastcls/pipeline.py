"""From a folder of images to a tested classifier, step by step: each command plans, then acts."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fastcls import runs
from fastcls.cache import checked_files
from fastcls.cache.samples import SampleRow
from fastcls.cache.store import Cache
from fastcls.data.dataset import Dataset
from fastcls.evaluation.pictures import draw_history
from fastcls.evaluation.tester import Tested, run_test
from fastcls.extraction.extractor import extract_planned
from fastcls.extraction.ledger import Extraction
from fastcls.files import PathLike
from fastcls.inference.classifier import Classifier
from fastcls.plans.earlier import decided_by
from fastcls.plans.finetuning import FinetuningPlan
from fastcls.plans.run import RunPlan, plan_run
from fastcls.plans.training import TrainingPlan
from fastcls.runs import Run, UsedImage
from fastcls.specs import BaseSpec, CutSpec, ExtractConfig, HeadSpec, TrainConfig, ViewSpec
from fastcls.tasks import Task
from fastcls.training.finetuner import FinetunedNetwork, Finetuning, finetune_prepared, prepare_finetuning
from fastcls.training.head_reader import load_head
from fastcls.training.head_trainer import HeadTraining, TrainedHead, prepare_training, train_prepared
from fastcls.training.loop.checkpoints import forget_checkpoints, has_checkpoint

logger = logging.getLogger(__name__)


def run(
    dataset: Dataset,
    cut: CutSpec | PathLike,
    out: PathLike,
    *,
    head: HeadSpec | str | None = None,
    config: TrainConfig | None = None,
    cache_root: PathLike = "bottlenecks",
    test: float | None = None,
    views: ViewSpec | None = None,
    name: str | None = None,
    extraction: ExtractConfig | None = None,
    restart: bool = False,
    progress: bool = False,
) -> RunResult:
    """Data set in, classifier out, tested where there is a test part.

    Args:
        dataset: The images.
        cut: Base and cut; the name of a base alone stands for its pooled output before the classifier.
        out: The run folder.
        head: The head to train, or the name of its kind; a softmax layer by default.
        config: How to train it.
        cache_root: Folder of bottleneck caches.
        test: See `plan_run`, as for all that follow.
        views: Augmented views.
        name: What the data set is called in the cache.
        extraction: How the extraction runs.
        restart: Begin again where a training was interrupted.
        progress: Show bars on stderr.

    Raises:
        FastclsError: See `plan_run` for what is refused before the first image.
    """
    plan = plan_run(
        dataset,
        cut if isinstance(cut, CutSpec) else CutSpec(os.fspath(cut)),
        HeadSpec(head) if isinstance(head, str) else head or HeadSpec(),
        config or TrainConfig(),
        out,
        cache_root=cache_root,
        test=test,
        views=views,
        name=name,
        extraction=extraction,
        restart=restart,
    )
    return run_planned(plan, progress=progress)


@dataclass(frozen=True)
class RunResult:
    """What each stage of `run` made; `test` is None where there is no test part."""

    cache: Cache
    extraction: Extraction
    classifier: Classifier
    trained: TrainedHead
    test: Tested | None


def run_planned(plan: RunPlan, *, progress: bool = False) -> RunResult:
    """Do what `plan_run` has planned."""
    with runs.in_the_making(plan.out, plan.asked, has_checkpoint, restart=plan.restart) as folder:
        ((cache, extracted),) = extract_planned(plan.extraction, progress=progress)
        checked_files.require_whole(cache.trunk_path)  # before the training, which does without it
        training = prepare_training(cache, plan.head, plan.config)
        known = {"asked": plan.asked, "options": plan.options}
        classifier, trained = _train(training, folder, known, progress=progress)
    tested = None
    if not plan.parts.untested:
        most = plan.extraction.config.max_pixels
        tested = run_test(
            plan.out, plan.parts.dataset, classifier=classifier, max_pixels=most, progress=progress
        )
    return RunResult(cache, extracted, classifier, trained, tested)


def train_planned(plan: TrainingPlan, *, progress: bool = False) -> tuple[Classifier, TrainedHead]:
    """Train a head and write a run folder: classifier, head, history, curves, logs, configuration.

    Until it is complete it is made in `OUT.unfinished`, with checkpoints: if the training is interrupted,
    the same plan goes on from there.
    """
    with runs.in_the_making(plan.out, plan.asked, has_checkpoint, restart=plan.restart) as folder:
        known = {"asked": plan.asked, "options": plan.options}
        return _train(plan.training, folder, known, start=plan.start, progress=progress)


def _train(
    training: HeadTraining,
    folder: Path,
    known: Mapping[str, Any],
    *,
    start: Path | None = None,
    progress: bool = False,
) -> tuple[Classifier, TrainedHead]:
    """Train a head in a folder, unless the same one is there."""
    deciding = decided_by(training)
    if runs.is_complete(folder):
        _go_on_with(folder, deciding)
        trained = replace(load_head(folder), history=Run.open(folder).history())
        return Classifier.load(folder), trained
    images = _write_images(folder, training.chosen.images, start, training.chosen.task)
    trained = train_prepared(training, folder, progress=progress)
    classifier = Classifier.join(training.cache, trained)
    trained.model.save(folder / runs.HEAD)
    _complete(folder, classifier, trained, {**known, "decided_by": deciding, "images": images})
    return classifier, trained


def finetune_planned(plan: FinetuningPlan, *, progress: bool = False) -> FinetunedNetwork:
    """Train a network on images and write a run folder, as `train_planned` does, but for head.keras."""
    with runs.in_the_making(plan.out, plan.asked, has_checkpoint, restart=plan.restart) as folder:
        training = plan.training or _prepare_finetuning(plan)
        if runs.is_complete(folder):
            _go_on_with(folder, training.identity)
            return _load_finetuned(folder, training)
        images = _write_images(folder, training.used, plan.start, plan.dataset.task)
        trained = finetune_prepared(training, folder, progress=progress)
        classifier = _finetuned_classifier(plan, trained)
        known = {"asked": plan.asked, "options": plan.options, "decided_by": training.identity}
        _complete(folder, classifier, trained, {**known, "images": images})
    return trained


def _prepare_finetuning(plan: FinetuningPlan) -> Finetuning:
    return prepare_finetuning(
        *(plan.dataset, plan.begun, plan.spec, plan.config),
        head=plan.head,
        max_pixels=plan.max_pixels,
        networks=plan.networks if plan.networks.is_whole else None,
    )


def _finetuned_classifier(plan: FinetuningPlan, trained: FinetunedNetwork) -> Classifier:
    begun, classifier = plan.begun, trained.classifier
    start = asdict(begun) if isinstance(begun, BaseSpec) else begun.provenance
    provenance = {"start": start, "finetuning": asdict(plan.spec), **classifier.provenance}
    return replace(classifier, provenance=provenance)


def _load_finetuned(folder: Path, training: Finetuning) -> FinetunedNetwork:
    classifier, run = Classifier.load(folder), Run.open(folder)
    return FinetunedNetwork(
        classifier.model,
        training.config,
        classifier.pixels,
        classifier.class_names,
        run.history(),
        run.record["figures"],
        run.record["train_count"],
        run.record["val_count"],
        classifier.thresholds,
        training.unreadable,
        classifier.task,
    )


# The parts of a run


def _write_images(
    folder: Path, used: Mapping[str, Sequence[SampleRow]], start: Path | None, task: Task
) -> dict[str, Any]:
    """Write down the images that a training uses, and those of the run that it goes on from.

    Returns:
        How many there are of each use, and whether these are all that the classifier has ever seen.
    """
    own = [UsedImage(r.path, r.labels, use, r.digest) for use in (runs.TRAIN, runs.VAL) for r in used[use]]
    run = Run.of(start) if start else None
    digests = {image.digest for image in own}
    earlier = [
        replace(image, use=runs.EARLIER)
        for image in (run.images() if run else ())
        if image.digest not in digests
    ]
    runs.write_images(folder, [*own, *earlier], task)
    counts = {use: sum(image.use == use for image in (*own, *earlier)) for use in runs.USES}
    return {**counts, "complete": start is None or bool(run and run.knows_all_images)}


def _complete(
    folder: Path,
    classifier: Classifier,
    trained: TrainedHead | FinetunedNetwork,
    known: Mapping[str, Any],
) -> None:
    """Write what is left to write of a run, run.json last."""
    classifier.save(folder / runs.CLASSIFIER)
    runs.write_history(folder, trained.history)
    if any("loss" in row or "val_loss" in row for row in trained.history):
        draw_history(list(trained.history), folder / runs.CURVES, trained.best)
    told, known = {**classifier.described}, {**known}
    for name in ("head", "training", "finetuning"):  # it is in `decided_by`
        told.pop(name, None)
    known["asked"] = {**(known.pop("options") or {}), **known["asked"]}
    runs.write_record(folder, {**told, **known})
    forget_checkpoints(folder)  # after that: a complete training needs none to go on from


def _go_on_with(folder: Path, deciding: Mapping[str, Any]) -> None:
    """Take up a complete training, if it is the one that is asked for."""
    runs.require_same(folder, "decided_by", deciding)
    forget_checkpoints(folder)
    logger.warning("The training in %s is already complete: nothing is trained again", folder)

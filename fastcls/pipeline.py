"""From a folder of images to a tested classifier, step by step: each command plans, then acts."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastcls import runs
from fastcls.backend import import_ahead, wait_for_ahead
from fastcls.cache import checked_files, mirror
from fastcls.cache.store import Cache
from fastcls.data.dataset import Dataset
from fastcls.evaluation.pictures import draw_history
from fastcls.evaluation.tester import Tested, run_test
from fastcls.extraction.early import early_executor
from fastcls.extraction.executors.base import Executor
from fastcls.extraction.extractor import extract_planned
from fastcls.extraction.tracker import Extraction
from fastcls.files import PathLike, as_path
from fastcls.inference.classifier import Classifier
from fastcls.inference.licenses import weights_license
from fastcls.plans.earlier import decided_by
from fastcls.plans.finetuning import FinetuningPlan
from fastcls.plans.run import RunPlan, plan_run
from fastcls.plans.training import TrainingPlan
from fastcls.runs import Run
from fastcls.specs import (
    BaseSpec,
    CutSpec,
    ExtractConfig,
    FeaturesSpec,
    HeadSpec,
    TrainConfig,
    ViewSpec,
    beyond,
    with_quality,
)
from fastcls.specs.options import as_spec
from fastcls.training.finetuner import FinetunedNetwork, Finetuning, finetune_prepared, prepare_finetuning
from fastcls.training.head_reader import load_head
from fastcls.training.head_trainer import HeadTraining, TrainedHead, prepare_training, train_prepared
from fastcls.training.loop.checkpoints import forget_checkpoints, has_checkpoint
from fastcls.training.loop.progress import announce
from fastcls.used_images import UsedImages, write_images

if TYPE_CHECKING:
    from fastcls.evaluation.cross_validation import CrossValidation
    from fastcls.training.cross_validator import Folding

logger = logging.getLogger(__name__)
# Of what a classifier says of itself, what was asked for, or decided in place of it.
_FOLLOWING = ("scipy.optimize", "matplotlib.figure", "matplotlib.backends.backend_agg")
_DECIDED = ("head", "training", "views", "start", "finetuning", "pixels")


def run(
    dataset: Dataset | PathLike,
    cut: CutSpec | PathLike,
    out: PathLike,
    *,
    head: HeadSpec | str | None = None,
    config: TrainConfig | None = None,
    quality: str = "fast",
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
        dataset: The images, or their path as `Dataset.open` takes it.
        cut: Base and cut; the name of a base alone stands for its pooled output before the classifier.
        out: The run folder.
        head: The head to train, or the name of its kind; `auto` by default.
        config: How to train it.
        quality: "fast" or "best": see `QualitySpec`. Options that are not at their defaults override it.
        cache_root: Folder of bottleneck caches, or its URL.
        test: See `plan_run`, as for all that follow.
        views: Augmented views.
        name: What the data set is called in the cache.
        extraction: How the extraction runs.
        restart: Begin again where a training was interrupted.
        progress: Show bars on stderr.

    Raises:
        FastclsError: See `plan_run` for what is refused before the first image.
    """
    cut, views, head, config = with_quality(
        quality,
        as_spec(CutSpec, cut, "cut", named=True),
        as_spec(ViewSpec, views, "views"),
        HeadSpec() if head is None else as_spec(HeadSpec, head, "head", named=True),
        as_spec(TrainConfig, config, "config"),
    )
    dataset, root = Dataset.of(dataset), mirror.opened(cache_root, "cache_root")
    extraction = as_spec(ExtractConfig, extraction, "extraction")
    with early_executor(dataset, [cut], root, extraction, views, name) as executor:
        plan = plan_run(
            *(dataset, cut, head, config, as_path(out, "out")),
            cache_root=root,
            test=test,
            views=views,
            name=name,
            extraction=extraction,
            restart=restart,
        )
        return run_planned(plan, executor=executor, progress=progress)


@dataclass(frozen=True)
class RunResult:
    """What each stage of `run` made; `test` is None where there is no test part."""

    cache: Cache
    extraction: Extraction
    classifier: Classifier
    trained: TrainedHead
    test: Tested | None


def run_planned(
    plan: RunPlan,
    *,
    executor: Executor | None = None,
    on_extracted: Callable[[Cache, Extraction], None] = lambda cache, extracted: None,
    on_trained: Callable[[TrainedHead], None] = lambda trained: None,
    progress: bool = False,
) -> RunResult:
    """Do what `plan_run` has planned.

    Args:
        plan: The job.
        executor: See `extract_planned`.
        on_extracted: Gets the cache and the figures of the extraction when it has ended.
        on_trained: Gets the head when the training has ended.
        progress: Show bars on stderr.
    """
    with runs.in_the_making(plan.out, plan.asked, has_checkpoint, restart=plan.restart) as folder:
        ((cache, extracted),) = extract_planned(
            plan.extraction, executor=executor, progress=progress, meanwhile=_begin_ahead
        )
        wait_for_ahead()
        on_extracted(cache, extracted)
        checked_files.require_whole(cache.trunk_path)  # before the training, which does without it
        training = prepare_training(cache, plan.head, plan.config)
        classifier, trained = _train(training, folder, plan, progress=progress)
    on_trained(trained)
    tested = None
    if not plan.parts.untested:
        tested = run_test(
            plan.out,
            plan.parts.dataset,
            classifier=classifier,
            max_pixels=plan.extraction.config.max_pixels,
            features=FeaturesSpec(cache=mirror.place_of(cache.folder)),
            progress=progress,
        )
    return RunResult(cache, extracted, classifier, trained, tested)


def _begin_ahead(cache: Cache) -> None:
    """While workers forward images, import and load what follows."""

    def load() -> None:
        checked_files.load_ahead(cache.trunk_path)
        for module in _FOLLOWING:
            importlib.import_module(module)

    import_ahead(then=load)


def train_planned(
    plan: TrainingPlan,
    *,
    on_validated: Callable[[CrossValidation], None] = lambda found: None,
    progress: bool = False,
) -> tuple[Classifier, TrainedHead]:
    """Train a head and write a run folder: classifier, head, history, curves, logs, configuration.

    `on_validated` gets the cross-validation when it has ended, if one is asked for.

    Until it is complete it is made in `OUT.unfinished`, with checkpoints: if the training is interrupted,
    the same plan goes on from there.
    """
    with runs.in_the_making(plan.out, plan.asked, has_checkpoint, restart=plan.restart) as folder:
        if plan.folding and not runs.is_complete(folder):
            announce("Cross-validation")
            found = _cross_validate(plan.folding, progress=progress)
            found.write(folder)
            on_validated(found)
            announce("Training of the classifier itself")
        return _train(plan.training, folder, plan, progress=progress)


def _cross_validate(folding: Folding, *, progress: bool) -> CrossValidation:
    """Cross-validate while Keras is imported, which the classifier is stitched by in the end."""
    from fastcls.evaluation.cross_validation import judge_folds  # SciPy takes a moment
    from fastcls.training.cross_validator import validate_folds

    if folding.training.spec.is_fitted:
        _begin_ahead(folding.training.cache)
    predictions = validate_folds(folding, progress=progress)
    wait_for_ahead()
    return judge_folds(folding, predictions)


def _train(
    training: HeadTraining,
    folder: Path,
    plan: RunPlan | TrainingPlan,
    *,
    progress: bool = False,
) -> tuple[Classifier, TrainedHead]:
    """Train a head in a folder, unless the same one is there."""
    deciding = decided_by(training)
    if runs.is_complete(folder):
        _go_on_with(folder, deciding)
        trained = replace(load_head(folder), history=Run.open(folder).history())
        # A copy has the model in memory: the folder may be moved to its place before it is used.
        return replace(Classifier.load(folder)), trained
    write_images(folder / runs.IMAGES, training.used.images, training.chosen.task)
    trained = train_prepared(training, folder, progress=progress)
    classifier = Classifier.join(training.cache, trained)
    trained.model.save(folder / runs.HEAD)
    _complete(folder, classifier, trained, plan, deciding, training.used, cache=training.cache.folder)
    return classifier, trained


def finetune_planned(plan: FinetuningPlan, *, progress: bool = False) -> FinetunedNetwork:
    """Train a network on images and write a run folder, as `train_planned` does, but for head.keras."""
    with runs.in_the_making(plan.out, plan.asked, has_checkpoint, restart=plan.restart) as folder:
        training = plan.training or _prepare_finetuning(plan)
        if runs.is_complete(folder):
            _go_on_with(folder, training.identity)
            return _load_finetuned(folder, training)
        write_images(folder / runs.IMAGES, training.used.images, plan.dataset.task)
        trained = finetune_prepared(training, folder, progress=progress)
        classifier = _finetuned_classifier(plan, trained)
        _complete(folder, classifier, trained, plan, training.identity, training.used)
    return trained


def _prepare_finetuning(plan: FinetuningPlan) -> Finetuning:
    return prepare_finetuning(
        *(plan.dataset, plan.begun, plan.spec, plan.config),
        head=plan.head,
        max_pixels=plan.max_pixels,
        networks=plan.networks if plan.networks.is_whole else None,
        is_warned=True,
    )


def _finetuned_classifier(plan: FinetuningPlan, trained: FinetunedNetwork) -> Classifier:
    begun, classifier = plan.begun, trained.classifier
    start = asdict(begun) if isinstance(begun, BaseSpec) else begun.provenance
    made_of = {"start": start, "weights_license": weights_license({"start": start})}
    provenance = {**made_of, "finetuning": asdict(plan.spec), **classifier.provenance}
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
        training.used,
        classifier.provenance.get("pruned", {}),
    )


# The parts of a run


def _complete(
    folder: Path,
    classifier: Classifier,
    trained: TrainedHead | FinetunedNetwork,
    plan: RunPlan | TrainingPlan | FinetuningPlan,
    deciding: Mapping[str, Any],
    used: UsedImages,
    *,
    cache: Path | None = None,
) -> None:
    """Write what is left to write of a run, run.json last.

    Args:
        folder: The run.
        classifier: Its classifier.
        trained: Its result.
        plan: What was asked for.
        deciding: What decided the result.
        used: The images that have a part in it.
        cache: The cache of a head.
    """
    classifier.save(folder / runs.CLASSIFIER)
    runs.write_history(folder, trained.history)
    if any("loss" in row or "val_loss" in row for row in trained.history):
        draw_history(list(trained.history), folder / runs.CURVES, trained.best)
    told = classifier.described
    decided = {name: told.pop(name) for name in _DECIDED if name in told}
    asked = {**(plan.options or {}), **plan.asked}
    record = {"asked": asked, "decided_by": beyond({**decided, **deciding}, asked)}
    images = {**used.counts, "complete": used.is_complete}
    places = {"cache_folders": runs.seen_from(folder, cache)} if cache else {}
    runs.write_record(folder, {**told, **record, **places, "images": images})
    forget_checkpoints(folder)  # after that: a complete training needs none to go on from


def _go_on_with(folder: Path, deciding: Mapping[str, Any]) -> None:
    """Take up a complete training, if it is the one that is asked for."""
    runs.require_same(folder, Run.open(folder).resolved, deciding)
    forget_checkpoints(folder)
    logger.warning("The training in %s is already complete: nothing is trained again", folder)

"""The reading path: from a folder of images to an evaluated classifier."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import fastcls
from fastcls import files, runs
from fastcls.cache import record
from fastcls.cache.samples import SampleRow
from fastcls.cache.store import Cache
from fastcls.data.dataset import Dataset
from fastcls.data.splitter import split
from fastcls.errors import OptionError
from fastcls.evaluation.pictures import draw_history
from fastcls.evaluation.tester import Tested, run_test
from fastcls.extraction.extractor import Extraction, extract
from fastcls.inference.classifier import Classifier
from fastcls.inference.stitcher import stitch
from fastcls.runs import Run, UsedImage
from fastcls.specs import (
    BaseSpec,
    CutSpec,
    ExtractConfig,
    FinetuneSpec,
    HeadSpec,
    SplitSpec,
    TrainConfig,
    ViewSpec,
    check_cut,
    check_effect,
    check_labels,
)
from fastcls.training.finetuner import (
    FinetunedNetwork,
    Finetuning,
    finetune_prepared,
    prepare_finetuning,
)
from fastcls.training.head_reader import load_head
from fastcls.training.head_trainer import HeadTraining, TrainedHead, prepare_training, train_prepared
from fastcls.training.loop.checkpoints import forget_checkpoints, has_checkpoint

logger = logging.getLogger(__name__)


def run(
    dataset: Dataset,
    cut: CutSpec,
    head: HeadSpec,
    config: TrainConfig,
    out: Path,
    *,
    cache_root: Path,
    splits: SplitSpec | None = None,
    views: ViewSpec | None = None,
    name: str | None = None,
    extraction: ExtractConfig | None = None,
    request: Mapping[str, Any] | None = None,
    restart: bool = False,
    progress: bool = False,
) -> RunResult:
    """Data set in, tested classifier out.

    Args:
        dataset: The images. A data set that is split already keeps its splits.
        cut: Base and cut.
        head: The head to train.
        config: How to train it.
        out: The run folder; one that is there must be of the same request, and is tested.
        cache_root: Folder of bottleneck caches.
        splits: How to divide the images of each class; only for a data set that is not split.
        views: Augmented views to make of each image to train on; all are trained on.
        name: What the data set is called in the cache, which may serve several; its own name by default.
        extraction: How the extraction runs.
        request: What else run.json is to hold of the request.
        restart: Begin again where a training was interrupted.
        progress: Show bars on stderr.

    Raises:
        OptionError: `out` holds something else, there is to be no test part, `splits` is given for split
            data, or an option has no effect on the head.
    """
    check_effect(head, config)
    check_labels(head, config, multi_label=dataset.multi_label)
    check_cut(head, cut)
    asked = {
        "command": "run",
        "data": _table_digest(dataset),
        "cut": asdict(cut),
        "head": asdict(head),
        "training": asdict(config),
        "splits": asdict(splits) if splits else None,
        "views": asdict(views) if views else None,
    }
    with runs.in_the_making(out, asked, has_checkpoint, restart=restart) as folder:
        dataset, config = divide(dataset, splits, config)
        cache, extracted = extract(
            dataset, cut, cache_root, extraction, views=views, name=name, progress=progress
        )
        known = {"asked": asked, "request": request}
        classifier, trained = _train(cache, head, config, folder, known, progress=progress)
    most = (extraction or ExtractConfig()).max_pixels
    tested = run_test(out, dataset, classifier=classifier, max_pixels=most, progress=progress)
    return RunResult(cache, extracted, classifier, trained, tested)


@dataclass(frozen=True)
class RunResult:
    """What each stage of `run` made."""

    cache: Cache
    extraction: Extraction
    classifier: Classifier
    trained: TrainedHead
    test: Tested


def divide(dataset: Dataset, splits: SplitSpec | None, config: TrainConfig) -> tuple[Dataset, TrainConfig]:
    """The data set with its parts, and the configuration that fits them.

    Raises:
        OptionError: There is to be no test part, or `splits` is given for split data.
    """
    if dataset.splits and splits:
        raise OptionError(
            f"{dataset.root} is split already and keeps its parts. Leave out --val and --test, or name "
            "images that are not split"
        )
    if dataset.splits:
        return dataset, config
    spec = splits or SplitSpec()
    if not spec.test:
        raise OptionError("`run` tests the classifier: it needs a test part. Give --test more than 0")
    return split(dataset, spec), config if spec.val else replace(config, val=0.0)


def train_run(
    cache: Cache,
    head: HeadSpec | None,
    config: TrainConfig,
    out: Path,
    *,
    start: Path | None = None,
    request: Mapping[str, Any] | None = None,
    restart: bool = False,
    progress: bool = False,
) -> tuple[Classifier, TrainedHead]:
    """Train a head and write a run folder: classifier, head, history, curves, logs, configuration.

    Until it is complete it is made in `OUT.unfinished`, with checkpoints: if the training is interrupted,
    the same call goes on from there.

    Args:
        cache: The bottlenecks, and the data set that is trained on.
        head: What to train; None for a softmax layer, or the head of `start`.
        config: How to train it.
        out: The run folder; it appears whole. One of the same request that is complete stays as it is.
        start: Run folder, or kept checkpoint of one, whose head is trained further.
        request: What else run.json is to hold of the request.
        restart: Begin again where a training was interrupted.
        progress: Show a bar on stderr.

    Raises:
        OptionError: `out` holds something else, or another request was interrupted there.
        CacheError: The cache is partial, stale or damaged.
    """
    asked = {
        "command": "train-head",
        "cache": cache.manifest.fingerprint,
        "head": asdict(head) if head else None,
        "training": asdict(config),
        "goes_on": start is not None,
    }
    with runs.in_the_making(out, asked, has_checkpoint, restart=restart) as folder:
        known = {"asked": asked, "request": request}
        return _train(cache, head, config, folder, known, start=start, progress=progress)


def _train(
    cache: Cache,
    head: HeadSpec | None,
    config: TrainConfig,
    folder: Path,
    known: Mapping[str, Any],
    *,
    start: Path | None = None,
    progress: bool = False,
) -> tuple[Classifier, TrainedHead]:
    """Train a head in a folder, unless the same one is there."""
    record.require_whole(cache.trunk_path)  # before the training, which does without it
    training = prepare_training(cache, head, config, start=load_head(start) if start else None)
    decided_by = _decided_by(training)
    if runs.is_complete(folder):
        _go_on_with(folder, decided_by)
        trained = replace(load_head(folder), history=Run.open(folder).history())
        return Classifier.load(folder), trained
    images = _write_images(folder, training.chosen.images, start, multi_label=training.chosen.multi_label)
    trained = train_prepared(training, folder, progress=progress)
    classifier = stitch_classifier(cache, trained)
    trained.model.save(folder / runs.HEAD)
    _complete(folder, classifier, trained, {**known, "decided_by": decided_by, "images": images})
    return classifier, trained


def stitch_classifier(cache: Cache, trained: TrainedHead) -> Classifier:
    """Join a trained head to the trunk of its cache, with all that is known of both."""
    trunk = record.load_model(cache.trunk_path)
    manifest = {**asdict(cache.manifest), "views": asdict(cache.listing.report().views)}
    del manifest["requests"]
    provenance = {
        "fastcls": fastcls.__version__,
        "cache": manifest,
        "head": asdict(trained.spec),
        "training": asdict(trained.config),
        "figures": trained.best,
        "train_count": trained.train_count,
        "val_count": trained.val_count,
    }
    model = stitch(trunk, trained.model)
    return Classifier(model, trained.class_names, cache.manifest.pixels, provenance, trained.thresholds)


def finetune_run(
    dataset: Dataset,
    start: BaseSpec | Path,
    spec: FinetuneSpec,
    config: TrainConfig,
    out: Path,
    *,
    head: HeadSpec | None = None,
    max_pixels: int | None = None,
    request: Mapping[str, Any] | None = None,
    restart: bool = False,
    progress: bool = False,
) -> FinetunedNetwork:
    """Train a network on images and write a run folder, as `train_run` does, but for a head of its own.

    Args:
        dataset: The images.
        start: A base, or a run folder whose classifier is trained further.
        spec: What of it is trained, and how images come.
        config: How it is trained.
        out: The run folder; it appears whole. One of the same request that is complete stays as it is.
        head: What to put on a base; a softmax layer by default.
        max_pixels: See `finetune`.
        request: What else run.json is to hold of the request.
        restart: Begin again where a training was interrupted.
        progress: Show a bar on stderr.

    Raises:
        OptionError: `out` holds something else, or another request was interrupted there.
    """
    asked = {
        "command": "finetune",
        "data": _table_digest(dataset),
        "start": None if isinstance(start, Path) else asdict(start),
        "head": asdict(head) if head else None,
        "finetuning": asdict(spec),
        "training": asdict(config),
    }
    with runs.in_the_making(out, asked, has_checkpoint, restart=restart) as folder:
        begun = Classifier.load(start) if isinstance(start, Path) else start
        training = prepare_finetuning(dataset, begun, spec, config, head=head, max_pixels=max_pixels)
        if runs.is_complete(folder):
            _go_on_with(folder, training.request)
            return _load_finetuned(folder, training)
        earlier = start if isinstance(start, Path) else None
        images = _write_images(folder, training.used, earlier, multi_label=dataset.multi_label)
        trained = finetune_prepared(training, folder, progress=progress)
        provenance = {
            "fastcls": fastcls.__version__,
            "start": asdict(begun) if isinstance(begun, BaseSpec) else begun.provenance,
            "finetuning": asdict(spec),
            "training": asdict(config),
            "figures": trained.best,
            "train_count": trained.train_count,
            "val_count": trained.val_count,
        }
        classifier = Classifier(
            trained.model, trained.class_names, trained.pixels, provenance, trained.thresholds
        )
        known = {"asked": asked, "request": request, "decided_by": training.request, "images": images}
        _complete(folder, classifier, trained, known)
    return trained


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
    )


# The parts of a run


def _table_digest(dataset: Dataset) -> str:
    """What a data set says of its images, but not of their bytes."""
    rows = [(s.path, dataset.names_of(s), s.split, s.group) for s in dataset.samples]
    return files.json_digest(rows)


def _decided_by(training: HeadTraining) -> dict[str, Any]:
    """What decides a head: images and cache, but not the places of the rows, which a new cache changes."""
    images = training.chosen.images
    used = {use: [(row.digest, row.labels) for row in images[use]] for use in images}
    places = {"train_rows", "val_rows"}
    own = {name: value for name, value in training.request.items() if name not in places}
    return {**own, "images": files.json_digest(used)}


def _write_images(
    folder: Path, used: Mapping[str, Sequence[SampleRow]], start: Path | None, *, multi_label: bool
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
    runs.write_images(folder, [*own, *earlier], multi_label=multi_label)
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
    _write_history(trained.history, trained.best, folder)
    told, known = {**classifier.described}, {**known}
    for name in ("head", "training", "finetuning"):  # it is in `decided_by`
        told.pop(name, None)
    known["asked"] = {**(known.pop("request") or {}), **known["asked"]}
    runs.write_record(folder, {**told, **known})
    forget_checkpoints(folder)  # after that: a complete training needs none to go on from


def _go_on_with(folder: Path, request: Mapping[str, Any]) -> None:
    """Take up a complete training, if it is the one that is asked for."""
    runs.require_same(folder, "decided_by", request)
    forget_checkpoints(folder)
    logger.warning("The training of this request is complete in %s: nothing is trained again", folder)


def _write_history(history: Iterable[Mapping[str, float]], best: Mapping[str, float], folder: Path) -> None:
    rows = list(history)
    columns = list(rows[0])
    with files.atomic_path(folder / runs.HISTORY) as path, path.open("w", **files.CSV_TEXT) as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    if {"loss", "val_loss"} & set(columns):  # neighbors without validation have no figures
        draw_history(rows, folder / runs.CURVES, best)

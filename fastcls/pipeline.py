"""The reading path: from a folder of images to an evaluated classifier."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import fastcls
from fastcls import files
from fastcls.backend import import_keras, reproducible_build
from fastcls.cache.store import Cache
from fastcls.data.dataset import Dataset
from fastcls.data.splitter import split
from fastcls.errors import DataError, OptionError
from fastcls.evaluation.evaluator import (
    MultiLabelPrediction,
    Prediction,
    write_evaluation,
    write_multi_label_evaluation,
)
from fastcls.evaluation.metrics import Evaluation, evaluate
from fastcls.evaluation.multilabel import MultiLabelEvaluation, evaluate_multi_label
from fastcls.evaluation.pictures import draw_history
from fastcls.extraction.extractor import Extraction, extract
from fastcls.inference.classifier import FILE_NAME, Classifier, ImageResult
from fastcls.inference.stitcher import stitch
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
    specs_of_run,
)
from fastcls.training.checkpoints import forget_checkpoints, has_checkpoint
from fastcls.training.finetuner import FinetunedNetwork, finetune
from fastcls.training.snapshots import Snapshot
from fastcls.training.thresholds import DEFAULT
from fastcls.training.trainer import TrainedHead, train_head


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
        out: The run folder; it must not exist.
        cache_root: Folder of bottleneck caches.
        splits: How to divide the images of each class; only for a data set that is not split.
        views: Augmented views to make of each image to train on; all are trained on.
        extraction: How the extraction runs.
        request: What else run.json is to hold of the request.
        restart: Begin again where a training was interrupted.
        progress: Show bars on stderr.

    Raises:
        OptionError: `out` exists, there is to be no test part, `splits` is given for split data, or an
            option has no effect on the head.
    """
    require_new(out)
    check_effect(head, config)
    check_labels(head, config, multi_label=dataset.multi_label)
    check_cut(head, cut)
    dataset, config = divide(dataset, splits, config)
    cache, extracted = extract(dataset, cut, cache_root, extraction, views=views, progress=progress)
    classifier, trained = train_run(
        cache, head, config, out, request=request, restart=restart, progress=progress
    )
    tested = run_test(
        classifier,
        dataset,
        out / "test",
        max_pixels=(extraction or ExtractConfig()).max_pixels,
        progress=progress,
    )
    return RunResult(cache, extracted, classifier, trained, tested)


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
        cache: The bottlenecks.
        head: What to train; None for a softmax layer, or the head of `start`.
        config: How to train it.
        out: The run folder; it appears whole, and must not exist.
        start: Run folder, or kept checkpoint of one, whose head is trained further.
        request: What else run.json is to hold of the request.
        restart: Begin again where a training was interrupted.
        progress: Show a bar on stderr.

    Raises:
        OptionError: `out` exists, or another request was interrupted there.
    """
    require_new(out)
    with files.resumable_folder(out, has_checkpoint, restart=restart) as folder:
        earlier = load_head(start) if start else None
        trained = train_head(cache, head, config, start=earlier, folder=folder, progress=progress)
        classifier = stitch_classifier(cache, trained)
        trained.model.save(folder / "head.keras")
        _write_run(folder, classifier, request)
        _write_history(trained, folder)
    forget_checkpoints(out)
    return classifier, trained


def stitch_classifier(cache: Cache, trained: TrainedHead) -> Classifier:
    """Join a trained head to the trunk of its cache, with all that is known of both."""
    import keras

    trunk = keras.saving.load_model(cache.trunk_path, compile=False)
    manifest = asdict(cache.manifest)
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
        out: The run folder; it appears whole, and must not exist.
        head: What to put on a base; a softmax layer by default.
        max_pixels: See `finetune`.
        request: What else run.json is to hold of the request.
        restart: Begin again where a training was interrupted.
        progress: Show a bar on stderr.

    Raises:
        OptionError: `out` exists, or another request was interrupted there.
    """
    require_new(out)
    with files.resumable_folder(out, has_checkpoint, restart=restart) as folder:
        begun = Classifier.load(start) if isinstance(start, Path) else start
        trained = finetune(
            dataset,
            begun,
            spec,
            config,
            head=head,
            folder=folder,
            max_pixels=max_pixels,
            progress=progress,
        )
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
        _write_run(folder, classifier, request)
        _write_history(trained, folder)
    forget_checkpoints(out)
    return trained


def load_head(run: Path) -> TrainedHead:
    """The trained head of a run folder, or of a checkpoint that was kept in one.

    Raises:
        OptionError: It is neither.
    """
    file, known = (run, _read_checkpoint(run)) if run.is_file() else (run / "head.keras", _read_run(run))
    keras = import_keras()
    with reproducible_build():  # a file has no seeds of its dropouts
        model = keras.saving.load_model(file, compile=False)
    spec, config = specs_of_run(known)
    figures = (known["figures"], known["train_count"], known["val_count"])
    thresholds = tuple(known["thresholds"]) if known.get("thresholds") else None
    return TrainedHead(model, spec, config, tuple(known["class_names"]), (), *figures, thresholds)


def _read_run(run: Path) -> dict[str, Any]:
    if not (run / "run.json").is_file() or not (run / "head.keras").is_file():
        raise OptionError(f"{run} is not a run folder made by `fastcls train-head`")
    return dict(files.read_json(run / "run.json"))


def _read_checkpoint(path: Path) -> dict[str, Any]:
    state = Snapshot.read(path).state
    if "head" not in state:
        raise OptionError(f"{path} is a checkpoint of a whole network, not of a head on bottlenecks")
    thresholds = [DEFAULT] * len(state["class_names"]) if state.get("multi_label") else None
    state["thresholds"] = thresholds  # they are chosen for the finished head alone
    return {**state, "training": state["request"]["training"], "figures": state["history"][-1]}


@dataclass(frozen=True)
class RunResult:
    """What each stage of `run` made."""

    cache: Cache
    extraction: Extraction
    classifier: Classifier
    trained: TrainedHead
    test: Tested


@dataclass(frozen=True)
class Tested:
    """A classifier's results on images of known class.

    Attributes:
        evaluation: The figures.
        predictions: One per readable image.
        unreadable: The others, with the reason.
    """

    evaluation: Evaluation | MultiLabelEvaluation
    predictions: tuple[Prediction, ...] | tuple[MultiLabelPrediction, ...]
    unreadable: tuple[ImageResult, ...]


def run_test(
    classifier: Classifier,
    dataset: Dataset,
    out: Path,
    *,
    batch_size: int = 16,
    max_pixels: int | None = None,
    progress: bool = False,
) -> Tested:
    """Classify the images of a data set (its test part, if it is split), and write tables and a picture.

    Args:
        classifier: What to test.
        dataset: Images of classes that the classifier knows.
        out: Folder for metrics.json, per_class.csv, confusion.png, predictions.csv and, with one label per
            image, confusion.csv.
        batch_size: Images per forward pass.
        max_pixels: See `Classifier.predict`.
        progress: Show a bar on stderr.

    Raises:
        DataError: A class is unknown to the classifier, the images have one label each and the classifier
            gives several (or the other way round), or no image could be read.
    """
    tested = dataset.subset("test") if dataset.splits else dataset
    if not tested.samples:
        raise DataError(
            f"{dataset.root} has no test part. Name the folder of images to test on, or split again"
        )
    _require_fitting(tested, classifier)
    paths = [tested.locate(sample) for sample in tested.samples]
    stream = classifier.predict(paths, batch_size=batch_size, max_pixels=max_pixels)
    results = list(tqdm(stream, total=len(paths), unit="image", desc="test", disable=not progress))
    readable = [(s, r) for s, r in zip(tested.samples, results, strict=True) if r.probabilities is not None]
    if not readable:
        raise DataError(f"Not one of {len(results)} test images of {dataset.root} could be read")
    known = [(sample.path, tested.names_of(sample)) for sample, _ in readable]
    probabilities = np.stack([result.probabilities for _, result in readable])
    judge = _judge_labels if classifier.multi_label else _judge_label
    evaluation, predictions = judge(classifier, known, probabilities, out)
    return Tested(evaluation, predictions, tuple(r for r in results if r.probabilities is None))


# The path of each image and the names of its classes.
_Known = list[tuple[str, tuple[str, ...]]]


def _judge_label(
    classifier: Classifier, known: _Known, probabilities: np.ndarray, out: Path
) -> tuple[Evaluation, tuple[Prediction, ...]]:
    class_names = classifier.class_names
    labels = np.array([class_names.index(name) for _, (name,) in known])
    evaluation = evaluate(labels, probabilities, class_names)
    predictions = tuple(
        Prediction(path, name, class_names[row.argmax()], float(row.max()))
        for (path, (name,)), row in zip(known, probabilities, strict=True)
    )
    write_evaluation(evaluation, predictions, out)
    return evaluation, predictions


def _judge_labels(
    classifier: Classifier, known: _Known, probabilities: np.ndarray, out: Path
) -> tuple[MultiLabelEvaluation, tuple[MultiLabelPrediction, ...]]:
    class_names, thresholds = classifier.class_names, classifier.thresholds or ()
    targets = np.array([[name in names for name in class_names] for _, names in known], np.int64)
    evaluation = evaluate_multi_label(targets, probabilities, thresholds, class_names)
    predictions = tuple(
        MultiLabelPrediction(path, names, classifier.name_classes(row), tuple(row.tolist()))
        for (path, names), row in zip(known, probabilities, strict=True)
    )
    write_multi_label_evaluation(evaluation, predictions, out)
    return evaluation, predictions


def require_new(out: Path) -> None:
    """Refuse to write a run over something that exists.

    Raises:
        OptionError: The path exists and is not an empty folder.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise OptionError(f"{out} exists already. Choose another --out, or remove it first")


def _write_run(folder: Path, classifier: Classifier, request: Mapping[str, Any] | None) -> None:
    classifier.save(folder / FILE_NAME)
    known = classifier.described
    files.write_json(folder / "run.json", {**known, "request": request} if request else known)


def _write_history(trained: TrainedHead | FinetunedNetwork, folder: Path) -> None:
    columns = list(trained.history[0])
    with (folder / "history.csv").open("w", **files.CSV_TEXT) as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(trained.history)
    if {"loss", "val_loss"} & set(columns):  # neighbors without validation have no figures
        draw_history(trained.history, folder / "curves.png", trained.best)


def _require_fitting(dataset: Dataset, classifier: Classifier) -> None:
    if classifier.multi_label != dataset.multi_label:
        kinds = ("one label", "several labels")
        raise DataError(
            f"The classifier gives {kinds[classifier.multi_label]} per image, {dataset.root} has "
            f"{kinds[dataset.multi_label]}. A CSV has several with --label-separator, or with a column of 0 "
            "and 1 per class"
        )
    # Not of all `class_names`: a table may have columns of classes that no image has.
    unknown = sorted(set(dataset.found_classes) - set(classifier.class_names))
    if unknown:
        raise DataError(
            f"The classifier does not know the classes {', '.join(unknown)} of {dataset.root}. It knows: "
            f"{', '.join(classifier.class_names)}"
        )

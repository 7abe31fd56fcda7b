"""Read a trained head back, from a run or from a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, TypedDict

from fastcls import runs
from fastcls.backend import import_keras, reproducible_build
from fastcls.errors import OptionError
from fastcls.records import FILLED, Count, made
from fastcls.runs import Run
from fastcls.specs import HeadSpec, TrainConfig, ViewSpec
from fastcls.tasks import task_named
from fastcls.training.head_trainer import TrainedHead
from fastcls.training.loop.snapshots import Snapshot
from fastcls.used_images import UNKNOWN
from fastcls.wording import count_of


class _State(TypedDict):
    """What a checkpoint of a head says of it."""

    class_names: list[str]
    task: str
    head: dict[str, Any]
    training: dict[str, Any]
    views: dict[str, Any]
    history: Annotated[list[dict[str, float]], FILLED]
    train_count: Count
    val_count: Count


def load_head(place: Path) -> TrainedHead:
    """The trained head of a run folder, or of a checkpoint that was kept in one.

    Raises:
        OptionError: It is neither, or damaged.
    """
    if place.is_file():
        file, known, run = place, _read_checkpoint(place), Run.of(place)
    else:
        run = _open_run(place)
        file, known = run.file(runs.HEAD), _read_run(run)
    keras, class_names = import_keras(), tuple(known["class_names"])
    try:
        with reproducible_build():  # a file has no seeds of its dropouts
            model = keras.saving.load_model(file, compile=False)
        outputs = int(model.outputs[0].shape[-1])
    except Exception as error:  # Keras fails on a damaged file anywhere
        raise OptionError(f"{file} is damaged: {type(error).__name__}: {error}") from error
    if outputs != len(class_names):
        teller = run.folder / runs.RECORD if run else file
        raise OptionError(
            f"{teller} is damaged: it names {count_of(len(class_names), 'class')}, and {file} has "
            f"{count_of(outputs, 'output')}. Train again"
        )
    thresholds = tuple(known["thresholds"]) if known["thresholds"] else None
    return TrainedHead(
        *(model, known["head"], known["training"], class_names, ()),
        *(known["figures"], known["train_count"], known["val_count"], thresholds, task_named(known["task"])),
        used=run.used if run else UNKNOWN,
        views=known["views"],
    )


def head_spec(run: Run) -> HeadSpec:
    """What the head of a run is made of."""
    return run.spec("head", _head)


def train_config(run: Run) -> TrainConfig:
    """How the head or network of a run was trained."""
    return run.spec("training", _training)


def _head(described: Mapping[str, Any]) -> HeadSpec:
    """The head of a description that tells more of it: see `training.identity`."""
    return HeadSpec(
        **{each.name: described[each.name] for each in fields(HeadSpec) if each.name in described}
    )


def _training(described: Mapping[str, Any]) -> TrainConfig:
    return TrainConfig(**described)


def _views(described: Mapping[str, Any]) -> ViewSpec:
    return ViewSpec(**described)


def _read_run(run: Run) -> dict[str, Any]:
    made_of = {"head": head_spec(run), "training": train_config(run), "views": run.spec("views", _views)}
    return {**run.record, **made_of}


def _open_run(folder: Path) -> Run:
    if not (folder / runs.RECORD).is_file() or not (folder / runs.HEAD).is_file():
        raise OptionError(f"{folder} is not a run folder made by `fastcls train-head`")
    return Run.open(folder)


def _read_checkpoint(path: Path) -> dict[str, Any]:
    state = Snapshot.read(path).state
    if "head" not in state["identity"]:
        raise OptionError(f"{path} is a checkpoint of a whole network, not of a head on bottlenecks")
    try:
        known = made(_State, {**state["identity"], **state})
        made_of = {
            "head": _head(known["head"]),
            "training": _training(known["training"]),
            "views": _views(known["views"]),
        }
        # Thresholds are chosen for the finished head alone.
        thresholds = task_named(known["task"]).default_thresholds(len(known["class_names"]))
        return {**known, **made_of, "figures": known["history"][-1], "thresholds": thresholds}
    except (LookupError, TypeError, ValueError) as error:
        raise OptionError(f"{path} is damaged: its state: {error}") from error

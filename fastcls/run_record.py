"""What run.json holds, and what travels with a model as fastcls.json, as far as anything reads it."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

from fastcls import files
from fastcls.cache.manifest import Manifest
from fastcls.records import FILLED, Count, Filled, Part, Rule, Share, made, one_of
from fastcls.specs import PixelRule
from fastcls.tasks import TASKS

_DISTINCT = Rule("names that differ", lambda names: len({*names}) == len(names))
_IDENTIFIED = Rule("of a fingerprint", lambda cache: "fingerprint" in cache)
_Object = dict[str, Any]


class _Data(TypedDict, total=False):
    name: str
    images: Count
    digest: str


class Asked(TypedDict, total=False):
    """What was asked for: options by spec, which are read where they are used, and what they were of."""

    command: str
    data: Annotated[_Object, Part(_Data)] | str | None  # as text of earlier versions
    typed: list[str]
    goes_on: bool
    cut: _Object | None
    views: _Object | None
    start: _Object | None
    head: _Object | None
    finetuning: _Object | None
    training: _Object | None
    splits: _Object | None
    folds: _Object | None


class _Decided(Asked, total=False):
    """What was decided in its place and beyond it; names of facts have digests."""

    cache: Filled
    images: Filled
    classes: Filled
    pixels: Annotated[_Object, Part(PixelRule)]


class _Images(TypedDict, total=False):
    train: Count
    val: Count
    refit: Count
    earlier: Count
    complete: bool


class _Whole(TypedDict):
    """What runs of all commands have."""

    class_names: Annotated[list[str], FILLED, _DISTINCT]
    task: Annotated[str, one_of(TASKS)]
    asked: Annotated[_Object, Part(Asked)]
    decided_by: Annotated[_Object, Part(_Decided)]
    files: Annotated[dict[str, Filled], FILLED]
    images: _Images
    thresholds: list[Share] | None
    figures: dict[str, float]
    train_count: Count
    val_count: Count


class RunRecord(_Whole, total=False):
    """What run.json holds."""

    cache: Annotated[_Object, Part(Manifest), _IDENTIFIED]
    cache_folders: list[Filled]
    familiarity: dict[str, Count] | None
    calibration: _Object
    fastcls: str


class _Head(TypedDict):
    kind: str


class _Export(TypedDict, total=False):
    model: str
    precision: str


class _Named(TypedDict):
    class_names: Annotated[list[str], FILLED, _DISTINCT]


class Described(_Named, total=False):
    """What travels with a model. Its task and pixels are checked where they are read."""

    thresholds: list[Share] | None
    cache: Annotated[_Object, Part(Manifest), _IDENTIFIED]
    start: _Object
    head: _Head | None
    pruned: _Object
    weights_license: str
    export: _Export


class _Request(TypedDict, total=False):
    asked: Asked


def read_asked(values: Any) -> Asked | None:
    """What was asked for, of a record of which nothing else is read; None where it does not say.

    Raises:
        ValueError: It is something else; the message is a fact.
    """
    return made(_Request, values).get("asked")


def read_described(values: Any) -> dict[str, Any]:
    """What travels with a model.

    Raises:
        ValueError: It is something else; the message is a fact.
    """
    known: Any = made(Described, values)
    found: dict[str, Any] = known
    return found


def read(values: Any) -> RunRecord:
    """The record that is meant by decoded JSON.

    Raises:
        ValueError: It is none, or its members do not fit each other; the message is a fact.
    """
    record = made(RunRecord, values)
    names, thresholds = record["class_names"], record["thresholds"]
    if record["decided_by"].get("classes", files.json_digest(names)) != files.json_digest(names):
        raise ValueError("its class_names are not those that it was trained on")
    if thresholds is not None and len(thresholds) != len(names):
        raise ValueError(f"its thresholds are {len(thresholds)}, and should be {len(names)}, one per class")
    return record

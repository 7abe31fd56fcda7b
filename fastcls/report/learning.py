"""The learning curve that `fastcls curve` has written, as a report shows it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from fastcls import files
from fastcls.errors import OptionError
from fastcls.records import Count, Share, made
from fastcls.report.material import Material


class _Point(TypedDict):
    images: Count
    mean: Share


class _Curve(TypedDict):
    """What is read of the numbers of a learning curve: see `fastcls.evaluation.learning_curve`."""

    data: str
    figure: str
    sentence: str
    points: list[_Point]


def read_curve(path: Path, material: Material) -> dict[str, Any]:
    """Read the numbers of a learning curve.

    Args:
        path: The JSON file beside its picture.
        material: What the report is made of.

    Raises:
        OptionError: It cannot be read, is something else, or is of other bottlenecks or images than the run.
    """
    try:
        known = made(_Curve, files.read_json(path))
    except (OSError, ValueError, RecursionError) as error:
        raise OptionError(
            f"{path} is not a learning curve ({error}). Give the .json that `fastcls curve CACHE` writes"
        ) from error
    if differs := _difference(known, material):
        raise OptionError(
            f"{path} is the learning curve of {known['data']!r} with {known.get('images')} images, of "
            f"{differs} than {material.run.folder} was trained on. Make one of its own: fastcls curve CACHE "
            "--name NAME"
        )
    points = [[point["images"], point["mean"]] for point in known["points"]]
    return {"figure": known["figure"], "sentence": known["sentence"], "points": points}


def _difference(known: Mapping[str, Any], material: Material) -> str:
    """How a curve is not of what a run was trained on; "" where nothing tells so."""
    own: dict[str, Any] = {"fingerprint": dict(material.run.record.get("cache") or {}).get("fingerprint")}
    if material.features is not None:
        from fastcls.evaluation.learning_curve import TO_TRAIN

        own = {**material.features.part(*TO_TRAIN).identity, "data": material.features.name}
    told = {"fingerprint": "another cache", "data": "another data set", "images_digest": "other images"}
    return next(
        (told[name] for name in told if name in known and known[name] != own.get(name, known[name])), ""
    )

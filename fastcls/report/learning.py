"""The learning curve that `fastcls curve` has written, as a report shows it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastcls import files
from fastcls.errors import OptionError
from fastcls.report.material import Material


def read_curve(path: Path, material: Material) -> dict[str, Any]:
    """Read the numbers of a learning curve.

    Args:
        path: The JSON file beside its picture.
        material: What the report is made of.

    Raises:
        OptionError: It cannot be read, is something else, or is of other bottlenecks or images than the run.
    """
    try:
        known = files.read_json(path)
        points = [[int(point["images"]), float(point["mean"])] for point in known["points"]]
        shown = {"figure": str(known["figure"]), "sentence": str(known["sentence"]), "points": points}
        name = str(known["data"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise OptionError(
            f"{path} is not a learning curve ({error}). Give the .json that `fastcls curve CACHE` writes"
        ) from error
    if differs := _difference(known, material):
        raise OptionError(
            f"{path} is the learning curve of {name!r} with {known.get('images')} images, of {differs} than "
            f"{material.run.folder} was trained on. Make one of its own: fastcls curve CACHE --name NAME"
        )
    return shown


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

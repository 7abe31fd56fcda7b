"""Where the classifier looks in the images that it mistakes: Grad-CAM, which forwards images again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastcls.errors import DataError
from fastcls.report.material import Material
from fastcls.report.selection import Selection
from fastcls.report.thumbnails import as_text

MOST = 48  # pictures on a page
_SIZE = 224  # pixels of the longer side


def explain_mistakes(material: Material, selection: Selection, count: int) -> list[dict[str, Any]]:
    """Grad-CAM of the most confident mistakes, for the classes that were predicted.

    Args:
        material: What the report is made of.
        selection: The images of the page.
        count: How many to explain; 0 for none, which loads no TensorFlow.

    Returns:
        For each explained class of each image: its place on the page, the picture, the class and its
        confidence. Images that cannot be read have none.

    Raises:
        OptionError: The classifier has no map to explain.
    """
    if material.result is None:
        return []
    correct = material.result.correct
    tested = [page for page, place in enumerate(selection.places) if place < len(correct)]
    pages = [page for page in tested if not correct[selection.places[page]]][:count]
    if not pages:
        return []
    paths = [material.images.files[selection.places[page]] for page in pages]
    return [
        {"image": page, **each}
        for page, found in zip(pages, _explain(material.run.folder, paths), strict=True)
        for each in found
    ]


def _explain(run: Path, paths: list[Path]) -> list[list[dict[str, Any]]]:
    from fastcls.inference.explainer import explain
    from fastcls.inference.overlays import overlay
    from fastcls.specs import DrawSpec

    known = [path for path in paths if path.is_file()]
    draw = DrawSpec(size=_SIZE)
    try:
        explanations = {one.path: one for one in explain(run, known)} if known else {}
    except DataError:
        explanations = {}
    return [
        [
            {"picture": as_text(overlay(one, place, draw)), "class": name, "confidence": round(confidence, 4)}
            for place, (name, confidence) in enumerate(zip(one.class_names, one.confidences, strict=True))
        ]
        if (one := explanations.get(path))
        else []
        for path in paths
    ]

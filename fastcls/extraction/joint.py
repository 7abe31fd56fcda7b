"""Several cuts of one base in one forward pass: a trunk whose rows are those of all cuts, end to end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fastcls import files
from fastcls.cache import checked_files
from fastcls.cache.store import Cache
from fastcls.cutter import Cut, joint_model
from fastcls.engines.tensorflow import Trunk
from fastcls.errors import OptionError
from fastcls.extraction.planner import Requested
from fastcls.specs import CutSpec


def request_all(cuts: Sequence[CutSpec | Cut], root: Path) -> list[Requested]:
    """What asks for several cuts of a base, which is loaded once at most.

    Raises:
        OptionError: The cuts cannot share a forward pass.
    """
    if len(set(cuts)) < len(cuts):
        raise OptionError("A cut is named twice. Name each once")
    if len({(cut.base, cut.precision) for cut in cuts}) > 1:
        raise OptionError("Cuts that share a forward pass are of one base, in one precision")
    if len({cut.full_decode for cut in cuts}) > 1:
        raise OptionError("Cuts that share a forward pass see the same pixels: all with full_decode, or none")
    if len(cuts) > 1 and cuts[0].precision == "int8":
        raise OptionError(
            "int8 is calibrated for each cut by itself: extract one --cut at a time, or choose another "
            "--precision"
        )
    first = Requested(cuts[0], root)
    return [first, *(Requested(cut, root, base_of=first) for cut in cuts[1:])]


def joint_trunk(requests: Sequence[Requested], caches: Sequence[Cache], root: Path) -> Trunk:
    """The trunk of several cuts, kept in a folder beside their caches, which are of one precision.

    The engines convert it as they convert any other. The folder may be removed: it is made anew.

    Args:
        requests: What asked for the caches.
        caches: Those to fill.
        root: Folder of caches.
    """
    path = joint_folder(caches, root) / "trunk.keras"
    if not checked_files.damage(path):
        return Trunk(path)
    model = joint_model([requested.cut for requested in requests])
    checked_files.keep(path, model.save, of=path.parent.name)
    return Trunk(path, model)


def joint_folder(caches: Sequence[Cache], root: Path) -> Path:
    """Where the trunk of several caches is."""
    return root / f"joint-{files.json_digest([cache.manifest.fingerprint for cache in caches])[:12]}"


def split_rows(rows: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """The rows of each cut, (B, *shape) each, from those of their trunk: (B, ...) of as many values."""
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    parts = np.split(rows.reshape(len(rows), -1), ends[:-1], axis=1)
    return [part.reshape(len(rows), *shape) for part, shape in zip(parts, shapes, strict=True)]

"""Several cuts of one base in one forward pass: a trunk whose rows are those of all cuts, end to end."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fastcls import files
from fastcls.cache import checked_files
from fastcls.cache.store import Cache
from fastcls.engines.trunk import Trunk

if TYPE_CHECKING:
    from fastcls.cutter import Cut


def shared_trunk(cuts: Callable[[], Sequence[Cut]], caches: Sequence[Cache], root: Path) -> Trunk:
    """The trunk of several cuts, kept in a folder beside their caches, which are of one precision.

    The engines convert it as they convert any other. The folder may be removed: it will be recreated.

    Args:
        cuts: Builds the cuts, where the trunk has to be made.
        caches: Theirs, which are to be filled.
        root: Folder of caches.
    """
    path = shared_folder(caches, root) / "trunk.keras"
    if not checked_files.damage(path):
        return Trunk(path)
    from fastcls.cutter import combined_trunk  # workers, which import this module, do without

    model = combined_trunk(cuts())
    checked_files.keep(path, model.save, of=path.parent.name)
    return Trunk(path, model)


def shared_folder(caches: Sequence[Cache], root: Path) -> Path:
    """Where the trunk of several caches is."""
    return root / f"shared-trunk-{files.json_digest([cache.manifest.fingerprint for cache in caches])[:12]}"


def split_rows(rows: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """The rows of each cut, (B, *shape) each, from those of their trunk: (B, ...) of as many values."""
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    parts = np.split(rows.reshape(len(rows), -1), ends[:-1], axis=1)
    return [part.reshape(len(rows), *shape) for part, shape in zip(parts, shapes, strict=True)]

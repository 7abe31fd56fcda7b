"""Trust an engine only after comparing its bottlenecks with those of Keras in float32."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from fastcls import files
from fastcls.cache.store import Cache
from fastcls.data.decoder import UnreadableImage, read_image
from fastcls.engines import REFERENCE, load_engine
from fastcls.errors import OptionError

_IMAGES = 32
# Largest relative error of the median row. float32 engines differ by the order of their sums alone. The
# stitched model computes in float32: a head trained on rows that are far from it loses accuracy there.
BOUNDS = {"float32": 1e-3, "bfloat16": 0.05}
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fidelity:
    """How near the rows of an engine are to the reference, over some of the user's images.

    Attributes:
        images: How many images were compared.
        median_error: Median over rows of |row - reference| / |reference|.
        largest_error: Its maximum.
        median_cosine: Median over rows of the cosine between row and reference.
        smallest_cosine: Its minimum.
    """

    images: int
    median_error: float
    largest_error: float
    median_cosine: float
    smallest_cosine: float


def require_fidelity(cache: Cache, name: str, engine: str, paths: Sequence[Path]) -> None:
    """Compare an engine with the reference, once per cache, and note the figures in `fidelity.json`.

    Args:
        cache: The cache to be filled.
        name: What the user calls the engine.
        engine: "module:class".
        paths: Images, of which some are compared.

    Raises:
        OptionError: The engine's rows are further from the reference than the bound of its precision.
    """
    place = cache.folder / "fidelity.json"
    known = files.read_json(place) if place.exists() else {}
    if name not in known:
        chosen = list(_some_images(paths, cache.manifest.size))
        if not chosen:
            return
        images = np.stack(chosen)
        rows, reference = (load_engine(which, cache.trunk_path).run(images) for which in (engine, REFERENCE))
        known[name] = asdict(compare(rows, reference))
        files.write_json(place, known)
    precision = cache.manifest.precision
    error = known[name]["median_error"]
    logger.info("%s in %s: median relative error %.2g", name, precision, error)
    if not error <= BOUNDS[precision]:
        raise OptionError(
            f"The engine {name} in {precision} is too far from Keras in float32 on this base: its median "
            f"relative error is {error:.2g}, the bound {BOUNDS[precision]:.2g}. "
            "Use --engine tensorflow --precision float32"
        )


def compare(rows: np.ndarray, reference: np.ndarray) -> Fidelity:
    """Compare rows (N, ...) with a reference of the same shape."""
    ours, theirs = (values.reshape(len(values), -1).astype(np.float64) for values in (rows, reference))
    lengths = np.linalg.norm(ours, axis=1), np.linalg.norm(theirs, axis=1)
    errors = np.linalg.norm(ours - theirs, axis=1) / np.maximum(lengths[1], 1e-12)
    cosines = (ours * theirs).sum(axis=1) / np.maximum(lengths[0] * lengths[1], 1e-12)
    return Fidelity(
        images=len(rows),
        median_error=float(np.median(errors)),
        largest_error=float(errors.max()),
        median_cosine=float(np.median(cosines)),
        smallest_cosine=float(cosines.min()),
    )


def _some_images(paths: Sequence[Path], size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Up to `_IMAGES` readable images, spread over the data set."""
    step = max(1, len(paths) // _IMAGES)
    found = 0
    for path in paths[::step]:
        try:
            image = read_image(path, size)
        except UnreadableImage:
            continue
        yield image
        found += 1
        if found == _IMAGES:
            return

"""Trust an engine only after comparing its bottlenecks with those of Keras in float32."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from fastcls.data.decoder import Decoder, UnreadableImage
from fastcls.errors import InfidelityError
from fastcls.wording import count_of

# By precision: the largest median relative error, the smallest cosine of any row, and the smallest share of
# images that keep their nearest neighbor. Engines in float32 differ by the order of their sums alone. For
# lower precisions the first two only find what computes something else. What rounding harms shows first
# in the neighbors: of 128 photos at least 0.97 kept theirs with MobileNetV2 in bfloat16 but for three layers,
# with MobileNetV1, SqueezeNet and a ViT, and 0.74 to 0.91 with MobileNetV2 in bfloat16 throughout.
BOUNDS = {
    "float32": (1e-3, 0.9999, 0.95),
    "float16": (0.05, 0.99, 0.95),
    "bfloat16": (0.2, 0.85, 0.95),
    "int8": (0.25, 0.8, 0.75),
}
_AS_NEAR = 0.01  # of cosine: neighbors that differ by less are as good as each other
_FEWEST = 16  # images of which neighbors are looked for
_BATCH = 8
_TINY = 1e-90  # below the product of two lengths in float32, unless one is zero


@dataclass(frozen=True)
class Fidelity:
    """How near the rows of an engine are to the reference, over some of the user's images.

    Attributes:
        images: How many images were compared.
        median_error: Median over rows of |row - reference| / |reference|.
        largest_error: Its maximum.
        median_cosine: Median over rows of the cosine between row and reference.
        smallest_cosine: Its minimum.
        neighbors: Share of rows whose nearest neighbor by cosine is that of the reference, or one that is as
            near there; None for too few rows.
        are_yours: Whether the images are the user's, not those that are the same everywhere.
    """

    images: int
    median_error: float
    largest_error: float
    median_cosine: float
    smallest_cosine: float
    neighbors: float | None = None
    are_yours: bool = True

    @classmethod
    def read(cls, figures: Mapping[str, Any] | None) -> Fidelity | None:
        """From the manifest; None when there are no figures."""
        if not figures:
            return None
        return cls(**{each.name: figures[each.name] for each in fields(cls) if each.name in figures})

    def __str__(self) -> str:
        kept = f", {self.neighbors:.1%} keep their neighbor" if self.neighbors is not None else ""
        return (
            f"median relative error {self.median_error:.3g} (largest {self.largest_error:.3g}), "
            f"median cosine {self.median_cosine:.6g} (smallest {self.smallest_cosine:.6g}){kept}, "
            f"over {count_of(self.images, 'image')}"
        )

    def in_words(self, precision: str) -> str:
        """What was checked, and that it was found good."""
        images = (
            f"{self.images} of your images" if self.are_yours else f"{self.images} crops of sample photos"
        )
        reference = "Keras" if precision == "float32" else "float32"
        return f"{precision}, checked against {reference} on {images}: within limits"

    def require(self, engine: str, precision: str) -> None:
        """Raise InfidelityError when the rows are too far from the reference."""
        error, cosine, share = BOUNDS[precision]
        is_near = self.median_error <= error and self.smallest_cosine >= cosine
        if is_near and (self.neighbors is None or self.neighbors >= share):
            return
        remedy = "--engine tensorflow" if precision == "float32" else "--precision float32"
        keep = "" if self.neighbors is None else f", and {share:.0%} must keep their neighbor"
        raise InfidelityError.of(
            f"{engine} in {precision} is too far from Keras in float32 at this cut: {self}; allowed are "
            f"a median error of {error:g} and a smallest cosine of {cosine:g}{keep}",
            f"Use {remedy}",
        )


def compare(rows: np.ndarray, reference: np.ndarray, *, are_yours: bool = True) -> Fidelity:
    """Compare rows (N, ...) with a reference of the same shape; see `Fidelity`."""
    ours, theirs = (values.reshape(len(values), -1).astype(np.float64) for values in (rows, reference))
    lengths = np.linalg.norm(ours, axis=1), np.linalg.norm(theirs, axis=1)
    errors = np.linalg.norm(ours - theirs, axis=1) / np.maximum(lengths[1], _TINY)
    with np.errstate(invalid="ignore"):  # infinite rows: what comes out is NaN, and refused
        cosines = (ours * theirs).sum(axis=1) / np.maximum(lengths[0] * lengths[1], _TINY)
    cosines[(lengths[0] == 0) & (lengths[1] == 0)] = 1  # nothing in the image moves this trunk
    return Fidelity(
        images=len(rows),
        median_error=float(np.median(errors)),
        largest_error=float(errors.max()),
        median_cosine=float(np.median(cosines)),
        smallest_cosine=float(cosines.min()),
        neighbors=_kept_neighbors(ours, theirs) if len(rows) >= _FEWEST else None,
        are_yours=are_yours,
    )


def _kept_neighbors(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The share of rows (N, D) whose nearest neighbor among ours is nearest among theirs, or as near."""
    found = _similarities(ours).argmax(axis=1)
    similar = _similarities(theirs)
    return float(np.mean(similar[np.arange(len(found)), found] >= similar.max(axis=1) - _AS_NEAR))


def _similarities(rows: np.ndarray) -> np.ndarray:
    """Cosines (N, N); a row is no neighbor of itself."""
    lengths = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), _TINY)
    with np.errstate(invalid="ignore"):
        unit = rows / lengths
        cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    return cosines


def forward(run: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> np.ndarray:
    """What a function makes of images (N, H, W, 3) uint8, a batch at a time."""
    return np.concatenate([run(images[start : start + _BATCH]) for start in range(0, len(images), _BATCH)])


def some_images(paths: Sequence[Path], decoder: Decoder, count: int) -> np.ndarray:
    """Up to `count` readable images, spread over the data set: (N, H, W, 3) uint8."""
    images: list[np.ndarray] = []
    for place in evenly_spaced(len(paths), count):
        with contextlib.suppress(UnreadableImage):
            images.append(decoder.read(paths[place]))
    return np.stack(images) if images else np.zeros((0, *decoder.rule.size, 3), np.uint8)


def evenly_spaced(total: int, count: int) -> list[int]:
    """Up to `count` places in 0..total-1, at equal distances."""
    count = min(count, total)
    return [place * total // count for place in range(count)]

"""Trust an engine only after comparing its bottlenecks with those of Keras in float32."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastcls.data.decoder import Decoder, UnreadableImage
from fastcls.errors import InfidelityError
from fastcls.wording import count_of

# By precision: the largest median relative error, and the smallest cosine of any row. Engines in float32
# differ by the order of their sums alone. What a lower precision costs depends on the weights: rounding
# those of MobileNetV2 to the 8 bits of bfloat16 moves its bottlenecks of photos by 0.14 and costs 0.4 points
# of accuracy, while ResNet50 moves by 0.003.
BOUNDS = {
    "float32": (1e-3, 0.9999),
    "float16": (0.05, 0.99),
    "bfloat16": (0.2, 0.85),
    "int8": (0.25, 0.8),
}
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
    """

    images: int
    median_error: float
    largest_error: float
    median_cosine: float
    smallest_cosine: float

    @classmethod
    def read(cls, figures: Mapping[str, Any] | None) -> Fidelity | None:
        """From the manifest; None when there are no figures."""
        return cls(**figures) if figures else None

    def __str__(self) -> str:
        return (
            f"median relative error {self.median_error:.3g} (largest {self.largest_error:.3g}), "
            f"median cosine {self.median_cosine:.6g} (smallest {self.smallest_cosine:.6g}) "
            f"over {count_of(self.images, 'image')}"
        )

    def require(self, engine: str, precision: str) -> None:
        """Raise InfidelityError when the rows are too far from the reference."""
        error, cosine = BOUNDS[precision]
        if not (self.median_error <= error and self.smallest_cosine >= cosine):
            remedy = "--engine tensorflow" if precision == "float32" else "--precision float32"
            fact = (
                f"{engine} in {precision} is too far from Keras in float32 on this base: {self}; allowed are "
                f"a median error of {error:g} and a smallest cosine of {cosine:g}"
            )
            refusal = InfidelityError(f"{fact}. Use {remedy}")
            refusal.fact = fact
            raise refusal


def compare(rows: np.ndarray, reference: np.ndarray) -> Fidelity:
    """Compare rows (N, ...) with a reference of the same shape."""
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
    )


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

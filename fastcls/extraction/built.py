"""A cut with its Keras models, and what a plan must know of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from fastcls.cache.manifest import Manifest
from fastcls.cutter import Cut, bottleneck_model, cut, tail_model
from fastcls.specs import CutSpec


@dataclass(frozen=True)
class BuiltCut:
    """A cut, and the Keras models on both sides of it.

    Attributes:
        cut: The base, cut.
        model: RGB uint8 image (B, H, W, 3) -> bottleneck (B, ...).
        tail: bottleneck -> features (B, D); None where nothing follows that could be trained.
    """

    cut: Cut
    model: Any
    tail: Any

    @classmethod
    def of(cls, asked: CutSpec | Cut, base: Any = None) -> BuiltCut:
        """Cut a base, unless that is done, and build the models.

        Raises:
            OptionError: The layer cannot be used.
        """
        made = asked
        if isinstance(asked, CutSpec):
            names = ("pool", "dtype", "precision", "full_decode", "last", "resize")
            kept = {name: getattr(asked, name) for name in names}
            made = cut(base, asked.layer, **kept)
        assert isinstance(made, Cut)
        return cls(made, bottleneck_model(made), tail_model(made))

    @property
    def outline(self) -> Outline:
        """What a plan must know."""
        shape = tuple(self.model.outputs[0].shape[1:])
        weights = sum(4 * math.prod(weight.shape) for weight in self.model.weights)
        made = self.cut
        return Outline(
            *(made.base.name, made.layer, made.pooling, shape, made.dtype),
            has_tail=self.tail is not None,
            trunk_bytes=weights,
        )


@dataclass(frozen=True)
class Outline:
    """What a plan must know of a cut.

    Attributes:
        base: Name of the base.
        layer: Name of the cut layer.
        pooling: What becomes of the positions of a map or of tokens; "none" where there are none.
        shape: Of one bottleneck.
        dtype: Storage type of a bottleneck.
        has_tail: Whether something follows in the base that can be trained on the bottlenecks.
        trunk_bytes: Size of the trunk's file; of one that is not saved yet, about that of its weights.
    """

    base: str
    layer: str
    pooling: str
    shape: tuple[int, ...]
    dtype: str
    has_tail: bool
    trunk_bytes: int

    @classmethod
    def of(cls, manifest: Manifest, trunk_bytes: int) -> Outline:
        """That of a cache, or of one as it would be."""
        return cls(
            *(manifest.base, manifest.layer, manifest.pool, manifest.shape, manifest.dtype),
            has_tail=bool(manifest.tail_digest),
            trunk_bytes=trunk_bytes,
        )

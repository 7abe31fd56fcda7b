"""Which part of a network is trained on images, and what becomes of them before."""

from __future__ import annotations

from dataclasses import dataclass

from fastcls.errors import OptionError
from fastcls.specs.checks import check_at_least, check_choice
from fastcls.specs.views import Recipe

MIXED_PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")


@dataclass(frozen=True)
class FinetuneSpec:
    """How a network is trained on images instead of cached bottlenecks.

    The head is always trained.

    Attributes:
        train: Layers of the base that are trained: "all", "none", the number of the last layers that have
            weights (those of batch normalization not counted), or "from LAYER": that layer and all behind it.
        train_batch_norm: Train batch normalization with the statistics of each batch, where it lies in what
            is trained; False keeps it as it is in inference; None for True only with random weights.
        augment: Recipe of what happens to each image anew in each epoch (see `Recipe.parse`); "none" for
            nothing.
        downscale: Images are so many times as large as the base's input in each direction, and a strided
            convolution in front of the base, which is trained too, brings them down. 1 for none.
        mixed_precision: In which the network is computed while it is trained; "auto" for mixed_float16 on
            GPUs that are fast in it, float32 elsewhere.
        full_decode: As in `CutSpec`. A classifier that is trained further keeps its rule unless this is set.
    """

    train: str = "all"
    train_batch_norm: bool | None = None
    augment: str = "photos"
    downscale: int = 1
    mixed_precision: str = "auto"
    full_decode: bool = False

    def __post_init__(self) -> None:
        check_at_least("downscale", self.downscale, 1)
        check_choice("mixed_precision", self.mixed_precision, MIXED_PRECISIONS)
        if self.augment != "none":
            Recipe.parse(self.augment)
        words = self.train.split()
        is_count = self.train.isdecimal() and int(self.train) > 0
        if self.train not in ("all", "none") and not is_count and (len(words) != 2 or words[0] != "from"):
            raise OptionError(
                f"Unknown part to train: {self.train!r}. Give all, none, the number of the last layers, or "
                "'from LAYER'"
            )

"""Which part of a network is trained on images, and what becomes of them before."""

from __future__ import annotations

from dataclasses import dataclass

from fastcls.errors import OptionError
from fastcls.specs.bases import FULL_DECODE
from fastcls.specs.options import described, option, settle
from fastcls.specs.views import RECIPES, Recipe

MIXED_PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")


@described
@dataclass(frozen=True)
class FinetuneSpec:
    """How a network is trained on images instead of cached bottlenecks; the head is always trained."""

    train: str = option(
        "all",
        "Layers of the base that are trained: all, none, the last N with weights (not counting batch "
        "normalization), or a layer and everything after it.",
        metavar="all|none|N|'from LAYER'",
    )
    train_batch_norm: bool | None = option(
        None,
        "Train batch normalization too, where its layers are trained, with the statistics of each batch.",
        shown="only from random weights",
    )
    augment: str = option(
        "photos",
        "Augmentation of each image in each epoch; see `fastcls extract --augment`.",
        metavar="|".join((*RECIPES, "OPERATION=RANGE,...", "none")),
    )
    downscale: int = option(
        1,
        "Take images N times as large, and let a strided convolution before the base, trained too, scale "
        "them down.",
        low=1,
        metavar="N",
    )
    mixed_precision: str = option(
        "auto",
        "Precision in which the network is trained; auto: mixed_float16 on GPUs that are fast in it, else "
        "float32.",
        choices=MIXED_PRECISIONS,
    )
    full_decode: bool = option(False, FULL_DECODE)

    def __post_init__(self) -> None:
        settle(self)
        if self.augment != "none":
            Recipe.parse(self.augment)
        words = self.train.split()
        is_count = self.train.isdecimal() and int(self.train) > 0
        if self.train not in ("all", "none") and not is_count and (len(words) != 2 or words[0] != "from"):
            raise OptionError(
                f"Unknown part to train: {self.train!r}. Give all, none, the number of the last layers, or "
                "'from LAYER'"
            )

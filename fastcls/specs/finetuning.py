"""Which layers of a network are trained on images, and how the images are prepared."""

from __future__ import annotations

from dataclasses import dataclass

from fastcls.errors import OptionError
from fastcls.specs.bases import FULL_DECODE, RESIZE, RESIZES
from fastcls.specs.option import option
from fastcls.specs.options import described, settle
from fastcls.specs.views import RECIPES, Recipe

MIXED_PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")


@described
@dataclass(frozen=True)
class FinetuneSpec:
    """How a network is trained on images instead of cached bottlenecks; the head is always trained."""

    train: str = option(
        "all",
        "Layers of the base to train: all, none, the last N with weights (not counting batch "
        "normalization), or a layer and everything after it.",
        metavar="all|none|N|'from LAYER'",
        silences=lambda train: ["train_batch_norm", "sparsity"] if train == "none" else [],
    )
    train_batch_norm: bool | None = option(
        None,
        "Also train the batch normalization of the trained layers, with the statistics of each batch.",
        shown="only with random weights",
    )
    augment: str = option(
        "photos",
        "Augmentation of each image in each epoch; see `fastcls extract --augment`.",
        metavar="|".join((*RECIPES, "OPERATION=RANGE,...", "none")),
    )
    downscale: int = option(
        1,
        "Use images N times as large, and scale them down by a strided convolution before the base, which "
        "is trained too.",
        low=1,
        metavar="N",
    )
    mixed_precision: str = option(
        "auto",
        "Training precision; auto: mixed_float16 on GPUs that are fast in it, else float32.",
        choices=MIXED_PRECISIONS,
    )
    sparsity: float | None = option(
        None,
        "Prune the trained layers of the base: set this share of the weights of each kernel to zero, the "
        "smallest first, little by little in the first half of the epochs.",
        above=0,
        below=1,
        metavar="SHARE",
        shown="no pruning",
    )
    full_decode: bool = option(False, FULL_DECODE)
    resize: str | None = option(None, RESIZE, choices=RESIZES, shown="stretch; with --from that of the run")

    def __post_init__(self) -> None:
        settle(self)
        if self.augment != "none":
            Recipe.parse(self.augment)
        words = self.train.split()
        is_count = self.train.isdecimal() and int(self.train) > 0
        if self.train not in ("all", "none") and not is_count and (len(words) != 2 or words[0] != "from"):
            raise OptionError(
                f"Unknown layers to train: {self.train!r}. Give all, none, the number of the last layers, or "
                "'from LAYER'"
            )

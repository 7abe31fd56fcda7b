"""Which base, cut where, and how its bottlenecks are made."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastcls.errors import OptionError, shown
from fastcls.files import PathLike
from fastcls.specs.converted import Converted
from fastcls.specs.option import option, required
from fastcls.specs.options import described, settle

if TYPE_CHECKING:  # a path that is given becomes text
    _Text = Converted[str, PathLike]
    _OptionalText = Converted[str | None, PathLike | None]
else:
    _Text, _OptionalText = str, str | None

POOLS = ("auto", "avg", "mean", "max", "cls", "cls+mean", "map", "flatten", "none")
# Of tokens alone: they take the first one, the class token.
TOKEN_POOLS = ("cls", "cls+mean")
NAMED_WEIGHTS = ("imagenet", "random")
NORMALIZATIONS = ("tf", "torch", "caffe", "none")
DTYPES = ("float32", "float16")
FULL_DECODE = (
    "Decode JPEGs at full size. By default, JPEGs of at least twice the image size are scaled down while "
    "they are decoded, which is several times faster and slightly softer."
)
RESIZES = ("stretch", "crop")
RESIZE = (
    "How an image comes to the base's size. stretch: all of it, whatever its shape; crop: its middle, of the "
    "largest such shape, or as much less of it as the preset of a keras_hub base says."
)
# What `fastcls bases` lists: as text, since specs import nothing above them.
BASE_NAMES = "fastcls.bases.registry:ARCHITECTURES"
PRECISIONS = ("auto", "float32", "bfloat16", "float16", "int8")


# Pixels; pictures on the way to a size may be twice as large, and OpenCV resizes to 32,767 at most.
_MOST_SIDE = 8192
_DIGITS = 9


def read_size(value: Any) -> tuple[int, int]:
    """A size as (height, width), of "224", 224, "240x320" or (240, 320).

    Raises:
        OptionError: It is something else.

    >>> read_size("240x320")
    (240, 320)
    """
    sides = [value] * 2 if isinstance(value, int) else value
    if isinstance(value, str):
        sides = value.lower().split("x")
        sides = [
            int(side[:_DIGITS]) if side.isdecimal() else 0 for side in sides * (2 if len(sides) == 1 else 1)
        ]
    whole = isinstance(sides, (list, tuple)) and len(sides) == 2 and all(type(side) is int for side in sides)
    if not whole or not 1 <= min(sides) <= max(sides) <= _MOST_SIDE:
        raise OptionError(
            f"{shown(value)} is not a size: give pixels such as 224, or HEIGHTxWIDTH, at most {_MOST_SIDE:,}"
        )
    return sides[0], sides[1]


def share_of(layer: str | None) -> float | None:
    """The share of the multiply-adds that a cut such as "80%" names, 0..1; None for the name of a layer.

    Raises:
        OptionError: It is not between 0 and 100 %.

    >>> share_of("80%"), share_of("block_14_add")
    (0.8, None)
    """
    if not layer or not re.fullmatch(r"\d+(\.\d+)?%", layer):
        return None
    share = float(layer[:-1]) / 100
    if not 0 < share < 1:
        raise OptionError(f"A base can be cut between 0% and 100% of its multiply-adds. Received: {layer}")
    return share


def _layer(value: Any) -> Any:
    if isinstance(value, str):
        share_of(value)
    return value


@described
@dataclass(frozen=True)
class BaseSpec:
    """A base model and its input: weights, image size and normalization."""

    name: _Text = required(
        "Base model: a name from `fastcls bases`, a .keras, .h5 or SavedModel file, module:function (which "
        "returns a Keras model), or keras_hub:PRESET.",
        flag="--base",
        metavar="BASE",
        suggested=BASE_NAMES,
    )
    weights: _OptionalText = option(
        None,  # type: ignore[arg-type]
        "Weights of the base: imagenet, random (seeded), or a file.",
        metavar="imagenet|random|PATH",
        shown="imagenet for keras.applications, else its own",
        read=lambda value: (
            "random" if isinstance(value, str) and value == "none" else value
        ),  # what Keras calls None
    )
    size: tuple[int, int] | None = option(
        None,
        "Image size in pixels, (height, width).",
        metavar="N|HxW",
        shown="the base's own",
        read=read_size,
    )
    normalize: str | None = option(
        None,
        "Normalization of the pixels: tf ([-1, 1]), torch (ImageNet mean and standard deviation), caffe "
        "(BGR, ImageNet mean subtracted), none, or MEAN,STD of pixels in 0..1 (0.5,0.5) or 0..255 "
        "(127.5,128), for all channels or three of each.",
        metavar="|".join((*NORMALIZATIONS, "MEAN,STD")),
        shown="the base's own",
    )
    include_top: bool = option(
        False, "Keep the classifier of a built-in base, to allow a cut inside it (such as VGG's fc2)."
    )

    def __post_init__(self) -> None:
        settle(self)
        check_normalize(self.normalize)


@described
@dataclass(frozen=True)
class CutSpec:
    """Where a base is cut, and how its bottlenecks are pooled, computed and stored."""

    base: Converted[BaseSpec, PathLike] = Converted((str, os.PathLike), BaseSpec)
    layer: str | None = option(
        None,
        "Layer to cut at; `fastcls layers BASE` lists them. A share such as 80% means the smallest output "
        "near that share of the multiply-adds.",
        flag="--cut",
        metavar="LAYER|SHARE%",
        shown="before the classifier",
        read=_layer,
        replaces=("pool",),
    )
    pool: str | None = option(
        None,
        "What becomes of the positions of a bottleneck. avg, or mean: their average, of tokens that of the "
        "patches; max: the largest value; cls: the class token; cls+mean: both; map: the attention pooling "
        "that a base ends with, such as SigLIP's; flatten: all, end to end; auto: cls where there is a class "
        "token, else avg, and map for a base that has it.",
        choices=POOLS,
        shown="auto; none for a named layer, so that the rest of the base can be trained",
    )
    dtype: str = option("float32", "Storage type of the bottlenecks.", choices=DTYPES)
    precision: str = option(
        "auto",
        "Precision of the forward pass; auto: the fastest that this machine supports natively and that is "
        "close enough to float32, but never int8. int8 needs the extra `int8`.",
        choices=PRECISIONS,
    )
    full_decode: bool = option(False, FULL_DECODE)
    last: int | None = option(
        None,
        "Outputs of the last N blocks of a transformer, end to end, each as the last one is normalized.",
        low=1,
        metavar="N",
        shown="that of the last",
    )
    resize: str = option("stretch", RESIZE, choices=RESIZES)

    def __post_init__(self) -> None:
        settle(self)
        if self.last is not None and self.layer is not None:
            raise OptionError("--last takes the last blocks, --cut names another place. Remove one of them")
        if self.pool is None:
            object.__setattr__(self, "pool", default_pool(self.layer))
        if self.pool == "mean":  # another word for it
            object.__setattr__(self, "pool", "avg")


def default_pool(layer: str | None) -> str:
    """The default pooling of a cut: see `CutSpec.pool`."""
    return "none" if layer else "auto"


def check_normalize(kind: str | None) -> None:
    """Raise OptionError for a normalization that is neither a name nor a mean and a standard deviation."""
    if kind is not None and kind not in NORMALIZATIONS:
        parse_mean_std(kind)


def parse_mean_std(text: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Read "MEAN,STD", for all channels, or "R,G,B,R,G,B", three means and three standard deviations.

    They are of pixels 0..1, or of pixels 0..255 if any of them is above 1.

    Returns:
        Mean and standard deviation of pixels 0..255, each of one or of three numbers.

    Raises:
        OptionError: The text is something else, or a standard deviation is not positive.

    >>> parse_mean_std("127.5,128")
    ((127.5,), (128.0,))
    >>> parse_mean_std("0.5,0.4,0.3,0.2,0.2,0.2")
    ((127.5, 102.0, 76.5), (51.0, 51.0, 51.0))
    """
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    half = len(numbers) // 2
    if len(numbers) not in (2, 6) or not all(map(math.isfinite, numbers)) or min(numbers[half:]) <= 0:
        raise OptionError(
            f"Unknown normalize: {text!r}. Choose one of: {', '.join(NORMALIZATIONS)}; or give a mean and a "
            "positive standard deviation, such as 0.5,0.5 or 0.485,0.456,0.406,0.229,0.224,0.225"
        )
    scale = 1 if max(map(abs, numbers)) > 1 else 255
    scaled = tuple(number * scale for number in numbers)
    return scaled[:half], scaled[half:]

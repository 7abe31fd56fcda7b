"""Which base, cut where, and how its bottlenecks are made."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fastcls.errors import OptionError
from fastcls.specs.checks import check_choice
from fastcls.specs.converted import Converted

POOLS = ("avg", "max", "flatten", "none")
NAMED_WEIGHTS = ("imagenet", "random")
NORMALIZATIONS = ("tf", "torch", "caffe", "none")
DTYPES = ("float32", "float16")
PRECISIONS = ("auto", "float32", "bfloat16", "float16", "int8")


@dataclass(frozen=True)
class BaseSpec:
    """A base model and what it needs to see.

    Attributes:
        name: One that `fastcls bases` lists ("mobilenetv2"), a saved `.keras`, `.h5` or SavedModel,
            "module:function", a function that returns a Keras model, or "keras_hub:PRESET".
        weights: "imagenet", "random" (seeded; also called "none") or a weights file; None means
            "imagenet" for `keras.applications` and the model's own weights for files and functions.
        size: (height, width) in pixels; None for the base's own.
        normalize: How pixels 0-255 become the base's input: "tf" ([-1, 1]), "torch" (ImageNet mean and
            standard deviation), "caffe" (BGR, ImageNet mean subtracted), "none" (as they are), or a mean and
            a standard deviation as `parse_mean_std` reads them. None for the base's own, which must then
            be known.
        include_top: Keep the classifier of a base that `fastcls bases` lists, so that layers inside it
            (VGG's `fc2`) can be cut points.
    """

    name: str
    weights: str | None = None
    size: tuple[int, int] | None = None
    normalize: str | None = None
    include_top: bool = False

    def __post_init__(self) -> None:
        if self.weights == "none":  # what Keras calls None
            object.__setattr__(self, "weights", "random")
        check_normalize(self.normalize)
        if self.size is not None and min(self.size) < 1:
            raise OptionError(f"The size must be positive. Received: size={self.size}")


@dataclass(frozen=True)
class CutSpec:
    """Where a base is cut and how the bottleneck is kept.

    Attributes:
        base: The base, or its name.
        layer: Name of the cut layer; None for the pooled output before the classifier.
        pool: What becomes of a spatial cut: "avg" or "max" over the map, "flatten", or "none"; None for
            "avg" at the default layer and "none" at a named one, whose tail can then be trained.
        dtype: Storage type of a bottleneck.
        precision: Type in which the trunk computes; "auto" for the fastest that this machine computes
            natively and that comes near enough to float32, never "int8".
        full_decode: Decode JPEGs at their full size; else large ones are scaled down while they are decoded.
    """

    base: Converted[BaseSpec, str] = Converted(str, BaseSpec)
    layer: str | None = None
    pool: str | None = None
    dtype: str = "float32"
    precision: str = "auto"
    full_decode: bool = False

    def __post_init__(self) -> None:
        if self.pool is None:
            object.__setattr__(self, "pool", default_pool(self.layer))
        check_choice("pool", self.pool, POOLS)
        check_choice("dtype", self.dtype, DTYPES)
        check_choice("precision", self.precision, PRECISIONS)


def default_pool(layer: str | None) -> str:
    """What becomes of a spatial cut unless it is said: see `CutSpec.pool`."""
    return "none" if layer else "avg"


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

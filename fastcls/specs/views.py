"""The augmented views of an image that are kept besides the plain one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from fastcls.errors import OptionError
from fastcls.specs.option import option
from fastcls.specs.options import described, settle

Range = tuple[float, float]


class _Operation(NamedTuple):
    """What values an operation takes, and what a lone number stands for."""

    neutral: float
    least: float
    most: float
    lone: str  # "x" the number itself, "-x:x", "1-x:1+x" or "x:1"


OPERATIONS = {
    "flip": _Operation(0, 0, 1, "x"),
    "vflip": _Operation(0, 0, 1, "x"),
    "crop": _Operation(1, 0.01, 1, "x:1"),
    "perspective": _Operation(0, -0.25, 0.25, "-x:x"),
    "rotate": _Operation(0, -180, 180, "-x:x"),
    "translate": _Operation(0, -1, 1, "-x:x"),
    "shear": _Operation(0, -60, 60, "-x:x"),
    "scale": _Operation(1, 0.1, 10, "1-x:1+x"),
    "gamma": _Operation(1, 0.1, 10, "1-x:1+x"),
    "brightness": _Operation(1, 0, 10, "1-x:1+x"),
    "contrast": _Operation(1, 0, 10, "1-x:1+x"),
    "color": _Operation(1, 0, 10, "1-x:1+x"),
    "hue": _Operation(0, -180, 180, "-x:x"),
}
RECIPES = {"photos": "flip,crop=0.6:1,rotate=10,brightness=0.2,contrast=0.2,color=0.2"}
DEFAULT_RECIPE = "photos"


@dataclass(frozen=True)
class Recipe:
    """What may happen to an image; each value is drawn evenly from its range (low, high).

    Attributes:
        flip: Probability of a horizontal flip.
        vflip: Probability of a vertical flip.
        crop: Fraction of the area that is kept, at the image's aspect ratio, and resized to its size.
        perspective: How far inward each corner moves in each direction, as a fraction of the sides.
        rotate: Degrees, counterclockwise.
        translate: To the right and down, as a fraction of the sides.
        shear: Degrees by which vertical lines lean to the right.
        scale: Factor.
        gamma: Exponent of pixels 0..1.
        brightness: Factor of the pixels.
        contrast: Factor of their distance to the image's mean gray.
        color: Factor of their distance to their own gray: 0 for a gray image.
        hue: Degrees on the color wheel.
    """

    flip: float = 0.0
    vflip: float = 0.0
    crop: Range = (1.0, 1.0)
    perspective: Range = (0.0, 0.0)
    rotate: Range = (0.0, 0.0)
    translate: Range = (0.0, 0.0)
    shear: Range = (0.0, 0.0)
    scale: Range = (1.0, 1.0)
    gamma: Range = (1.0, 1.0)
    brightness: Range = (1.0, 1.0)
    contrast: Range = (1.0, 1.0)
    color: Range = (1.0, 1.0)
    hue: Range = (0.0, 0.0)

    def __post_init__(self) -> None:
        for name, operation in OPERATIONS.items():
            low, high = self._range(name)
            if not operation.least <= low <= high <= operation.most:
                raise OptionError(f"{name} cannot be {self._in_words(name)}. {_known_operations()}")

    @classmethod
    def parse(cls, text: str) -> Recipe:
        """Read a recipe: the name of one, or operations such as "flip,crop=0.6:1,rotate=15".

        Each operation is given once, as NAME=LOW:HIGH, or with a lone number X: -X to X for rotate,
        translate, shear, perspective and hue; 1-X to 1+X for scale, gamma, brightness, contrast and color;
        X to 1 for crop. For flip and vflip it is the probability, 0.5 when it is left out.

        Raises:
            OptionError: An operation or a range is unknown.

        >>> Recipe.parse("rotate=15,flip") == Recipe(flip=0.5, rotate=(-15.0, 15.0))
        True
        """
        given: dict[str, Range | float] = {}
        for part in RECIPES.get(text, text).split(","):
            name, _, numbers = (piece.strip() for piece in part.partition("="))
            if name not in OPERATIONS or name in given:
                fact = f"{name!r} is given twice" if name in given else f"Unknown operation {name!r}"
                raise OptionError(f"{fact} in the recipe {text!r}. {_known_operations()}")
            low, high = _parse_range(name, numbers)
            given[name] = low if OPERATIONS[name].lone == "x" else (low, high)
        return cls(**given)  # type: ignore[arg-type]

    def __str__(self) -> str:
        """The canonical text: what has an effect, in a fixed order. Equal recipes have equal texts.

        >>> str(Recipe.parse("rotate=-15:15, flip,gamma=1:1"))
        'flip=0.5,rotate=-15:15'
        """
        shown = [name for name, known in OPERATIONS.items() if self._range(name) != (known.neutral,) * 2]
        return ",".join(f"{name}={self._in_words(name)}" for name in shown)

    def _range(self, name: str) -> Range:
        value = getattr(self, name)
        return value if isinstance(value, tuple) else (value, value)

    def _in_words(self, name: str) -> str:
        value = getattr(self, name)
        return _range_in_words(*value) if isinstance(value, tuple) else _number_in_words(value)


@described
@dataclass(frozen=True)
class ViewSpec:
    """The views of each image to train on: the plain one, and augmented ones."""

    views: int = option(
        1,
        "Views of each image to train on: the plain one, and augmented ones. Each epoch uses one of them. "
        "More views of the same recipe can be added later.",
        low=1,
        high=10_000,
        silences=lambda views: ["augment", "view_seed"] if views == 1 else [],
    )
    augment: str = option(
        DEFAULT_RECIPE,
        f"Recipe of the augmented views: {DEFAULT_RECIPE} ({RECIPES[DEFAULT_RECIPE]}), or operations with "
        "ranges, such as flip,crop=0.6:1,rotate=15,contrast=0.8:1.2. The operations are "
        f"{', '.join(OPERATIONS)}.",
        metavar="RECIPE",
    )
    view_seed: int = option(0, "Random seed of the views.", low=0)

    def __post_init__(self) -> None:
        if self.views == 1:  # nothing is augmented: equal specs, whatever was asked
            for name in ("augment", "view_seed"):
                object.__setattr__(self, name, getattr(type(self), name))
        settle(self)
        text = str(Recipe.parse(self.augment))
        if not text:
            raise OptionError(f"The recipe {self.augment!r} changes nothing: all views would be the same")
        if self.views > 1:
            object.__setattr__(self, "augment", text)

    def __str__(self) -> str:
        others = f" and {self.views - 1} by {self.augment} (seed {self.view_seed})" if self.views > 1 else ""
        return f"the plain one{others}"

    @cached_property
    def operations(self) -> Recipe:
        """The recipe, read."""
        return Recipe.parse(self.augment) if self.views > 1 else Recipe()

    def of_split(self, split: str) -> int:
        """How many views an image of a split has: only those to train on have more than one."""
        return self.views if split in ("train", "") else 1


def _parse_range(name: str, text: str) -> Range:
    lone = OPERATIONS[name].lone
    if not text and lone == "x":
        return 0.5, 0.5
    try:
        numbers = [float(part) for part in text.split(":")]
    except ValueError:
        numbers = []
    if not all(map(math.isfinite, numbers)) or len(numbers) not in ((1,) if lone == "x" else (1, 2)):
        raise OptionError(f"{name} cannot be {text!r}. {_known_operations()}")
    if len(numbers) == 2:
        return numbers[0], numbers[1]
    number = numbers[0]
    return {
        "x": (number, number),
        "-x:x": (-number, number),
        "1-x:1+x": (round(1 - number, 12), round(1 + number, 12)),  # 0.8, where 1 - 0.2 is 0.8 by chance
        "x:1": (number, 1.0),
    }[lone]


def _number_in_words(number: float) -> str:
    return repr(float(number) + 0.0).removesuffix(".0")  # 0.0 takes the sign from -0.0


def _range_in_words(low: float, high: float) -> str:
    return f"{_number_in_words(low)}:{_number_in_words(high)}"


def _known_operations() -> str:
    listed = [
        f"{name}={'PROBABILITY' if known.lone == 'x' else _range_in_words(known.least, known.most)}"
        for name, known in OPERATIONS.items()
    ]
    return (
        f"Known operations with their widest ranges LOW:HIGH are {', '.join(listed)}; known recipes: "
        f"{', '.join(RECIPES)}. Example: flip,crop=0.6:1,rotate=15,contrast=0.8:1.2"
    )

"""What is explained of images, how, and how it is drawn."""

from __future__ import annotations

from dataclasses import dataclass

from fastcls.specs.option import option
from fastcls.specs.options import described, settle

METHODS = ("grad-cam", "grad-cam++")
COLORMAPS = ("viridis", "cividis", "inferno", "magma", "plasma", "turbo")


@described
@dataclass(frozen=True)
class ExplainSpec:
    """Which classes are explained, and by what."""

    class_name: str | None = option(
        None,
        "Class to explain, whether it is predicted or not.",
        flag="--class",
        metavar="NAME",
        shown="the predicted ones",
        silences=lambda class_name: ("top_k", "threshold") if class_name else (),
    )
    top_k: int | None = option(
        None,
        "Explain the K most probable classes of each image, whichever are predicted.",
        low=1,
        metavar="K",
        silences=lambda top_k: ["threshold"] if top_k else [],
    )
    threshold: float | None = option(
        None,
        "With several labels per image: a class is predicted when its probability reaches P.",
        low=0,
        high=1,
        metavar="P",
        shown="the thresholds that validation chose",
    )
    layer: str | None = option(
        None,
        "Layer whose map is explained, such as a convolution.",
        metavar="LAYER",
        shown="the last map before the head",
    )
    method: str = option("grad-cam", "How channels are weighed.", choices=METHODS)

    def __post_init__(self) -> None:
        settle(self)


@described
@dataclass(frozen=True)
class DrawSpec:
    """How explanations are drawn."""

    colormap: str = option("viridis", "Colors of the map, from no evidence to the most.", choices=COLORMAPS)
    size: int = option(448, "Longer side of a picture, in pixels.", low=32, high=8192, metavar="PIXELS")

    def __post_init__(self) -> None:
        settle(self)

"""Draw the picture of the README: what goes through the network once, and what that saves.

The seconds are those of docs/benchmarks.md, "MobileNetV2: training".
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot
from matplotlib.patches import FancyBboxPatch

BLUE, ORANGE, GRAY = "#1f6fb4", "#d9730d", "#8a8f98"
# Left edge, width, title, what it is, color.
BOXES = (
    (0.0, 1.5, "images", "folder per class", GRAY),
    (2.1, 1.9, "frozen base", "each image once", BLUE),
    (4.6, 1.9, "cache", "HDF5, kept on disk", BLUE),
    (7.1, 1.5, "head", "takes seconds", ORANGE),
    (9.2, 1.8, "classifier", "one Keras model", GRAY),
)
BARS = (
    ("Keras fit, frozen base, 5 epochs", 58.0, GRAY),
    ("fastcls, from the images on, 50 epochs", 15.8, BLUE),
    ("another head (its training alone)", 0.5, ORANGE),
)


def main() -> None:
    """Write the picture, as SVG or what the name ends with."""
    parser = argparse.ArgumentParser(description="Draw the picture of the README.")
    parser.add_argument("out", type=Path, nargs="?", default=Path("docs/overview.svg"))
    out = parser.parse_args().out
    pyplot.rcParams.update({"svg.hashsalt": "fastcls", "svg.fonttype": "path", "font.size": 10})
    figure = pyplot.figure(figsize=(8, 3.7))
    draw_flow(figure.add_axes((0.01, 0.52, 0.98, 0.47)))
    draw_bars(figure.add_axes((0.37, 0.01, 0.62, 0.4)))
    figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None, dpi=100)


def draw_flow(axes: Any) -> None:
    """The way of an image."""
    axes.set(xlim=(-0.1, 11.1), ylim=(-0.75, 1.1))
    axes.axis("off")
    for left, width, title, text, color in BOXES:
        style = "round,pad=0,rounding_size=0.12"
        axes.add_patch(FancyBboxPatch((left, 0), width, 1, style, facecolor=color, edgecolor="none"))
        middle = left + width / 2
        axes.text(middle, 0.62, title, ha="center", va="center", color="white", weight="bold")
        axes.text(middle, 0.28, text, ha="center", va="center", color="white", fontsize=8)
    for (left, width, _, _, _), (right, _, _, _, _) in itertools.pairwise(BOXES):
        arrow = {"arrowstyle": "-|>", "color": "#444444", "linewidth": 1.4}
        axes.annotate("", (right, 0.5), (left + width, 0.5), arrowprops=arrow)
    again = {"arrowstyle": "-|>", "color": ORANGE, "linewidth": 1.4, "connectionstyle": "arc3,rad=0.35"}
    axes.annotate("", (7.6, 0), (5.8, 0), arrowprops=again)
    axes.text(
        6.7, -0.62, "any number of heads and epochs", ha="center", va="center", color=ORANGE, fontsize=8
    )


def draw_bars(axes: Any) -> None:
    """What it takes."""
    names, seconds, colors = zip(*BARS, strict=True)
    axes.barh(names, seconds, color=colors, height=0.62)
    axes.invert_yaxis()
    for place, (_, value, _) in enumerate(BARS):
        axes.text(value + 0.7, place, f"{value:.1f} s", va="center", fontsize=9)
    axes.set_title(
        "1,000 photos, MobileNetV2, 2 CPU cores: seconds to a classifier", fontsize=10, loc="left", x=-0.58
    )
    axes.set(xlim=(0, 64), xticks=[])
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)


if __name__ == "__main__":
    main()

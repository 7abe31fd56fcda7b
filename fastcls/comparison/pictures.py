"""A picture of candidates: how good they are against what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fastcls.evaluation import pictures
from fastcls.evaluation.paired import Estimate
from fastcls.evaluation.text_table import shorten, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME_COLUMNS = 48
_LINE = 0.055  # height of a name, of the axes
_LEADER = {
    "arrowstyle": "-",
    "color": "0.6",
    "linewidth": 0.6,
    "linestyle": ":",
    "relpos": (0, 0.5),
    "shrinkB": 4,
}
_EFFICIENT, _OTHER = "C0", "0.55"


@dataclass(frozen=True)
class Point:
    """A candidate.

    Attributes:
        name: As the picture has it.
        cost: Multiply-adds per image.
        estimate: How good it is.
        is_efficient: Whether it is on the line of the efficient ones.
    """

    name: str
    cost: float
    estimate: Estimate
    is_efficient: bool


def draw_front(points: Sequence[Point], title: str, path: Path) -> None:
    """Draw candidates with their intervals by their cost, the efficient ones joined.

    The names stand beside the axes, in the order of the candidates, so that no two overlap.

    Args:
        points: The candidates, the best first.
        title: What the figure is called.
        path: The PNG file to write.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    longest = max(text_width(shorten_amid(point.name, NAME_COLUMNS)) for point in points)
    figure = Figure(figsize=(6.8 + 0.085 * longest, max(4.5, 1.2 + 0.26 * len(points))), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xscale("log")
    front = sorted((point.cost, point.estimate.value) for point in points if point.is_efficient)
    axes.plot(*zip(*front, strict=True), color=_EFFICIENT, linewidth=1.5, alpha=0.6, zorder=1)
    for point in points:
        _draw_point(axes, point)
    axes.margins(x=0.08, y=0.08)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda cost, _: _in_units(cost)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel="multiply-adds per image", ylabel=f"{title}, out of fold (95 % interval)")
    axes.grid(alpha=0.3)
    axes.autoscale_view()
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
    _name_points(axes, points)
    pictures._save(figure, path)


def _draw_point(axes: Axes, point: Point) -> None:
    color, own = _EFFICIENT if point.is_efficient else _OTHER, point.estimate
    axes.plot([point.cost] * 2, [own.low, own.high], color=color, linewidth=1.2, alpha=0.7, zorder=2)
    axes.plot([point.cost], [own.value], marker="o", markersize=6, color=color, zorder=3)


def _name_points(axes: Axes, points: Sequence[Point]) -> None:
    """Write the names in a column, each joined to its point by a thin line."""
    to_axes = axes.transScale + axes.transLimits
    heights = [float(to_axes.transform((point.cost, point.estimate.value))[1]) for point in points]
    for point, height in zip(points, _spread(heights), strict=True):
        axes.annotate(
            shorten_amid(point.name, NAME_COLUMNS),
            (point.cost, point.estimate.value),
            xytext=(1.04, height),
            textcoords="axes fraction",
            va="center",
            fontsize=9,
            color="black" if point.is_efficient else "0.35",
            parse_math=False,
            arrowprops={
                "arrowstyle": "-",
                "color": "0.6",
                "linewidth": 0.6,
                "linestyle": ":",
                "relpos": (0, 0.5),
                "shrinkB": 4,
            },
            annotation_clip=False,
        )


def shorten_amid(name: str, columns: int) -> str:
    """A name on one line and at most so many columns wide; its end, which tells cuts apart, is kept.

    >>> shorten_amid("squeezenet_with_top fire7_squeeze1x1", 24)
    'squeezenet_…7_squeeze1x1'
    """
    name = shorten(name, text_width(name))
    if text_width(name) <= columns:
        return name
    end = name
    while text_width(end) > columns // 2:
        end = end[1:]
    return shorten(name, columns - text_width(end)) + end


def _spread(heights: Sequence[float]) -> list[float]:
    """Falling heights, moved as little as is needed to be a line apart, within 0..1 where there is room.

    >>> [round(height, 3) for height in _spread([0.5, 0.5])]
    [0.5, 0.445]
    """
    line = min(_LINE, 1 / max(1, len(heights) - 1))
    placed: list[float] = []
    for height in heights:
        placed.append(min(height, placed[-1] - line) if placed else min(height, 1.0))
    lowest = 0.0
    for place in reversed(range(len(placed))):
        placed[place] = max(placed[place], lowest)
        lowest = placed[place] + line
    return placed


def _in_units(count: float) -> str:
    return f"{count / 1e9:g} G" if count >= 1e9 else f"{count / 1e6:g} M" if count >= 1e6 else f"{count:g}"

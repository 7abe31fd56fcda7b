"""Pictures of an evaluation and of a training, as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fastcls import files
from fastcls.evaluation.fonts import drawable, font_for, set_fonts
from fastcls.evaluation.text_table import shorten
from fastcls.specs import Step, step_of
from fastcls.wording import count_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fastcls.evaluation.coverage import Coverage
    from fastcls.evaluation.power_law import Gain, PowerLaw
    from fastcls.evaluation.reliability import Reliability

_DPI = 150
_NAME_COLUMNS = 24
_NAMED_CLASSES = 50  # with more, only every n-th class is named
_COUNTED_CLASSES = 25  # with more, the cells are too small for a number
_MOST_CELLS = 1500  # in a row: a picture has little more dots
_AXES = {"auroc": "mean AUROC", "learning_rate": "learning rate"}
_MARKED_EPOCHS = 40  # with more, the curves have no markers


def draw_confusion(confusion: np.ndarray, class_names: Sequence[str], path: Path) -> None:
    """Draw a confusion matrix, shaded by the share of each true class.

    Args:
        confusion: (C, C) int, [true, predicted].
        class_names: The C classes, in label order.
        path: The PNG file to write.
    """
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    side = min(4 + 0.35 * len(class_names), 13.0)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    # The square root of the share: linear shades would hide the errors, which are small shares.
    norm = PowerNorm(0.5, vmin=0, vmax=1)
    step = -(-len(class_names) // _MOST_CELLS)
    cells = _largest_of(shares, step)
    end, last = len(cells) * step - 0.5, len(class_names) - 0.5
    extent = (-0.5, end, end, -0.5)
    image = axes.imshow(cells, cmap="Blues", norm=norm, interpolation="nearest", extent=extent)
    axes.set(xlim=(-0.5, last), ylim=(last, -0.5))
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_title(f"{np.trace(confusion):,} of {count_of(confusion.sum(), 'image')} correct")
    _name_classes(axes, class_names, table="confusion.csv", both=True)
    if len(class_names) <= _COUNTED_CLASSES:
        _write_counts(axes, confusion, shares)
    _save(figure, path)


def _largest_of(shares: np.ndarray, step: int) -> np.ndarray:
    """The largest share of each so many rows and columns: what is smaller than a dot might not be drawn."""
    starts = np.arange(0, len(shares), step)
    found: np.ndarray = np.maximum.reduceat(np.maximum.reduceat(shares, starts, axis=0), starts, axis=1)
    return found


def draw_found(confusion: np.ndarray, class_names: Sequence[str], path: Path) -> None:
    """Draw how many images with and without each class were predicted to have it, a row per class.

    Args:
        confusion: (C, 4) int: true positives, false negatives, false positives, true negatives.
        class_names: The C classes, in label order.
        path: The PNG file to write.
    """
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, min(3 + 0.35 * len(class_names), 13.0)), layout="constrained")
    axes = figure.add_subplot()
    pairs = confusion.reshape(-1, 2, 2)
    shares = (pairs / np.maximum(pairs.sum(axis=2, keepdims=True), 1)).reshape(-1, 4)
    norm = PowerNorm(0.5, vmin=0, vmax=1)
    image = axes.imshow(shares, cmap="Blues", norm=norm, interpolation="nearest", aspect="auto")
    figure.colorbar(image, ax=axes, label="share of the images with, or without, the class")
    axes.axvline(1.5, color="white", linewidth=3)
    _name_classes(axes, class_names, table="per_class.csv")
    axes.set_xticks(range(4), ["true\npositives", "false\nnegatives", "false\npositives", "true\nnegatives"])
    axes.set(ylabel="class", title=count_of(confusion[0].sum(), "image"))
    if len(class_names) <= _COUNTED_CLASSES:
        _write_counts(axes, confusion, shares)
    _save(figure, path)


def draw_reliability(reliability: Reliability, coverage: Coverage, path: Path) -> None:
    """Draw confidence against accuracy, and precision and coverage against the confidence threshold.

    Args:
        reliability: The bins.
        coverage: The curve.
        path: The PNG file to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_bins(left, reliability)
    for name, color in (("coverage", "C0"), ("precision", "C1"), ("recall", "C2")):
        right.plot(coverage.thresholds, getattr(coverage, name), label=name, color=color)
    right.set(xlabel="confidence threshold", ylim=(0, 1.02), title="above a threshold")
    right.grid(alpha=0.3)
    right.legend()
    _save(figure, path)


def draw_history(
    history: Sequence[Mapping[str, float]], path: Path, best: Mapping[str, float] | None = None
) -> None:
    """Draw loss and accuracy (or AUROC) of each epoch, or of each candidate of a head that is fitted.

    A learning rate that changes is drawn as well.

    Args:
        history: A row per epoch or candidate: the `HeadKind.step`; then loss and accuracy,
            val_loss and val_accuracy (or val_auroc), or all of them; learning_rate.
        path: The PNG file to write.
        best: The row to mark.
    """
    from matplotlib.figure import Figure

    metrics = ["loss", "auroc" if "val_auroc" in history[0] else "accuracy"]
    if len({row.get("learning_rate") for row in history}) > 1:
        metrics.append("learning_rate")
    step = step_of(history[0])
    figure = Figure(figsize=(5 * len(metrics), 4), layout="constrained")
    for axes, metric in zip(figure.subplots(1, len(metrics)), metrics, strict=True):
        _draw_curves(axes, history, metric, step)
        if best is not None:
            label = f"best {step.one}: {best[step.name]:g}"
            axes.axvline(best[step.name], color="gray", linestyle="--", label=label)
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
    _save(figure, path)


def draw_learning(
    images: np.ndarray, curves: np.ndarray, law: PowerLaw, gain: Gain, figure_name: str, path: Path
) -> None:
    """Draw a learning curve, and the law that it follows up to twice the images.

    Args:
        images: (P,) numbers of images that were trained on.
        curves: (S, P) figures of each fold.
        law: What their mean follows.
        gain: What twice the images would bring.
        figure_name: What is measured.
        path: The PNG file to write.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(images, curves.T, color="0.85", linewidth=0.8, label=["each fold", *[""] * (len(curves) - 1)])
    axes.plot(images, curves.mean(axis=0), "o", color="C0", label="out of fold, mean")
    grid = np.geomspace(images[0], gain.more, 200)
    known = grid <= images[-1]
    axes.plot(grid[known], law(grid[known]), color="C0", label="power law")
    axes.plot(grid[~known], law(grid[~known]), color="C0", linestyle="--", label="power law, not measured")
    now = float(law(gain.images))
    ends = [[gain.gain - gain.low], [gain.high - gain.gain]]
    axes.errorbar(
        [gain.more], [now + gain.gain], ends, fmt="s", color="C1", capsize=4, label="twice the images"
    )
    axes.axvline(gain.images, color="gray", linestyle=":", label=f"all {count_of(gain.images, 'image')}")
    axes.set(xlabel="images to train on", ylabel=figure_name)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    _save(figure, path)


def _name_classes(axes: Axes, class_names: Sequence[str], *, table: str, both: bool = False) -> None:
    """Write the names of classes beside the rows of a picture.

    Args:
        axes: Of the picture.
        class_names: The C classes, in label order.
        table: The file that lists the names which no font has: they are drawn as numbers.
        both: Write them below the columns too.
    """
    labels, names = _class_ticks(class_names)
    fonts = [font_for(name) for name in names]
    numbers = (f"[{label}]" for label in labels)
    shown = [n if font is None else name for n, name, font in zip(numbers, names, fonts, strict=True)]
    # parse_math=False: a "$" in a class name is a dollar sign.
    axes.set_yticks(labels, shown, parse_math=False, fontsize=8)
    set_fonts(axes.get_yticklabels(), fonts)
    if both:
        axes.set_xticks(labels, shown, rotation=90, parse_math=False, fontsize=8)
        set_fonts(axes.get_xticklabels(), fonts)
    if None in fonts:
        axes.set_xlabel(
            f"{axes.get_xlabel()}\n[n]: class n of {table}, from 0 (no font for its name)".strip()
        )


def _class_ticks(class_names: Sequence[str]) -> tuple[list[int], list[str]]:
    step = -(-len(class_names) // _NAMED_CLASSES)
    labels = list(range(0, len(class_names), step))
    return labels, [shorten(drawable(class_names[label]), _NAME_COLUMNS) for label in labels]


def _write_counts(axes: Axes, confusion: np.ndarray, shares: np.ndarray) -> None:
    for label, predicted in np.argwhere(confusion):
        color = "white" if shares[label, predicted] > 0.3 else "black"
        count = str(confusion[label, predicted])
        axes.text(predicted, label, count, ha="center", va="center", color=color, fontsize=8)


def _draw_bins(axes: Axes, reliability: Reliability) -> None:
    bins = len(reliability.counts)
    middles = (np.arange(bins) + 0.5) / bins
    shares = reliability.counts / reliability.counts.sum()
    axes.bar(middles, shares, 1 / bins, color="0.85", label="share of predictions")
    axes.plot([0, 1], [0, 1], color="gray", linestyle="--", linewidth=1)
    axes.plot(reliability.confidence, reliability.accuracy, "o-", markersize=4, label="share that is right")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="confidence")
    axes.set_title(f"reliability (ECE {reliability.ece:.3f})")
    axes.legend(loc="upper left")


def _draw_curves(axes: Axes, history: Sequence[Mapping[str, float]], metric: str, step: Step) -> None:
    from matplotlib.ticker import MaxNLocator

    marker = "o" if len(history) <= _MARKED_EPOCHS else ""
    for key, name, color in ((metric, "train", "C0"), (f"val_{metric}", "val", "C1")):
        rows = [row for row in history if key in row]
        if rows:
            steps, values = [row[step.name] for row in rows], [row[key] for row in rows]
            label = None if metric == "learning_rate" else name
            axes.plot(steps, values, marker=marker, markersize=4, label=label, color=color)
    axes.set(xlabel=step.one, ylabel=_AXES.get(metric, metric))
    if step.is_log:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")  # formulas would load a parser
        axes.tick_params(axis="x", labelsize=8)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)


def _save(figure: Figure, path: Path) -> None:
    # The canvas is named so that no display or user's backend takes part. `print_png` draws once, where
    # `savefig` draws twice.
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(_DPI)
    with files.atomic_path(path) as temporary:
        FigureCanvasAgg(figure).print_png(temporary)

"""Logistic regression for a sweep of regularizations: the linear probe of the literature.

Features are taken as they are unless their length is to be 1, as the linear probes of CLIP
(https://github.com/openai/CLIP#linear-probe-evaluation) and DINOv2 (`dinov2/eval/log_regression.py`) take
them. The grid has half decades.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from fastcls.specs import HEADS, HeadSpec
from fastcls.training.heads.fitting import FittedHead, at_unit_length
from fastcls.training.heads.folds import Folded, HeldOut, make_splits
from fastcls.training.heads.links import LINKS
from fastcls.training.heads.network import build_head
from fastcls.training.heads.regression import TOLERANCE, Regression, Solution, logits_of
from fastcls.training.heads.regression_rows import (
    Frame,
    KeptRows,
    StreamedRows,
    fits,
    keep_rows,
    stream_rows,
    turn,
)
from fastcls.training.loop.progress import Progress
from fastcls.training.rows import cached as feeder
from fastcls.training.rows.selection import LabeledRows

# 1e-5 to 1e3, from strong to weak, so that each fit starts near its end.
C_GRID = tuple(float(f"{10 ** (half / 2):.3g}") for half in range(-10, 7))
# Where no row can be held out. Photos on ImageNet bases are best between 0.01 and 0.1.
DEFAULT_C = 0.1
# The validation figure has one valley, and fits get slower after it. Before it there may be a plateau, where
# the classes' shares are all that is learned, and the loss is flatter than a fit's own error: there, a value
# that brings nothing says nothing.
_PATIENCE = 2
_OFF_PLATEAU = 0.95  # of the loss of the shares
# Enough to tell the values of C apart, in half the time: the losses of a sweep are then within 1e-3.
_ROUGH = 3e-4
# Of the last fit to rows in memory, which it takes a few steps to: probabilities are within 1e-3.
_FINE = 1e-5


def fit_logreg(
    spec: HeadSpec, train: LabeledRows, val: LabeledRows | None, classes: int, *, progress: bool = False
) -> FittedHead:
    """Fit a logistic regression for each C, keep the C of the lowest validation loss, and fit again with it.

    Without validation rows, each fifth of the training rows is judged by a fit of the others. The loss
    chooses, with several labels too: the AUROC of few images is noisy, and says nothing of probabilities. The
    sweep ends when the loss has not been lower for two values, once it is below that of the classes' shares;
    the first (most regularized) of equals is kept.

    Args:
        spec: Says whether features are brought to length 1, and whether validation rows are trained on too
            when C is chosen.
        train: Rows to train on; each class has some.
        val: Rows to choose on.
        classes: Number of classes.
        progress: Show a bar on stderr.

    Returns:
        The head. Its history has a row per value of C: c, iterations, loss, accuracy (or auroc), val_loss,
        val_accuracy (or val_auroc), seconds; without validation cv_loss and cv_accuracy (or cv_auroc) of the
        rows that were held out are in their place.
    """
    # One thread: on a shared machine two that wait for each other took seven times as long, and the result
    # would depend on their number.
    with threadpool_limits(1, user_api="blas"):
        data = _read(spec, train, val, classes)
        is_kept = isinstance(data.rows, KeptRows)
        tolerance, last_tolerance = (TOLERANCE, _FINE) if is_kept else (_ROUGH, TOLERANCE)
        history, best, found = _sweep(data, C_GRID, progress=progress, tolerance=tolerance)
        chosen = found[0] if found else None
        if chosen and val:
            chosen = _refine(data, chosen, best, last_tolerance)
        if chosen and val and not spec.refit:
            last = chosen
        else:
            last = Regression(data.rows).fit(best["c"], chosen, last_tolerance)

    def model_of(solution: Solution) -> Any:
        shape = train.rows.take(np.arange(1)).read().shape[1:]
        plain = HeadSpec("linear", bottleneck_norm=spec.bottleneck_norm)
        model = build_head(plain, shape, classes, task=train.task)
        model.set_weights(data.layer(solution))
        return model

    before = model_of(chosen) if val and chosen and last is not chosen else None
    return FittedHead(model_of(last), history, best, before)


def hold_out_logreg(spec: HeadSpec, folded: Folded, *, progress: bool = False) -> HeldOut:
    """Choose the C of the lowest pooled loss of rows that are held out, and predict each with it."""
    rows = at_unit_length(folded.rows) if spec.bottleneck_norm == "l2" else folded.rows
    return hold_out_along(replace(folded, rows=along_axes(rows)), progress=progress)


def along_axes(rows: np.ndarray) -> np.ndarray:
    """Rows (N, D) about their mean and along their principal axes (N, R), in which fits are quick."""
    with threadpool_limits(1, user_api="blas"):
        return turn(rows, len(rows))[0]


def hold_out_along(
    folded: Folded, grid: Sequence[float] = C_GRID, *, is_rough: bool = False, progress: bool = False
) -> HeldOut:
    """See `hold_out_logreg`.

    Args:
        folded: Its rows are along their principal axes.
        grid: Values of C to choose from, from strong to weak.
        is_rough: Whether it is enough that most predictions are right to two digits.
        progress: Show a bar on stderr.
    """
    judged = folded.judged()
    splits = [(folded.splits[n][0], folded.splits[n][1][known]) for n, known in judged.items()]
    rows = KeptRows(folded.rows, folded.labels, folded.targets, LINKS[folded.task])
    data = _Data(rows, Frame(np.zeros(folded.rows.shape[1]), None, is_unit=False), splits, "cv")

    def predict(number: int) -> np.ndarray:
        own, held = folded.splits[number]
        # A start nearby, for the sake of its curvature, which the axes are scaled by.
        solution = begun.get(number)
        if solution is None or not is_rough:
            regression = Regression(rows.take(own))
            solution = solution or regression.fit(best["c"], tolerance=_ROUGH)
            solution = solution if is_rough else regression.fit(best["c"], solution)
        ((_, logits),) = logits_of(rows.take(held), solution)
        return rows.link.probabilities(logits).astype(np.float32)

    with threadpool_limits(1, user_api="blas"):
        history, best, found = _sweep(data, grid, progress=progress, tolerance=_ROUGH)
        begun = dict(zip(judged, found, strict=False))
        return HeldOut([predict(number) for number in range(len(folded.splits))], history, best)


@dataclass(frozen=True)
class _Data:
    """Rows to train on and to choose on.

    Attributes:
        rows: Those to train on, then those to validate on.
        frame: Where they are seen from.
        splits: Places to fit on, and places to judge the fit on.
        judged: What the figures of rows that were not fitted to are called by: "val", or "cv".
    """

    rows: KeptRows | StreamedRows
    frame: Frame
    splits: Sequence[tuple[np.ndarray, np.ndarray]]
    judged: str

    def layer(self, solution: Solution) -> list[np.ndarray]:
        """Kernel (D, C) and bias (C,) for rows as they were."""
        axes = self.frame.axes
        kernel = solution.kernel if axes is None else axes @ solution.kernel
        bias = solution.bias - self.frame.center @ kernel
        return [kernel.astype(np.float32), bias.astype(np.float32)]


_Sides = Sequence[tuple[Any, Any]]  # of each split: the rows to fit on, and those to judge on


def _figures(sides: _Sides, solutions: Sequence[Solution], side: int) -> dict[str, float]:
    """Loss and more of the rows that each solution was fitted to (side 0) or is judged on (1)."""
    pairs = [(both[side], solution) for both, solution in zip(sides, solutions, strict=True)]
    blocks = itertools.chain.from_iterable(itertools.starmap(logits_of, pairs))
    return sides[0][side].link.figures((logits, block.labels) for block, logits in blocks)


def _loss_of_shares(sides: _Sides, width: int) -> float:
    """The loss, where it is judged, of who knows how frequent each class is, and nothing else."""
    priors = [own.link.prior(own.shares()) for own, _ in sides]
    return _figures(sides, [Solution(np.zeros((width, len(b))), b) for b in priors], 1)["loss"]


def _read(spec: HeadSpec, train: LabeledRows, val: LabeledRows | None, classes: int) -> _Data:
    parts = [train, val] if val else [train]
    is_unit = spec.bottleneck_norm == "l2"
    places = np.arange(sum(map(len, parts)))
    own, held = places[: len(train)], places[len(train) :]
    splits = [(own, held)] if val else make_splits(train, LINKS[train.task].targets(train.labels, classes))
    memory = feeder.allowed_memory()
    rows: KeptRows | StreamedRows
    if fits(parts, memory):
        rows, frame = keep_rows(parts, classes, is_unit=is_unit)
    else:
        rows, frame = stream_rows(parts, classes, memory, is_unit=is_unit)
    return _Data(rows, frame, splits, "val" if val else "cv")


def _sweep(
    data: _Data, grid: Sequence[float], *, progress: bool, tolerance: float
) -> tuple[list[dict[str, float]], dict[str, float], list[Solution]]:
    """Fit each C until they get worse.

    Returns:
        A row per C, the best of them, and its solutions: none where there was nothing to judge.
    """
    sides = [(data.rows.take(own), data.rows.take(held)) for own, held in data.splits]
    regressions = [Regression(own) for own, _ in sides]
    if not regressions:
        return [{"c": DEFAULT_C, "seconds": 0.0}], {"c": DEFAULT_C}, []
    plateau = _OFF_PLATEAU * _loss_of_shares(sides, regressions[0].width)
    history: list[dict[str, float]] = []
    losses: list[float] = []
    solutions: list[Solution | None] = [None] * len(regressions)
    with Progress(len(grid), step=HEADS["logreg"].step, shown=progress) as shown:
        for c in grid:
            started = time.monotonic()
            found = [fit.fit(c, start, tolerance) for fit, start in zip(regressions, solutions, strict=True)]
            judged, solutions = _figures(sides, found, 1), [*found]
            losses.append(judged["loss"])
            history.append({"c": c, **_row(data, sides, found, judged), "seconds": _since(started)})
            shown.add(history[-1])
            best = losses.index(min(losses))
            if best == len(history) - 1:
                chosen = found
            if losses[best] < plateau and len(history) - 1 - best >= _PATIENCE:
                break
    return history, history[best], chosen


def _refine(data: _Data, chosen: Solution, best: dict[str, float], tolerance: float) -> Solution:
    """Finish the fit of the chosen C: those of a sweep are rougher. Its row is then that of this fit."""
    started = time.monotonic()
    ((own, held),) = data.splits
    sides = [(data.rows.take(own), data.rows.take(held))]
    found = [Regression(sides[0][0]).fit(best["c"], chosen, tolerance)]
    row = _row(data, sides, found, _figures(sides, found, 1))
    row["iterations"] += best["iterations"]
    best |= row | {"seconds": round(best["seconds"] + _since(started), 3)}
    return found[0]


def _row(
    data: _Data, sides: _Sides, found: Sequence[Solution], judged: Mapping[str, float]
) -> dict[str, float]:
    own = _figures(sides, found, 0) if data.judged == "val" else {}
    named = {f"{data.judged}_{name}": value for name, value in judged.items()}
    return {"iterations": max(solution.iterations for solution in found), **own, **named}


def _since(started: float) -> float:
    return round(time.monotonic() - started, 3)

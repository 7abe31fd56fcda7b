"""From logits to probabilities and figures, by the task: what a regression minimizes and is judged by."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, log_expit, log_softmax, logit, softmax

from fastcls.evaluation.ranked import class_auroc
from fastcls.tasks import ONE_LABEL, SEVERAL_LABELS, Task

_LEAST_SHARE = 1e-6


@dataclass(frozen=True)
class Link:
    """What a task makes of logits (N, C).

    Attributes:
        targets: (labels, C) -> (N, C) of 0 and 1.
        prior: Shares (C,) of the classes -> the logits of them.
        probabilities: Logits -> (N, C).
        losses: (logits, targets) -> cross-entropy of each row, (N,); summed over the classes.
        penalty: Number of classes -> what the penalty counts. scikit-learn has one kernel for two classes,
            where a softmax has two of half the size: with twice the penalty both have the same minimum.
        figures: Blocks of (logits, labels) -> loss, and accuracy or AUROC, as `TrainedHead.history` has them.
    """

    targets: Callable[[np.ndarray, int], np.ndarray]
    prior: Callable[[np.ndarray], np.ndarray]
    probabilities: Callable[[np.ndarray], np.ndarray]
    losses: Callable[[np.ndarray, np.ndarray], np.ndarray]
    penalty: Callable[[int], float]
    figures: Callable[[Iterable[tuple[np.ndarray, np.ndarray]]], dict[str, float]]


def _softmax_losses(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    losses: np.ndarray = -(log_softmax(logits, axis=1) * targets).sum(axis=1)
    return losses


def _sigmoid_losses(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    losses: np.ndarray = -log_expit(np.where(targets > 0, logits, -logits)).sum(axis=1)
    return losses


def _one_label_figures(blocks: Iterable[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    loss, right, count = 0.0, 0, 0
    for logits, labels in blocks:
        loss -= float(log_softmax(logits, axis=1)[np.arange(len(labels)), labels].sum())
        right += int(np.sum(logits.argmax(axis=1) == labels))
        count += len(labels)
    return {"loss": loss / count, "accuracy": right / count}


def _several_labels_figures(blocks: Iterable[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    loss, found = 0.0, []
    for logits, labels in blocks:
        loss += float(_sigmoid_losses(logits, labels).sum())
        found.append((logits.astype(np.float32), labels))  # an area needs all
    logits, labels = (np.concatenate(both) for both in zip(*found, strict=True))
    areas = class_auroc(labels, logits)
    measured = areas[~np.isnan(areas)]
    auroc = float(measured.mean()) if len(measured) else float("nan")
    return {"loss": loss / labels.size, "auroc": auroc}


LINKS: dict[Task, Link] = {
    ONE_LABEL: Link(
        targets=lambda labels, classes: np.eye(classes)[labels],
        prior=lambda shares: np.log(np.maximum(shares, _LEAST_SHARE)),
        probabilities=lambda logits: softmax(logits, axis=1),
        losses=_softmax_losses,
        penalty=lambda classes: 2.0 if classes == 2 else 1.0,
        figures=_one_label_figures,
    ),
    SEVERAL_LABELS: Link(
        targets=lambda labels, classes: labels,
        prior=lambda shares: logit(np.clip(shares, _LEAST_SHARE, 1 - _LEAST_SHARE)),
        probabilities=expit,
        losses=_sigmoid_losses,
        penalty=lambda classes: 1.0,
        figures=_several_labels_figures,
    ),
}

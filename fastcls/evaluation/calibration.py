"""Calibration: probabilities that can be taken at their word.

With one label per image it is the temperature of Guo et al., "On Calibration of Modern Neural Networks"
(2017): logits are divided by one number, which changes no order and so no prediction. With several labels,
the logits of each class have a scale and an offset, as in Platt, "Probabilistic Outputs for Support Vector
Machines" (1999), with his targets, which keep a class of few images from certainty. Scales are positive, so
that thresholds can be moved with the probabilities: the same classes are predicted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logit

from fastcls.evaluation.reliability import Reliability as Bins
from fastcls.tasks import ONE_LABEL, SEVERAL_LABELS, Task
from fastcls.training.heads.links import LINKS

# The least and the greatest probabilities in float32, which logits are made of again.
_LEAST, _MOST = float(np.finfo(np.float32).tiny), 1 - 2.0**-24
# Of the logarithm of a scale: where all images are judged right, the larger, the better.
_WIDEST = np.log(10.0)
_FOLDS = 5


@dataclass(frozen=True)
class Calibration:
    """What logits are multiplied by, and what is added to them.

    Attributes:
        scale: One number for all classes, 1 / temperature; or one per class. Above 0.
        offset: 0 for all classes, or a number per class.
    """

    scale: tuple[float, ...]
    offset: tuple[float, ...]

    @property
    def temperature(self) -> float:
        """What logits are divided by, where that is one number."""
        (scale,) = self.scale
        return 1 / scale

    def apply(self, probabilities: np.ndarray, task: Task) -> np.ndarray:
        """What becomes of probabilities (N, C): float64."""
        logits = _LOGITS[task](probabilities)
        return LINKS[task].probabilities(logits * self.scale + self.offset)

    def move(self, thresholds: Sequence[float] | None) -> tuple[float, ...] | None:
        """The thresholds of the calibrated probabilities that predict the same classes."""
        if thresholds is None:
            return None
        with np.errstate(divide="ignore"):  # a threshold of 1 stays
            moved = expit(logit(np.asarray(thresholds)) * self.scale + self.offset)
        return tuple(moved.tolist())


@dataclass(frozen=True)
class Reliability:
    """How far probabilities can be relied on.

    Attributes:
        log_loss: Mean cross-entropy of the images; with several labels also over the classes.
        ece: Expected calibration error in 15 bins of equal width: of the most probable class; with several
            labels of all classes together.
    """

    log_loss: float
    ece: float


def fit_calibration(probabilities: np.ndarray, labels: np.ndarray, task: Task) -> Calibration:
    """The calibration of the lowest log loss.

    Args:
        probabilities: (N, C), of images that the head was not fitted to.
        labels: Their label array.
        task: What is asked of an image.
    """
    return _FITS[task](_LOGITS[task](probabilities), labels)


def cross_calibrate(probabilities: np.ndarray, labels: np.ndarray, task: Task) -> np.ndarray:
    """Calibrated probabilities (N, C), each fifth by a calibration that was fitted on the others."""
    fold = np.random.default_rng(0).permutation(len(labels)) % _FOLDS
    output = probabilities.astype(np.float64)
    for held in np.unique(fold) if len(labels) > _FOLDS else ():
        own = fold == held
        found = fit_calibration(probabilities[~own], labels[~own], task)
        output[own] = found.apply(probabilities[own], task)
    return output


def measure(probabilities: np.ndarray, labels: np.ndarray, task: Task) -> Reliability:
    """How far probabilities (N, C) of images with these labels can be relied on."""
    logits, link = _LOGITS[task](probabilities), LINKS[task]
    losses = link.losses(logits, link.targets(labels, probabilities.shape[1]))
    confidences, is_right = _CLAIMS[task](probabilities, labels)
    claims = len(confidences) / len(labels)  # of each image
    return Reliability(float(losses.mean() / claims), Bins.of([(confidences, is_right)]).ece)


def _softmax_logits(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probabilities.astype(np.float64), _LEAST))


def _sigmoid_logits(probabilities: np.ndarray) -> np.ndarray:
    found: np.ndarray = logit(np.clip(probabilities.astype(np.float64), _LEAST, _MOST))
    return found


def _fit_temperature(logits: np.ndarray, labels: np.ndarray) -> Calibration:
    link = LINKS[ONE_LABEL]
    targets = link.targets(labels, logits.shape[1])

    def objective(log_scale: np.ndarray) -> tuple[float, np.ndarray]:
        scaled = logits * np.exp(log_scale)
        errors = link.probabilities(scaled) - targets
        return float(link.losses(scaled, targets).mean()), np.array([(errors * scaled).sum(axis=1).mean()])

    found = _minimize(objective, np.zeros(1), [(-_WIDEST, _WIDEST)])
    return Calibration((float(np.exp(found[0])),), (0.0,))


def _fit_each_class(logits: np.ndarray, labels: np.ndarray) -> Calibration:
    link, has = LINKS[SEVERAL_LABELS], labels.astype(np.float64)
    count, classes = logits.shape
    having = has.sum(axis=0)
    # Platt (1999), section 2.2.
    targets = np.where(has > 0, (having + 1) / (having + 2), 1 / (count - having + 2))

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        scale, offset = np.exp(flat[:classes]), flat[classes:]
        scaled = logits * scale + offset
        errors = (link.probabilities(scaled) - targets) / count
        slopes = [(errors * logits).sum(axis=0) * scale, errors.sum(axis=0)]
        loss = -targets * log_expit(scaled) - (1 - targets) * log_expit(-scaled)
        return float(loss.sum() / count), np.concatenate(slopes)

    bounds = [(-_WIDEST, _WIDEST)] * classes + [(None, None)] * classes
    found = _minimize(objective, np.zeros(2 * classes), bounds)
    # A class that all images have, or none, says nothing of how sure to be.
    is_known = (having > 0) & (having < count)
    scale, offset = np.where(is_known, np.exp(found[:classes]), 1), np.where(is_known, found[classes:], 0)
    return Calibration(tuple(scale.tolist()), tuple(offset.tolist()))


def _minimize(objective: Callable[[np.ndarray], Any], start: np.ndarray, bounds: Any) -> np.ndarray:
    options = {"maxiter": 1000, "ftol": 1e-14, "gtol": 1e-9}
    found: np.ndarray = minimize(
        objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options
    ).x
    return found


_LOGITS: dict[Task, Callable[[np.ndarray], np.ndarray]] = {
    ONE_LABEL: _softmax_logits,
    SEVERAL_LABELS: _sigmoid_logits,
}
_FITS: dict[Task, Callable[[np.ndarray, np.ndarray], Calibration]] = {
    ONE_LABEL: _fit_temperature,
    SEVERAL_LABELS: _fit_each_class,
}
# What is claimed with which probability, and whether it is so.
_CLAIMS: dict[Task, Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]] = {
    ONE_LABEL: lambda p, labels: (p.max(axis=1), p.argmax(axis=1) == labels),
    SEVERAL_LABELS: lambda p, labels: (p.ravel(), labels.ravel() > 0),
}

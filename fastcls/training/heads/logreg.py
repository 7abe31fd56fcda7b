"""Logistic regression for a sweep of regularizations: the linear probe of the literature.

Features are taken as they are unless their length is to be 1, as the linear probes of CLIP
(https://github.com/openai/CLIP#linear-probe-evaluation) and DINOv2 (`dinov2/eval/log_regression.py`) take
them. The grid has half decades.
"""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from fastcls.specs import HeadSpec
from fastcls.training.heads.fitting import Fitted, at_unit_length, features, require_memory
from fastcls.training.heads.network import build_head
from fastcls.training.rows.selection import LabeledRows

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

# 1e-5 to 1e3, from strong to weak, so that each fit starts near its end.
C_GRID = tuple(float(f"{10 ** (half / 2):.3g}") for half in range(-10, 7))
# The validation loss has one valley, and fits get slower after it. Before it there may be a plateau, where
# the classes' shares are all that is learned, and the loss is flatter than a fit's own error: there, a value
# that brings nothing says nothing.
_PATIENCE = 2
_OFF_PLATEAU = 0.95  # of the loss of the shares
# scikit-learn's 1e-4 can end 2e-3 above the lowest loss.
_TOLERANCE = 1e-5
_ITERATIONS = 2000


def fit_logreg(
    spec: HeadSpec, train: LabeledRows, val: LabeledRows, classes: int, *, progress: bool = False
) -> Fitted:
    """Fit scikit-learn's multinomial logistic regression for each C, and keep the best on `val`.

    The sweep ends when the validation loss, once it is below that of the classes' shares, has not fallen for
    two values; the first (most regularized) of equals is kept.

    Args:
        spec: Says whether features are brought to length 1.
        train: Rows to train on, of two classes or more; labels are 0 to C - 1, each present.
        val: Rows to choose on.
        classes: Number of classes.
        progress: Show a bar on stderr.

    Returns:
        The head. Its history has a row per value of C: c, iterations, loss, accuracy, val_loss,
        val_accuracy, seconds.

    Raises:
        OptionError: The rows do not fit into memory.
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    require_memory("logreg", len(train) + len(val), train)
    sides = tuple((_features(part, spec.bottleneck_norm), part.labels) for part in (train, val))
    probe = LogisticRegression(tol=_TOLERANCE, max_iter=_ITERATIONS, warm_start=True)
    plateau = _OFF_PLATEAU * _loss_of_shares(train.labels, val.labels)
    history: list[dict[str, float]] = []
    # One thread: on a shared machine two that wait for each other took seven times as long, and the result
    # would depend on their number.
    with threadpool_limits(1, user_api="blas"):
        for c in tqdm(C_GRID, unit="C", desc="sweep", disable=not progress):
            history.append(_fit(probe.set_params(C=c), *sides))
            best = min(history, key=lambda row: row["val_loss"])
            if best is history[-1]:
                weights = _softmax_layer(probe)
            elif best["val_loss"] < plateau and len(history) - history.index(best) > _PATIENCE:
                break
    shape = train.rows.take(np.arange(1)).read().shape[1:]
    model = build_head(HeadSpec(bottleneck_norm=spec.bottleneck_norm), shape, classes)
    model.set_weights(weights)
    return Fitted(model, history, best)


def _loss_of_shares(train: np.ndarray, val: np.ndarray) -> float:
    """The validation loss of who knows how frequent each class is, and nothing else."""
    shares = np.bincount(train) / len(train)
    return float(-np.log(shares[val]).mean())


def _features(data: LabeledRows, norm: str) -> np.ndarray:
    # float32 stays within 1e-6 of the loss of float64.
    return at_unit_length(features(data)) if norm == "l2" else features(data)


def _fit(
    probe: LogisticRegression, train: tuple[np.ndarray, np.ndarray], val: tuple[np.ndarray, np.ndarray]
) -> dict[str, float]:
    from sklearn.exceptions import ConvergenceWarning

    started = time.monotonic()
    with warnings.catch_warnings():
        # A fit that is cut short is as good a candidate as its validation loss says.
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe.fit(*train)
    loss, accuracy = _score(probe, *train)
    val_loss, val_accuracy = _score(probe, *val)
    return {
        "c": probe.C,
        "iterations": int(probe.n_iter_.max()),
        "loss": loss,
        "accuracy": accuracy,
        "val_loss": val_loss,
        "val_accuracy": val_accuracy,
        "seconds": round(time.monotonic() - started, 3),
    }


def _score(probe: LogisticRegression, features: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    from sklearn.metrics import log_loss

    probabilities = probe.predict_proba(features)
    accuracy = np.mean(probabilities.argmax(axis=1) == labels)
    return float(log_loss(labels, probabilities, labels=probe.classes_)), float(accuracy)


def _softmax_layer(probe: LogisticRegression) -> list[np.ndarray]:
    """Kernel (D, C) and bias (C,) of the softmax layer with the probe's probabilities."""
    coefficients, intercepts = probe.coef_, probe.intercept_
    if len(coefficients) == 1:  # two classes have one logit: half of it up, half of it down
        sides = np.array([[-0.5], [0.5]])
        coefficients, intercepts = sides * coefficients, sides[:, 0] * intercepts
    return [coefficients.T.astype(np.float32), intercepts.astype(np.float32)]

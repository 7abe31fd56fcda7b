"""The arrays that Python code gives to be evaluated."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fastcls.errors import DataError, shown


def as_numbers(values: ArrayLike, name: str, *, whole: bool = False) -> np.ndarray:
    """An array of numbers.

    Args:
        values: What is given.
        name: What a message calls it.
        whole: Whether only integers, or True and False, are taken.

    Raises:
        DataError: It is something else, or has rows of different lengths.
    """
    try:
        array = np.asarray(values)
    except ValueError:  # rows of different lengths
        array = np.empty(0, object)
    if array.dtype.kind in ("biu" if whole else "biuf") or (not array.size and array.dtype.kind == "f"):
        return array
    kind = "integers" if whole else "numbers"
    raise DataError(f"{name} must be an array of {kind}. Received: {shown(values)}.")


def log(probabilities: np.ndarray) -> np.ndarray:
    """The logarithm of probabilities, float64.

    As in scikit-learn, 0 and 1 are moved by one rounding step.
    """
    step = np.finfo(probabilities.dtype).eps if probabilities.dtype.kind == "f" else np.finfo(np.float64).eps
    logarithms: np.ndarray = np.log(np.clip(probabilities.astype(np.float64), step, 1 - step))
    return logarithms

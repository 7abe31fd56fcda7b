"""How the predictions of each task are judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastcls.evaluation import one_label, several_labels
from fastcls.evaluation.figures import Figures
from fastcls.tasks import ONE_LABEL, SEVERAL_LABELS, Task

# (path and names of the classes of each image, their label array, probabilities (N, C), class names,
# thresholds) -> figures, and a prediction per image.
Judge = Callable[
    [
        Sequence[tuple[str, tuple[str, ...]]],
        np.ndarray,
        np.ndarray,
        Sequence[str],
        Sequence[float] | None,
    ],
    tuple[Figures, tuple[Any, ...]],
]
JUDGES: dict[Task, Judge] = {ONE_LABEL: one_label.judge, SEVERAL_LABELS: several_labels.judge}

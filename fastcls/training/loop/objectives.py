"""How each task is trained: what is minimized, what is validated, how thresholds are chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcls.specs import LossSpec
from fastcls.tasks import ONE_LABEL, SEVERAL_LABELS, Task
from fastcls.training.loop.losses import Entropy, binary, categorical, class_weights
from fastcls.training.loop.thresholds import find_thresholds, no_thresholds
from fastcls.training.loop.validation import Validate, area_validator, plain_validator
from fastcls.training.rows.cached import Feed


@dataclass(frozen=True)
class Objective:
    """How a task is trained.

    Attributes:
        entropy: (name of the loss, its spec, weights of the classes) -> the loss of each row without `l2`.
        validator: (model, validation rows, Keras metrics that see them, what makes a pass over them) -> what
            finds their figures, that of the task's monitor among them.
        find_thresholds: (model, what makes the validation rows, `TrainConfig.threshold`, class names) ->
            thresholds of the classes, if the task has any.
    """

    entropy: Callable[[str, LossSpec, np.ndarray], Entropy]
    validator: Callable[[Any, Any, Sequence[Any], Callable[[Any, Any], Validate]], Validate]
    find_thresholds: Callable[
        [Any, Callable[[], Feed | None], str | float | None, Sequence[str]], tuple[float, ...] | None
    ]


OBJECTIVES: dict[Task, Objective] = {
    ONE_LABEL: Objective(categorical, plain_validator, no_thresholds),
    SEVERAL_LABELS: Objective(binary, area_validator, find_thresholds),
}


def build_loss(spec: LossSpec, model: Any, labels: np.ndarray, task: Task = ONE_LABEL) -> Any:
    """Build what Keras's `compile` takes as a loss.

    Args:
        spec: The loss.
        model: What is trained, whose trainable kernels `l2` keeps small.
        labels: Of all rows to train on, each class present.
        task: What the labels are of.

    Raises:
        OptionError: The loss does not fit the task.
    """
    from keras import ops

    name = spec.named(task)
    plain = task.losses[name]
    if plain and not spec.l2 and spec == LossSpec(name=spec.name, l2=spec.l2):
        return plain
    weights = class_weights(spec.class_weight, labels, spec.class_weight_multiplier, task=task)
    entropy = OBJECTIVES[task].entropy(name, spec, weights)
    l2 = spec.l2 or 0.0
    kernels = [variable for variable in model.trainable_variables if len(variable.shape) > 1]

    def loss(labels: Any, probabilities: Any) -> Any:
        squares = sum((ops.sum(ops.square(kernel)) for kernel in kernels), start=0.0)
        return entropy(labels, probabilities) + l2 * squares

    return loss

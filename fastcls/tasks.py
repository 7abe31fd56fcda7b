"""The task: what is asked of an image, one label or several. What differs between them is found here.

What needs more, such as a loss of Keras, is in one table per room, by task: `data/writers/csv.py`,
`training/loop/objectives.py`, `training/heads/links.py` and `evaluation/judges.py`. No other module branches
on the task.
"""

from __future__ import annotations

import functools
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fastcls.errors import DataError, OptionError
from fastcls.wording import count_of

if TYPE_CHECKING:  # specs name tasks, and `fastcls --help` has no use for arrays
    import numpy as np

DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True)
class Monitor:
    """The validation figure that chooses the epoch, stops a training early and lowers the rate on plateaus.

    Attributes:
        name: Its name in the rows of a history; rows without validation lack it.
        higher_is_better: Whether a rise is an improvement.
    """

    name: str
    higher_is_better: bool = False

    def cost(self, row: Mapping[str, float]) -> float:
        """What is lower for a better row; infinite for one without the figure."""
        value = row.get(self.name, math.nan)
        if math.isnan(value):
            return math.inf
        return -value if self.higher_is_better else value


LOSS = Monitor("val_loss")
AUROC = Monitor("val_auroc", higher_is_better=True)


class Task(ABC):
    """What is asked of an image.

    Attributes:
        name: As files store it and messages call it.
        column: Of the class names in the tables of caches and runs.
        activation: Of the last layer.
        is_shared: Whether the classes of an image share its probability, so that what all have more is lost.
        losses: Names of the losses to choose from, the default first; for each what Keras calls it for label
            arrays of this task, or "" where Keras does not have it.
        metrics: Keras metrics of the rows that are trained on.
        monitor: What chooses the epoch.
        pointless: Options of a training that have no effect.
        has_class_folder: Whether an image belongs in the folder of one class.
        may_have_none: Whether an image may have no class.
        answers: How many classes are said of an image; None for all that are predicted.
        pointless_answers: Options of what is said of an image that have no effect.
    """

    name: str
    column: str
    activation: str
    is_shared: bool
    losses: ClassVar[Mapping[str, str]]
    metrics: tuple[str, ...]
    monitor: Monitor
    pointless: tuple[str, ...]
    has_class_folder: bool
    may_have_none: bool
    answers: int | None
    pointless_answers: tuple[str, ...]

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return self.__reduce__()

    @abstractmethod
    def __reduce__(self) -> str:
        """The name of the only object of its class, which copies and pickles stand for."""

    @abstractmethod
    def value(self, labels: tuple[str, ...]) -> str | tuple[str, ...]:
        """The class names of an image as a value of a data frame."""

    @abstractmethod
    def write_cell(self, labels: Sequence[str]) -> str:
        """The class names of an image as a cell of a table."""

    @abstractmethod
    def read_cell(self, text: str) -> tuple[str, ...]:
        """The class names in a cell of a table.

        Raises:
            ValueError: It is damaged.
        """

    @abstractmethod
    def encode(self, labels: Sequence[Sequence[str]], class_names: Sequence[str]) -> np.ndarray:
        """The label array of N images by the names of their classes."""

    @abstractmethod
    def count(self, labels: np.ndarray, classes: int = 0) -> np.ndarray:
        """How many images of a label array have each class: (C,) int."""

    @abstractmethod
    def pools(self, labels: np.ndarray) -> list[np.ndarray]:
        """Places of the images of each class that occurs, by which `--sampling balanced` draws."""

    @abstractmethod
    def balanced_weights(self, counts: np.ndarray, images: int, multiplier: float | None) -> np.ndarray:
        """What each class counts in a loss with the class weight "balanced": (C,) float.

        Args:
            counts: (C,) images that have the class.
            images: How many there are.
            multiplier: See `LossSpec.class_weight_multiplier`.
        """

    @abstractmethod
    def require_measurable(self, labels: np.ndarray) -> None:
        """Raise DataError for validation labels that have no figure to choose an epoch by."""

    @abstractmethod
    def could_give(self, probabilities: np.ndarray) -> bool:
        """Whether the output (N, C) of a head on any inputs could be of its activation."""

    @abstractmethod
    def default_thresholds(self, classes: int) -> tuple[float, ...] | None:
        """The thresholds of a head before they are chosen; None where classes are predicted without."""

    def require_thresholds(self, thresholds: Sequence[float] | None, classes: int) -> None:
        """Raise OptionError for thresholds that are not one per class, or that the task does without."""
        expected = self.default_thresholds(classes)
        if (expected and len(expected)) != (thresholds and len(thresholds)):
            raise OptionError(
                f"A classifier of {self} per image has "
                f"{count_of(classes, 'threshold') + ', one per class' if expected else 'no thresholds'}. "
                f"Received: {thresholds}"
            )

    @abstractmethod
    def rank(self, probabilities: np.ndarray, thresholds: Sequence[float] | None) -> list[int]:
        """The labels to predict for an image with (C,) probabilities, the most probable first."""

    @abstractmethod
    def decide(self, probabilities: np.ndarray, thresholds: Sequence[float] | None) -> np.ndarray:
        """What is predicted for images with (N, C) probabilities: the decisions of each, (N, K) int."""

    @abstractmethod
    def margins(self, probabilities: np.ndarray, thresholds: Sequence[float] | None) -> np.ndarray:
        """How clear each of these decisions is: twice the least change of probabilities that changes it."""


class OneLabel(Task):
    """Each image has exactly one class. Label arrays are (N,) int64, indices into the class names."""

    name = "one label"
    column = "label"
    activation = "softmax"
    is_shared = True
    losses: ClassVar[Mapping[str, str]] = {
        "categorical_crossentropy": "sparse_categorical_crossentropy",
        "categorical_focal_crossentropy": "",
    }
    metrics = ("accuracy",)
    monitor = LOSS
    pointless = ("threshold", "class_weight_multiplier (with balanced)")
    has_class_folder = True
    may_have_none = False
    answers = 1
    pointless_answers = ("threshold",)

    def __reduce__(self) -> str:
        return "ONE_LABEL"

    def value(self, labels: tuple[str, ...]) -> str:
        """The class name."""
        (label,) = labels
        return label

    def write_cell(self, labels: Sequence[str]) -> str:
        """The class name."""
        (label,) = labels
        return label

    def read_cell(self, text: str) -> tuple[str, ...]:
        """The class name."""
        return _one_name(text)

    def encode(self, labels: Sequence[Sequence[str]], class_names: Sequence[str]) -> np.ndarray:
        """Indices into the class names, (N,) int64."""
        import numpy as np

        index = {name: label for label, name in enumerate(class_names)}
        return np.array([index[name] for (name,) in labels], np.int64)

    def count(self, labels: np.ndarray, classes: int = 0) -> np.ndarray:
        """See `Task`."""
        import numpy as np

        return np.bincount(labels, minlength=classes)

    def pools(self, labels: np.ndarray) -> list[np.ndarray]:
        """See `Task`."""
        import numpy as np

        return [np.flatnonzero(labels == label) for label in np.unique(labels)]

    def balanced_weights(self, counts: np.ndarray, images: int, multiplier: float | None) -> np.ndarray:
        """The same sum of weights for each class."""
        return images / (len(counts) * counts)

    def require_measurable(self, labels: np.ndarray) -> None:
        """Any labels have a loss."""

    def could_give(self, probabilities: np.ndarray) -> bool:
        """Whether each row sums to 1."""
        return _are_probabilities(probabilities) and _sum_to_one(probabilities)

    def default_thresholds(self, classes: int) -> None:
        """None: the most probable class is predicted."""

    def rank(self, probabilities: np.ndarray, thresholds: Sequence[float] | None) -> list[int]:
        """All labels by falling probability."""
        return _by_probability(probabilities)

    def decide(self, probabilities: np.ndarray, thresholds: Sequence[float] | None) -> np.ndarray:
        """The most probable class, (N, 1)."""
        return probabilities.argmax(axis=1)[:, None]

    def margins(self, probabilities: np.ndarray, thresholds: Sequence[float] | None) -> np.ndarray:
        """The difference of the two most probable classes, (N, 1)."""
        ordered = probabilities.copy()
        ordered.sort(axis=1)
        margins: np.ndarray = ordered[:, -1:] - ordered[:, -2:-1]
        return margins


class SeveralLabels(Task):
    """Each image has any number of classes. Label arrays are (N, C) uint8 of 0 and 1."""

    name = "several labels"
    column = "labels"
    activation = "sigmoid"
    is_shared = False
    losses: ClassVar[Mapping[str, str]] = {
        "binary_crossentropy": "binary_crossentropy",
        "binary_focal_crossentropy": "",
    }
    metrics = ()
    monitor = AUROC
    pointless = ("min_accuracy", "confusion_every")
    has_class_folder = False
    may_have_none = True
    answers = None
    pointless_answers = ("min_confidence",)

    def __reduce__(self) -> str:
        return "SEVERAL_LABELS"

    def value(self, labels: tuple[str, ...]) -> tuple[str, ...]:
        """The names."""
        return labels

    def write_cell(self, labels: Sequence[str]) -> str:
        """A JSON array of the names, whatever characters they hold."""
        return json.dumps(labels, ensure_ascii=False)

    def read_cell(self, text: str) -> tuple[str, ...]:
        """The names in a JSON array."""
        return _names_in(text)

    def encode(self, labels: Sequence[Sequence[str]], class_names: Sequence[str]) -> np.ndarray:
        """Whether an image has each class, (N, C) uint8 of 0 and 1."""
        import numpy as np

        index = {name: label for label, name in enumerate(class_names)}
        targets = np.zeros((len(labels), len(class_names)), np.uint8)
        for place, names in enumerate(labels):
            targets[place, [index[name] for name in names]] = 1
        return targets

    def count(self, labels: np.ndarray, classes: int = 0) -> np.ndarray:
        """See `Task`."""
        return labels.sum(axis=0)

    def pools(self, labels: np.ndarray) -> list[np.ndarray]:
        """An image of several classes is in the pool of each; those of none have a pool of their own."""
        columns = [*labels.T.astype(bool), ~labels.any(axis=1)]
        import numpy as np

        return [np.flatnonzero(column) for column in columns if column.any()]

    def balanced_weights(self, counts: np.ndarray, images: int, multiplier: float | None) -> np.ndarray:
        """What having a class counts, where not having it counts 1.

        It is the `pos_weight` of https://pytorch.org/docs/stable/generated/torch.nn.BCEWithLogitsLoss.html.
        """
        return (multiplier or 1) * (images - counts) / counts

    def require_measurable(self, labels: np.ndarray) -> None:
        """A ROC curve needs images with and without the class."""
        if len(labels) and not (labels.any(axis=0) & ~labels.all(axis=0)).any():
            raise DataError(
                "No class has validation images both with and without it, so that the best epoch cannot be "
                "told. Split the data again, or train without validation with --val 0"
            )

    def could_give(self, probabilities: np.ndarray) -> bool:
        """Whether the rows do not all sum to 1, which those of a sigmoid do by chance at most."""
        return _are_probabilities(probabilities) and not _sum_to_one(probabilities)

    def default_thresholds(self, classes: int) -> tuple[float, ...]:
        """0.5 for each class."""
        return (DEFAULT_THRESHOLD,) * classes

    def rank(self, probabilities: np.ndarray, thresholds: Sequence[float] | None) -> list[int]:
        """Those that reach their threshold, by falling probability."""
        reached = reach(probabilities, thresholds or self.default_thresholds(len(probabilities)))
        return [label for label in _by_probability(probabilities) if reached[label]]

    def decide(self, probabilities: np.ndarray, thresholds: Sequence[float] | None) -> np.ndarray:
        """Whether each class is predicted, (N, C)."""
        return reach(probabilities, thresholds or ()).astype(int)

    def margins(self, probabilities: np.ndarray, thresholds: Sequence[float] | None) -> np.ndarray:
        """Twice the distance of each probability from its threshold, (N, C)."""
        return 2 * abs(probabilities - thresholds)


ONE_LABEL = OneLabel()
SEVERAL_LABELS = SeveralLabels()
TASKS: dict[str, Task] = {task.name: task for task in (ONE_LABEL, SEVERAL_LABELS)}


def task_named(name: object) -> Task:
    """The task that a file names.

    Raises:
        ValueError: There is no such task.
    """
    if task := TASKS.get(str(name)):
        return task
    raise ValueError(
        f"its task must be {' or '.join(map(repr, TASKS))}, not {name!r}: another version of fastcls made it"
    )


def task_of(labels: Iterable[Sequence[str]]) -> Task:
    """The task of images by the classes of each: one label where each has exactly one."""
    return ONE_LABEL if all(len(names) == 1 for names in labels) else SEVERAL_LABELS


def reach(probabilities: np.ndarray, thresholds: Sequence[float] | np.ndarray) -> np.ndarray:
    """(..., C) bool: which classes have at least their threshold."""
    import numpy as np

    return probabilities.astype(np.float64) >= np.asarray(thresholds, np.float64)


def _by_probability(probabilities: np.ndarray) -> list[int]:
    order: list[int] = probabilities.argsort(kind="stable")[::-1].tolist()
    return order


def _are_probabilities(values: np.ndarray) -> bool:
    return bool(values.min() >= 0 and values.max() <= 1)


def _sum_to_one(probabilities: np.ndarray) -> bool:
    return bool(abs(probabilities.sum(axis=1) - 1).max() < 1e-3)


# Cached: 100,000 rows share the names of their classes.
@functools.lru_cache(maxsize=1 << 16)
def _one_name(text: str) -> tuple[str, ...]:
    return (text,)


@functools.lru_cache(maxsize=1 << 16)
def _names_in(text: str) -> tuple[str, ...]:
    names = json.loads(text)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"its labels {text!r} are not a JSON array of names")
    return tuple(names)

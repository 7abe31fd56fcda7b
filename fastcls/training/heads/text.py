"""A classifier of the names of its classes: no image has a part in it.

The row of a class is the mean of those of its prompts at length 1, itself at length 1, as in CLIP's notebook
(Prompt_Engineering_for_ImageNet.ipynb). What is compared with it is an image's row at length 1: logits are
cosine * scale + bias, the last layer of the head. Trained further, that layer starts as the text says, as in
WiSE-FT (Wortsman et al., "Robust fine-tuning of zero-shot models", 2022).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fastcls.backend import import_keras, reproducible_build
from fastcls.bases.text_towers import Matched, TextTower, open_text_tower
from fastcls.data.prompts import read_prompts
from fastcls.errors import OptionError
from fastcls.extraction.built import Outline
from fastcls.specs import HeadSpec
from fastcls.tasks import Task
from fastcls.training.heads.fitting import FittedHead, at_unit_length, feature_blocks
from fastcls.training.heads.links import LINKS
from fastcls.training.heads.network import named_head, pooled
from fastcls.training.rows.selection import LabeledRows
from fastcls.wording import count_of


@dataclass(frozen=True, eq=False)
class TextStart:
    """What a head is made of, before the text tower has read it.

    Attributes:
        tower: Of the base.
        given: The prompts as `HeadSpec.prompts` has them; those of the tower's habit where it has none.
        prompts: Those of each class.
        ids: Their token ids, one after the other.
    """

    tower: TextTower
    given: str
    prompts: Sequence[tuple[str, ...]]
    ids: np.ndarray

    def __str__(self) -> str:
        """What a plan says of it."""
        shown = self.prompts[0][0]
        counts = f"{count_of(len(self.ids), 'prompt')} of {count_of(len(self.prompts), 'class')}"
        return f"Texts: {counts}, such as {shown!r}. The text tower is not in the classifier"

    @cached_property
    def _read(self) -> tuple[Matched, np.ndarray]:
        """What the tower makes of them: (C, D) rows of the classes at length 1."""
        import_keras()
        with reproducible_build():
            matched = self.tower.load()
            rows = matched.rows(self.ids)
        starts = np.cumsum([0, *map(len, self.prompts[:-1])])
        counts = np.array([[len(own)] for own in self.prompts])
        return matched, at_unit_length(np.add.reduceat(rows, starts) / counts).astype(np.float32)

    def logits(self, data: LabeledRows, bias: float = 0.0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Logits (n, C) of some rows and their labels, a block at a time."""
        matched, rows = self._read
        for place, block in feature_blocks(data):
            yield matched.scale * (matched.compared(block) @ rows.T) + bias, data.labels[place]

    def bias(self, train: LabeledRows) -> float:
        """What is added to the logits; the labels of the images to train on have no part in it.

        CLIP compares the classes of an image with each other alone: scale * cosine is far above 0 for all of
        them, where each sigmoid is 1. Without the mean of all logits the order of classes is the same.
        """
        matched, _ = self._read
        if train.task.is_shared or matched.bias:
            return matched.bias
        sums = [logits.mean(axis=1, dtype=np.float64).sum() for logits, _ in self.logits(train)]
        return -float(sum(sums) / len(train))

    def head(self, train: LabeledRows) -> Any:
        """The head on bottlenecks like these. Its last layer is the only one that can be trained further."""
        matched, rows = self._read
        shape = train.rows.take(np.arange(1)).read().shape[1:]
        last: list[np.ndarray] = [matched.scale * rows.T, np.full(len(rows), self.bias(train), np.float32)]
        return _build(shape, matched, last, train.task)


def read_texts(
    spec: HeadSpec, outline: Outline, weights: str | None, class_names: Sequence[str]
) -> TextStart:
    """Check a head that is made of texts, and all that it takes: nothing but the weights is left to read.

    Args:
        spec: The head.
        outline: The bottlenecks.
        weights: Where those of the base are from; "own" or None for its own.
        class_names: The classes.

    Raises:
        OptionError: The base has no text tower, the bottlenecks are not what its rows are compared with, or
            the prompts cannot be used.
    """
    tower = open_text_tower(outline.base)
    if weights not in (None, "own"):
        raise OptionError(
            f"{outline.base} with --weights {weights} does not fit its text tower. Extract without --weights"
        )
    if (outline.layer, outline.pooling) != (tower.layer, tower.pool):
        raise OptionError(
            f"Texts are compared with what {outline.base} makes of an image in the end. Received: "
            f"bottlenecks of layer {outline.layer}, pooling {outline.pooling}. Extract without --cut, --pool "
            "and --last"
        )
    given = spec.prompts or tower.template
    prompts = read_prompts(given, class_names)
    return TextStart(tower, given, prompts, tower.tokenize([prompt for own in prompts for prompt in own]))


def judge_text(
    spec: HeadSpec,
    train: LabeledRows,
    val: LabeledRows | None,
    classes: int,
    *,
    progress: bool = False,
    texts: TextStart,
) -> FittedHead:
    """The head that is made of texts, and its figures.

    Args:
        spec: Has no part in it.
        train: Rows whose figures are those of training.
        val: Rows whose figures are those of validation.
        classes: Has no part in it.
        progress: Has no part in it.
        texts: What it is made of.
    """
    started = time.monotonic()
    row: dict[str, float] = {"prompts": len(texts.ids)}
    bias = texts.bias(train)
    for part, prefix in ((train, ""), (val, "val_")):
        if part:
            figures = LINKS[train.task].figures(texts.logits(part, bias))
            row |= {f"{prefix}{name}": value for name, value in figures.items()}
    row["seconds"] = round(time.monotonic() - started, 4)
    return FittedHead(texts.head(train), [row], row)


def _build(shape: tuple[int, ...], matched: Matched, last: list[np.ndarray], task: Task) -> Any:
    keras = import_keras()
    layers = keras.layers

    bottleneck = keras.Input(shape, name="bottleneck")
    x = pooled(bottleneck)
    known: list[tuple[Any, list[np.ndarray]]] = []
    if matched.norm:
        *weights, epsilon = matched.norm
        norm = layers.LayerNormalization(epsilon=epsilon, trainable=False, name="layer_norm")
        x = norm(x)
        known.append((norm, weights))
    if matched.projection is not None:
        width = matched.projection.shape[1]
        projection = layers.Dense(width, use_bias=False, trainable=False, name="projection")
        x = projection(x)
        known.append((projection, [matched.projection]))
    x = layers.UnitNormalization(name="unit_length")(x)
    dense = layers.Dense(last[0].shape[1], activation=task.activation, name="probabilities")
    head = named_head(bottleneck, dense(x))
    for layer, weights in [*known, (dense, last)]:
        layer.set_weights(weights)
    return head

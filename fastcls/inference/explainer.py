"""Where in an image a classifier sees a class."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fastcls.data.decoder import Decoder, UnreadableImage, affordable_pixels
from fastcls.data.resizing import Resizing
from fastcls.errors import OptionError, closest
from fastcls.files import PathLike
from fastcls.inference.cams import CAMS, spread_out
from fastcls.inference.classifier import Classifier
from fastcls.inference.inputs import Images, Single, each, pixels
from fastcls.inference.model_file import layer_names
from fastcls.inference.watched import NO_LOGITS, WatchedNetwork
from fastcls.machine import cores
from fastcls.parallel import ahead
from fastcls.specs import HEADS, ExplainSpec, check_at_least, no_effect
from fastcls.specs.options import as_spec

_BATCH = 16


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where a classifier sees classes in one image.

    Attributes:
        index: Which image it is of those given, from 0; the images of a folder count one by one.
        image: The image: its path, its bytes, an array or a Pillow image.
        class_names: The K classes that are explained; none where none is predicted, or it is unreadable.
        confidences: Their probabilities.
        maps: (K, H, W) float32 of the size that the model takes, between 0 and 1: the evidence for each
            class, as a share of the highest in the image. A map is 0 where nothing speaks for the class.
        probabilities: (C,) float32 of all classes; None when the image is unreadable.
        reason: Why it is unreadable; "" when it is not.
        resizing: What of the image the maps are of.
    """

    index: int
    image: Single = field(repr=False)
    class_names: tuple[str, ...]
    confidences: tuple[float, ...]
    maps: np.ndarray = field(repr=False)
    probabilities: np.ndarray | None = field(default=None, repr=False)
    reason: str = ""
    resizing: Resizing = field(default_factory=Resizing)

    @property
    def path(self) -> Path | None:
        """Its file; None for bytes, an array or a Pillow image."""
        return self.image if isinstance(self.image, Path) else None


def explain(
    classifier: Classifier | PathLike,
    images: Images,
    how: ExplainSpec | Mapping[str, Any] | None = None,
    *,
    batch_size: int = _BATCH,
    max_pixels: int | None = None,
) -> list[Explanation]:
    """Show where in images a classifier sees a class, by Grad-CAM or Grad-CAM++.

    The gradient is that of the class's logit, before the softmax or sigmoid, with respect to the map.

    Args:
        classifier: The classifier, or the path of a run or of a classifier's file.
        images: As `Classifier.predict` takes them.
        how: Which classes are explained, in which layer, by which method; by default the predicted ones, by
            Grad-CAM in the last map before the head.
        batch_size: Images per forward pass.
        max_pixels: See `Classifier.predict`.

    Returns:
        An explanation per image, in order; an unreadable image is one with a reason.

    Raises:
        DataError: A folder holds no image, or something is no image at all.
        OptionError: There is no such class or layer, the classifier has no map or no logits, or an option has
            no effect.
    """
    found = classifier if isinstance(classifier, Classifier) else Classifier.load(classifier)
    explainer = Explainer(found, as_spec(ExplainSpec, how, "how"))
    return list(explainer.stream(images, batch_size=batch_size, max_pixels=max_pixels))


class Explainer:
    """A classifier that is ready to be explained.

    Args:
        classifier: The classifier.
        how: Which classes are explained, in which layer, by which method.

    Raises:
        OptionError: As in `explain`.

    Attributes:
        network: Its network, of which a map is watched.
    """

    def __init__(self, classifier: Classifier, how: ExplainSpec) -> None:
        if how.threshold is not None and "threshold" in classifier.task.pointless_answers:
            raise OptionError(no_effect(["--threshold"], f"{classifier.task} per image"))
        self.classifier, self.how = classifier, how
        self._label = _label_of(classifier, how.class_name)
        _look_ahead(classifier, how.layer)
        self.network = WatchedNetwork(classifier.model, how.layer)

    def stream(
        self, images: Images, *, batch_size: int = _BATCH, max_pixels: int | None = None
    ) -> Iterator[Explanation]:
        """Explain images one after the other, in bounded memory; see `explain`."""
        check_at_least("batch_size", batch_size, 1)
        if max_pixels is not None:
            check_at_least("max_pixels", max_pixels, 1)
        decoder = Decoder(self.classifier.pixels, max_pixels or affordable_pixels(cores()))
        read = ahead(partial(_read, decoder), each(images), threads=cores(), depth=2 * batch_size)
        numbered = enumerate(read)
        while batch := list(itertools.islice(numbered, batch_size)):
            yield from self._explain(batch)

    def _explain(self, batch: Sequence[tuple[int, _Read]]) -> Iterator[Explanation]:
        readable = [one.pixels for _, one in batch if one.pixels is not None]
        resizing = Decoder(self.classifier.pixels).resizing
        found = self._maps(np.stack(readable)) if readable else iter(())
        for index, one in batch:
            if one.pixels is None:
                maps = np.zeros((0, *self.classifier.size), np.float32)
                yield Explanation(index, one.image, (), (), maps, reason=one.reason)
                continue
            labels, maps, probabilities = next(found)
            names = tuple(self.classifier.class_names[label] for label in labels)
            known = names, tuple(float(probabilities[label]) for label in labels), maps
            yield Explanation(index, one.image, *known, probabilities, resizing=resizing)

    def _maps(self, images: np.ndarray) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
        """Labels, maps (K, H, W) and probabilities (C,) of each of some images (B, H, W, 3)."""
        watched, size = self.network.forward(images), self.classifier.size
        chosen = [self._choose(probabilities) for probabilities in watched.probabilities]
        rounds = []
        for place in range(max(map(len, chosen))):
            labels = np.array([own[place] if place < len(own) else 0 for own in chosen])
            rounds.append(CAMS[self.how.method](watched.maps, watched.gradients(labels)))
        for number, (own, probabilities) in enumerate(zip(chosen, watched.probabilities, strict=True)):
            maps = [spread_out(rounds[place][number], size) for place in range(len(own))]
            yield own, np.stack(maps) if maps else np.zeros((0, *size), np.float32), probabilities

    def _choose(self, probabilities: np.ndarray) -> list[int]:
        """The labels to explain of an image."""
        if self._label is not None:
            return [self._label]
        if self.how.top_k:
            order: list[int] = probabilities.argsort(kind="stable")[::-1].tolist()
            return order[: self.how.top_k]
        ranked = self.classifier.rank(probabilities, self.how.threshold)
        return ranked[: self.classifier.task.answers]


def _label_of(classifier: Classifier, class_name: str | None) -> int | None:
    if class_name is None:
        return None
    if class_name not in classifier.class_names:
        raise OptionError(
            f"The classifier has no class {class_name!r}. The closest are "
            f"{closest(class_name, classifier.class_names)}"
        )
    return classifier.class_names.index(class_name)


def _look_ahead(classifier: Classifier, layer: str | None) -> None:
    """Refuse what cannot be explained, as far as that is known before Keras loads the model for seconds."""
    kind = dict(classifier.provenance.get("head") or {}).get("kind")
    if kind in HEADS and HEADS[kind].votes:
        raise OptionError(NO_LOGITS)
    names = layer_names(classifier.source) if layer and classifier.is_of_file and classifier.source else ()
    if names and layer and layer not in names:
        raise OptionError(f"The classifier has no layer {layer!r}. The closest are {closest(layer, names)}")


@dataclass(frozen=True, eq=False)
class _Read:
    """An image, and what the model takes of it, or why there is nothing."""

    image: Single
    pixels: np.ndarray | None
    reason: str = ""


def _read(decoder: Decoder, image: Single) -> _Read:
    try:
        return _Read(image, pixels(decoder, image))
    except UnreadableImage as error:
        return _Read(image, None, str(error))

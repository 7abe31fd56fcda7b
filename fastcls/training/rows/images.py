"""Feeds image files to a training: decoded by the one decoder, augmented anew in each epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fastcls import files
from fastcls.cache.samples import SampleRow
from fastcls.data.dataset import Dataset
from fastcls.data.decoder import Decoder, UnreadableImage, read_bytes
from fastcls.data.splitter import require_train_part
from fastcls.data.views import augment
from fastcls.errors import DataError
from fastcls.machine import available_memory, cores
from fastcls.parallel import ahead
from fastcls.specs import Recipe
from fastcls.tasks import ONE_LABEL, Task
from fastcls.training.rows.sampling import draw_images, epoch_random
from fastcls.wording import count_of

# The network needs memory too.
_MEMORY_SHARE = 4
# Images that are decoded together for validation, in batches.
_BLOCK_BATCHES = 4


class Images:
    """Image files as pixels of one size.

    Each is read once at the beginning. Those that fit into a quarter of the available memory are kept, else
    they are decoded again when they are needed.

    Args:
        paths: The files.
        decoder: Makes their pixels.

    Attributes:
        paths: As given.
        rule: How their pixels are made.
        size: (height, width) in pixels.
        unreadable: Why an image cannot be used, by its place in `paths`.
        digests: Identity of each image; "" for unreadable ones.
    """

    def __init__(self, paths: Sequence[Path], decoder: Decoder) -> None:
        cv2.setNumThreads(1)  # images are decoded side by side, each by one thread
        self.paths, self.rule, self.size = paths, decoder.rule, decoder.rule.size
        self._decoder = decoder
        self.unreadable: dict[int, str] = {}
        self.digests = [""] * len(paths)
        fits = len(paths) * self.size[0] * self.size[1] * 3 <= available_memory() // _MEMORY_SHARE
        self._kept = np.empty((len(paths), *self.size, 3), np.uint8) if fits else None
        for _ in ahead(self._try, range(len(paths)), threads=cores(), depth=4 * cores()):
            pass

    def __getitem__(self, place: int) -> np.ndarray:
        """Pixels (H, W, 3) uint8 RGB of an image."""
        return self._decoder.read(self.paths[place]) if self._kept is None else self._kept[place]

    def _try(self, place: int) -> None:
        try:
            data = read_bytes(self.paths[place])
            pixels = self._decoder.decode(data)
        except UnreadableImage as error:
            self.unreadable[place] = str(error)
            return
        self.digests[place] = files.digest(data)
        if self._kept is not None:
            self._kept[place] = pixels


def read_images(dataset: Dataset, decoder: Decoder) -> tuple[Images, np.ndarray, list[SampleRow]]:
    """Read the images of a data set, but those of its test part.

    Returns:
        The images as pixels, the places (N,) int64 of those that could be read, and what is known of these.

    Raises:
        DataError: There is none to train on, or none could be read.
    """
    require_train_part(dataset.given, (sample.split for sample in dataset.samples))
    samples = [sample for sample in dataset.samples if sample.split != "test"]
    images = Images([dataset.locate(sample) for sample in samples], decoder)
    readable = [place for place in range(len(samples)) if place not in images.unreadable]
    if not readable:
        raise DataError(f"None of the {count_of(len(samples), 'image')} of {dataset.given} could be read")
    rows = [
        SampleRow(sample.path, dataset.names_of(sample), sample.split, sample.group, images.digests[place])
        for place, sample in enumerate(samples)
        if place not in images.unreadable
    ]
    return images, np.array(readable), rows


class ImageFeed:
    """One pass over some images per epoch: a `Feed`, and a `tf.data.Dataset` for Keras's own training.

    Order and looks depend on seed and epoch alone. The order is that of a `Feeder` over the same samples, if
    their rows fit into one of its blocks.

    Args:
        images: The images.
        places: Which of them.
        labels: (N, ...) of these.
        batch_size: Images per batch; only the last batch of a pass has fewer.
        seed: None keeps the images in order and as they are.
        recipe: What happens to each image; None for nothing.
        task: What the labels are of.
        balanced: See `Feeder`.
    """

    def __init__(
        self,
        images: Images,
        places: np.ndarray,
        labels: np.ndarray,
        batch_size: int,
        seed: int | None = None,
        recipe: Recipe | None = None,
        *,
        task: Task = ONE_LABEL,
        balanced: bool = False,
    ) -> None:
        self.task = task
        self._images, self._places, self._labels = images, places, labels
        self._seed, self._recipe, self._balanced = seed, recipe, balanced
        self.batch_size, self.dtype = batch_size, np.dtype(np.uint8)
        self.shape: tuple[int, ...] = (*images.size, 3)
        self.images = len(labels)
        self.label_shape, self.label_dtype = labels.shape[1:], labels.dtype

    def batches(self, epoch: int, least: int = 1, *, first: int = 0) -> Any:
        """A `tf.data.Dataset` of images (B, H, W, 3) uint8 and labels (B, ...), made in parallel.

        Args:
            epoch: Counted from 1.
            least: Images that the last batch must have, one per device: with a seed, an epoch leaves out
                those of a smaller one; without, all batches are smaller instead.
            first: How many batches to leave out, as they were trained on.
        """
        import tensorflow as tf

        order, size = self._order(epoch), self.batch_size
        if self._seed is None:
            sizes = range(min(size, len(order)) // least * least, 0, -least)
            size = next((b for b in sizes if not 0 < len(order) % b < least), size)
        elif len(order) > size and len(order) % size < least:
            order = order[: len(order) - len(order) % size]

        def load(row: Any, time: Any) -> np.ndarray:
            return self._look(int(row), epoch, int(time))

        def read(row: Any, time: Any, label: Any) -> Any:
            return tf.ensure_shape(tf.numpy_function(load, [row, time], tf.uint8), self.shape), label

        left = slice(first * size, None)
        rows = tf.data.Dataset.from_tensor_slices(
            (order[left], _times(order)[left], self._labels[order[left]])
        )
        looks = rows.map(read, num_parallel_calls=cores(), deterministic=True)
        return looks.batch(size).prefetch(2)

    def blocks(self, epoch: int = 1) -> Iterator[tuple[Any, Any, np.ndarray]]:
        """One pass; see `Feed`."""
        import tensorflow as tf

        order = self._order(epoch)
        draws = zip(order.tolist(), _times(order).tolist(), strict=True)
        looks = ahead(
            lambda draw: self._look(draw[0], epoch, draw[1]),
            draws,
            threads=cores(),
            depth=2 * self.batch_size,
        )
        size = self.batch_size * _BLOCK_BATCHES
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            pixels = np.stack([next(looks) for _ in rows])
            yield tf.constant(pixels), tf.constant(self._labels[rows]), np.arange(len(rows))

    def _order(self, epoch: int) -> np.ndarray:
        return draw_images(self._labels, epoch_random(self._seed, epoch), self.task, balanced=self._balanced)

    def _look(self, row: int, epoch: int, time: int) -> np.ndarray:
        place = int(self._places[row])
        pixels = self._images[place]
        if self._recipe is None:
            return pixels
        # An image that is drawn again looks anew each time.
        again = (time,) if time else ()
        return augment(pixels, self._recipe, (self._seed or 0, self._images.digests[place], epoch, *again))


def _times(order: np.ndarray) -> np.ndarray:
    """How often each has come before: (N,) -> (N,) int64.

    >>> _times(np.array([5, 3, 5, 5, 3])).tolist()
    [0, 0, 1, 2, 1]
    """
    sorting = np.argsort(order, kind="stable")
    ordered, times = order[sorting], np.empty(len(order), np.int64)
    times[sorting] = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    return times

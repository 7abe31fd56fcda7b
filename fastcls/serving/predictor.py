"""Encoded images in, what a classifier says of them out, for many requests at once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from fastcls.data.decoder import Decoder
from fastcls.inference.classifier import Classifier
from fastcls.inference.inputs import Decoded, decode
from fastcls.inference.results import ImageResult
from fastcls.machine import cores, keep_freed_memory
from fastcls.serving.batcher import Batcher, Forward
from fastcls.serving.counters import Counters
from fastcls.serving.errors import busy
from fastcls.specs.serving import ServeSpec

_LOADING_S = 5
_CLOSING_S = 10


class Predictor:
    """A classifier that many ask at once.

    Args:
        classifier: One of a file.
        spec: Batches and limits.
        counters: Where images and batches are counted.
        on_failure: Called, on another thread, with the error where the classifier cannot be made ready.
    """

    def __init__(
        self,
        classifier: Classifier,
        spec: ServeSpec,
        counters: Counters,
        on_failure: Callable[[Exception], None],
    ) -> None:
        self.classifier, self.digest = classifier, classifier.digest
        self._spec, self._counters, self._held = spec, counters, 0
        self._decoder = Decoder(classifier.pixels, spec.limits.max_pixels)
        self._decoding = ThreadPoolExecutor(cores(), thread_name_prefix="fastcls-decode")
        self._batcher = Batcher(
            self._prepare,
            batch_size=spec.batches.batch_size,
            max_wait_s=spec.batches.max_wait / 1000,
            on_failure=on_failure,
        )

    @property
    def is_ready(self) -> bool:
        """Whether the classifier is loaded and has forwarded its first images."""
        return self._batcher.is_ready

    @property
    def held(self) -> int:
        """Images that are decoded, wait or are forwarded."""
        return self._held

    def start(self) -> None:
        """Make the classifier ready, on its thread."""
        self._batcher.start()

    def close(self) -> None:
        """Forward what waits, and end."""
        self._batcher.close(_CLOSING_S if self.is_ready else 0)
        self._decoding.shutdown(wait=False, cancel_futures=True)

    async def predict(self, images: Sequence[bytes]) -> list[ImageResult]:
        """What is said of encoded images, in order.

        Raises:
            HTTPException: The classifier is not ready, or there is no room for so many images now.
        """
        if not self.is_ready:
            raise busy("The classifier is being loaded", seconds=_LOADING_S)
        with self._room(len(images)):
            return list(await asyncio.gather(*map(self._predict, images)))

    async def _predict(self, image: bytes) -> ImageResult:
        with self._batcher.coming():
            loop = asyncio.get_running_loop()
            decoded = await loop.run_in_executor(self._decoding, decode, self._decoder, image)
            if decoded.pixels is None:
                self._counters.add("unreadable_images")
                return ImageResult(0, None, None, self.classifier, decoded.reason)
            answer = self._batcher.submit(decoded.pixels)
        result: ImageResult = await asyncio.wrap_future(answer)
        return result

    @contextlib.contextmanager
    def _room(self, count: int) -> Iterator[None]:
        if self._held + count > self._spec.limits.queue:
            raise busy("Too many images are waiting")
        self._hold(count)
        try:
            yield
        finally:
            self._hold(-count)

    def _hold(self, count: int) -> None:
        self._held += count
        self._counters.add("held_images", count)

    def _prepare(self) -> Forward:
        """Load the classifier, convert it for this machine, and forward batches of several sizes."""
        keep_freed_memory()
        self.classifier.keep()
        nothing = np.zeros((*self.classifier.size, 3), np.uint8)
        size = self._spec.batches.batch_size
        for count in {1, 2, 4, 8, size}:
            self._predict_batch([nothing] * min(count, size))
        self._counters.add("ready")
        return self._forward

    def _forward(self, images: list[np.ndarray]) -> list[ImageResult]:
        started = time.perf_counter()
        results = self._predict_batch(images)
        self._counters.add("forward_seconds", time.perf_counter() - started)
        self._counters.add("batches")
        self._counters.add("images", len(images))
        return results

    def _predict_batch(self, images: list[np.ndarray]) -> list[ImageResult]:
        return self.classifier.forward([Decoded(None, "", None, image) for image in images])

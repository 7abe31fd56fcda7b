"""Where in an image the served classifier sees its classes."""

from __future__ import annotations

import asyncio
import base64
import logging
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

from fastcls.errors import OptionError
from fastcls.inference.classifier import Classifier
from fastcls.inference.explainer import Explainer
from fastcls.inference.overlays import encoded, overlay
from fastcls.serving.errors import busy, refused
from fastcls.specs.explaining import DrawSpec, ExplainSpec
from fastcls.specs.serving import LimitSpec

_MOST, _WAITING = 3, 8
logger = logging.getLogger(__name__)
_SIZE = 640


class Explanations:
    """Explains images, one at a time, by the Keras model of the classifier's file.

    It is loaded for the first image, and is another than the one that predicts, which may run without Keras.

    Args:
        classifier: The one that is served.
        limits: What is refused.
    """

    def __init__(self, classifier: Classifier, limits: LimitSpec) -> None:
        self._classifier, self._limits, self._held = classifier, limits, 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="fastcls-explain")

    def close(self) -> None:
        """End its thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def explain(self, image: bytes) -> list[dict[str, Any]]:
        """The most probable classes with a picture each, on which the evidence for the class is in colors.

        Raises:
            HTTPException: The classifier cannot be explained, the image cannot be read, or many wait.
        """
        if self._held >= _WAITING:
            raise busy("Too many explanations are waiting", seconds=2)
        self._held += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self._explain, image)
        finally:
            self._held -= 1

    @cached_property
    def _explainer(self) -> Explainer:
        try:
            classifier = Classifier.load(str(self._classifier.source))
            is_same = classifier.digest == self._classifier.digest
            _ = classifier.model  # which is loaded when it is asked for
        except OptionError as error:  # it tells of files of this machine
            logger.error("%s", error)
            is_same = False
        if not is_same:
            raise refused(409, "The classifier's file has changed. The server must be started again")
        return Explainer(classifier, ExplainSpec(top_k=min(_MOST, len(classifier.class_names))))

    def _explain(self, image: bytes) -> list[dict[str, Any]]:
        if self._classifier.is_export:
            raise refused(409, "An export has no Keras model, which shows where a class is seen")
        try:
            explainer = self._explainer
        except OptionError as error:
            raise refused(409, str(error)) from error
        (explanation,) = explainer.stream(image, batch_size=1, max_pixels=self._limits.max_pixels)
        if explanation.reason:
            raise refused(422, explanation.reason)
        classes = zip(explanation.class_names, explanation.confidences, strict=True)
        return [
            {
                "class": name,
                "confidence": round(confidence, 6),
                "picture": _address(encoded(overlay(explanation, place, DrawSpec(size=_SIZE)), ".jpg")),
            }
            for place, (name, confidence) in enumerate(classes)
        ]


def _address(picture: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"

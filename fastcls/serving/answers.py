"""What a client is told, as JSON."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

import fastcls
from fastcls.inference.classifier import Classifier
from fastcls.inference.results import ImageResult
from fastcls.specs.serving import LimitSpec


class Confidence(BaseModel):
    """A class, and how probable it is."""

    class_name: str = Field(alias="class")
    confidence: float


class Answer(BaseModel):
    """What is said of an image; of one that cannot be read, why."""

    name: str = Field(description="What the client calls the file.")
    predictions: list[Confidence] = Field(
        description="The predicted classes: one, or with several labels any number."
    )
    scores: list[Confidence] = Field(description="The most probable classes, whichever are predicted.")
    unfamiliar: bool | None = Field(
        None, description="Whether it is unlike the training images, where that is known."
    )
    unfamiliarity: float | None = Field(None, description="Above 1, it is unlike the training images.")
    error: str | None = Field(None, description="Why it cannot be read.")


class Answers(BaseModel):
    """What is said of the images of a request, in their order."""

    model: str = Field(description="Digest of the classifier's file.")
    images: list[Answer]


class Problem(BaseModel):
    """Why there is no answer."""

    detail: str


def told(name: str, result: ImageResult, top: int) -> dict[str, Any]:
    """What is said of an image, as `Answer` describes it."""
    if result.probabilities is None:
        return {"name": name, "predictions": [], "scores": [], "error": result.reason}
    predictions = result.top(result.classifier.task.answers)
    answer = {"name": name, "predictions": _named(predictions), "scores": _named(result.scores(top))}
    if result.unfamiliarity is None:
        return answer
    mark = {"unfamiliar": result.is_unfamiliar, "unfamiliarity": round(result.unfamiliarity, 4)}
    return {**answer, **mark}


def described(classifier: Classifier, digest: str, limits: LimitSpec) -> dict[str, Any]:
    """What clients may know of a classifier and its server: nothing of the files of this machine."""
    return {
        "fastcls": fastcls.__version__,
        "model": digest,
        "class_names": classifier.class_names,
        "task": classifier.task.name,
        "thresholds": classifier.thresholds,
        "size": classifier.size,
        "unfamiliar": classifier.familiarity is not None,
        "explains": not classifier.is_export,
        "limits": {
            "bytes": limits.max_bytes,
            "images": limits.max_images,
            "pixels": limits.max_pixels,
            "seconds": limits.timeout,
        },
    }


def _named(classes: list[tuple[str, float]]) -> list[dict[str, Any]]:
    return [{"class": name, "confidence": round(value, 6)} for name, value in classes]

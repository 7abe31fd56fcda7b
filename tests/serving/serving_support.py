"""A server inside of the test's process, of a classifier that tells by the mean color."""

from __future__ import annotations

import asyncio
import contextlib

import cv2
import httpx
import numpy as np

from fastcls.inference.classifier import Classifier
from fastcls.serving.application import create_app
from fastcls.specs.serving import ServeSpec

CLASSES = ("red", "green", "blue")
SIZE = (12, 16)


def photo(class_name, suffix=".png", *, seed=0, shape=(30, 40)):
    """The bytes of a noisy image of a color."""
    image = np.random.default_rng(seed).integers(0, 120, (*shape, 3), np.uint8)
    image[..., 2 - CLASSES.index(class_name)] += 80  # OpenCV writes BGR
    return cv2.imencode(suffix, image)[1].tobytes()


@contextlib.asynccontextmanager
async def served(path, *, ready=True, **limits):
    """A client of a server that runs inside, and the server's parts as `client.service`."""
    batches = {name: limits.pop(name) for name in ("batch_size", "max_wait") if name in limits}
    address = {name: limits.pop(name) for name in ("host", "allow_host") if name in limits}
    app = create_app(Classifier.load(path), ServeSpec(address, batches, limits))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
            client.service = app.state.service
            while ready and not client.service.predictor.is_ready:
                await asyncio.sleep(0.01)
            yield client


def metrics_of(text):
    """The values of a page of Prometheus, by name with labels."""
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}

"""The HTTP application: what is asked, and what answers it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import resources
from typing import Any, TypeVar

from fastapi import FastAPI, Query, Request
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, PlainTextResponse, Response

import fastcls
from fastcls.inference.classifier import Classifier
from fastcls.serving.answers import Answers, Problem, described, told
from fastcls.serving.counters import Counters
from fastcls.serving.errors import busy, refused
from fastcls.serving.explanations import Explanations
from fastcls.serving.guard import Guard
from fastcls.serving.predictor import Predictor
from fastcls.serving.uploads import Upload, Uploads
from fastcls.specs.serving import ServeSpec

T = TypeVar("T")
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_REFUSALS = {
    400: "There is no image, or the form is damaged.",
    408: "The request did not arrive in time.",
    413: "The request is too large, or has too many images.",
    422: "No image can be read.",
    503: "The classifier is being loaded, or too many images wait: send it again after Retry-After seconds.",
}
_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"images": {"type": "array", "items": {"type": "string", "format": "binary"}}},
            }
        },
        "image/*": {"schema": {"type": "string", "format": "binary"}},
    },
}
_ABOUT_IMAGES: dict[str, Any] = {
    "openapi_extra": {"requestBody": _BODY},
    "responses": {status: {"model": Problem, "description": text} for status, text in _REFUSALS.items()},
}
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Service:
    """A classifier that is served, with all that belongs to it."""

    spec: ServeSpec
    predictor: Predictor
    explanations: Explanations
    uploads: Uploads
    counters: Counters

    @classmethod
    def of(
        cls,
        classifier: Classifier,
        spec: ServeSpec,
        on_failure: Callable[[Exception], None],
        counters: Counters,
    ) -> Service:
        """Of a classifier that is loaded and not yet ready."""
        predictor = Predictor(classifier, spec, counters, on_failure)
        return cls(spec, predictor, Explanations(classifier, spec.limits), Uploads(spec.limits), counters)

    async def read(self, request: Request) -> list[Upload]:
        """The images of a request.

        Raises:
            HTTPException: They are refused, or do not arrive in time.
        """
        with self.uploads.room() as room:
            try:
                return await asyncio.wait_for(room.read(request), self.spec.limits.timeout)
            except asyncio.TimeoutError as error:
                raise refused(408, "The request did not arrive in time (--timeout)", close=True) from error
            except ClientDisconnect as error:
                raise refused(400, "The request is not complete", close=True) from error

    async def in_time(self, answer: Awaitable[T]) -> T:
        """An answer.

        Raises:
            HTTPException: It takes too long.
        """
        try:
            return await asyncio.wait_for(answer, self.spec.limits.timeout)
        except asyncio.TimeoutError as error:
            raise busy("The answer took too long (--timeout)") from error


def create_app(
    classifier: Classifier,
    spec: ServeSpec,
    on_failure: Callable[[Exception], None] | None = None,
    counters: Counters | None = None,
) -> FastAPI:
    """The application that serves a classifier.

    Args:
        classifier: A loaded one.
        spec: How it is served.
        on_failure: Called, on another thread, with the error where the classifier cannot be made ready.
        counters: Those that several processes share; None for its own.
    """
    service = Service.of(classifier, spec, on_failure or _tell, counters or Counters())
    app = FastAPI(
        title="fastcls",
        description="Classes of images.",
        version=fastcls.__version__,
        docs_url=None,  # these pages load scripts from another host
        redoc_url=None,
        lifespan=lambda _: _life(service),
    )
    app.state.service = service
    _add_predictions(app, service)
    _add_states(app, service)
    _add_page(app)
    app.add_middleware(Guard, address=spec.address, counters=service.counters)
    return app


@asynccontextmanager
async def _life(service: Service) -> AsyncIterator[None]:
    service.predictor.start()
    yield
    service.explanations.close()
    await asyncio.get_running_loop().run_in_executor(None, service.predictor.close)


def _tell(error: Exception) -> None:
    logger.error("The classifier cannot be used: %s", error)


def _add_predictions(app: FastAPI, service: Service) -> None:
    @app.post("/predict", summary="Classify images", response_model=Answers, **_ABOUT_IMAGES)
    async def predict(
        request: Request, top: int = Query(5, ge=0, description="Classes in `scores`.")
    ) -> JSONResponse:
        uploads = await service.read(request)
        results = await service.in_time(service.predictor.predict([upload.data for upload in uploads]))
        images = [told(upload.name, result, top) for upload, result in zip(uploads, results, strict=True)]
        unread = [image["error"] for image in images if "error" in image]
        if len(unread) == len(images):
            raise refused(422, unread[0])
        return JSONResponse({"model": service.predictor.digest, "images": images})

    @app.post("/explain", summary="Where in an image the most probable classes are seen", **_ABOUT_IMAGES)
    async def explain(request: Request) -> JSONResponse:
        uploads = await service.read(request)
        if len(uploads) > 1:
            raise refused(400, f"One image is explained at a time. Received: {len(uploads)}")
        explained = await service.in_time(service.explanations.explain(uploads[0].data))
        return JSONResponse({"model": service.predictor.digest, "explained": explained})


def _add_states(app: FastAPI, service: Service) -> None:
    @app.get("/health", summary="Whether the server lives")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/ready", summary="Whether the classifier is loaded", responses={503: {"model": Problem}})
    async def ready() -> dict[str, str]:
        if not service.predictor.is_ready:
            raise busy("The classifier is being loaded")
        return {"status": "ready"}

    @app.get("/metadata", summary="What is served")
    async def metadata() -> dict[str, Any]:
        predictor = service.predictor
        return described(predictor.classifier, predictor.digest, service.spec.limits)

    @app.get("/metrics", summary="Counters for Prometheus", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(service.counters.render(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_page(app: FastAPI) -> None:
    """Serve the page and its files, which are read once: no path of a client is looked up in a folder."""
    shared, own = (
        resources.files(name).joinpath("static").iterdir() for name in ("fastcls", "fastcls.serving")
    )
    for file in (*shared, *own):
        kind = _TYPES[file.name.rpartition(".")[2]]
        path = "/" if file.name == "index.html" else f"/static/{file.name}"
        app.add_api_route(path, _sender(file.read_bytes(), kind), include_in_schema=False)


def _sender(content: bytes, kind: str) -> Callable[[], Awaitable[Response]]:
    async def send() -> Response:
        return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})

    return send

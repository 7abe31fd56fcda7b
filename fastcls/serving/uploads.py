"""The images of a request: the body of one image file, or a form with several."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass

from fastapi import HTTPException, Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from fastcls.serving.errors import busy, refused
from fastcls.specs.serving import LimitSpec

_FORM = "multipart/form-data"
# So many requests of the largest size may be in memory at once.
_REQUESTS = 8
_FIELDS, _FIELD_BYTES = 16, 4096
# What is wrong with a form is told to the client alone.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Upload:
    """An image file that was sent.

    Attributes:
        name: What the client calls it; "" for a body that is the file. It is text and names nothing here.
        data: Its bytes.
    """

    name: str
    data: bytes


class _InMemoryParser(MultiPartParser):
    spool_max_size = 1 << 62  # the body is bounded: nothing is written to a disk


class Uploads:
    """Reads requests, with a bound on what all of them hold in memory.

    Args:
        limits: What is refused.
    """

    def __init__(self, limits: LimitSpec) -> None:
        self._limits, self._held = limits, 0

    @contextlib.contextmanager
    def room(self) -> Iterator[_Room]:
        """Inside, a request may hold bytes in memory."""
        room = _Room(self)
        try:
            yield room
        finally:
            self._held -= room.held

    def take(self, count: int) -> None:
        """Take memory for bytes that have arrived."""
        self._held += count
        if self._held > _REQUESTS * self._limits.max_bytes:
            raise busy("Too many large requests at once", close=True)

    @property
    def limits(self) -> LimitSpec:
        """What is refused."""
        return self._limits


class _Room:
    def __init__(self, uploads: Uploads) -> None:
        self._uploads, self._limits, self.held = uploads, uploads.limits, 0

    async def read(self, request: Request) -> list[Upload]:
        """The images of a request, one or more.

        Raises:
            HTTPException: It is too large, has no image, or is no form where it says so.
        """
        self._require_small(self._announced(request))
        body = request.stream()
        try:
            return await self._read(request, body)
        except HTTPException:
            await self._drop_rest(body)
            raise

    async def _read(self, request: Request, body: AsyncGenerator[bytes, None]) -> list[Upload]:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM:
            uploads = await self._read_form(request, body)
        else:
            uploads = [Upload("", b"".join([chunk async for chunk in self._bounded(body)]))]
        if not any(upload.data for upload in uploads):
            raise refused(
                400, "There is no image in the request. Send an image file as the body, or files in a form"
            )
        return uploads

    async def _read_form(self, request: Request, body: AsyncGenerator[bytes, None]) -> list[Upload]:
        most = {"max_files": self._limits.max_images, "max_fields": _FIELDS, "max_part_size": _FIELD_BYTES}
        parser = _InMemoryParser(request.headers, self._bounded(body), **most)
        try:
            form = await parser.parse()
        except MultiPartException as error:
            status = 413 if "Maximum" in error.message or "exceeded" in error.message else 400
            raise refused(status, error.message, close=True) from error
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        return [Upload(file.filename or "", await file.read()) for file in files]

    async def _drop_rest(self, body: AsyncGenerator[bytes, None]) -> None:
        """Let a client send the rest, as far as it is not much: else it may not see why it is refused."""
        dropped = 0
        async for chunk in body:
            dropped += len(chunk)
            if dropped > self._limits.max_bytes:
                return

    def _announced(self, request: Request) -> int:
        """How much is refused before it is sent: what is far too large, or what a client asks about first."""
        length = request.headers.get("content-length", "0")
        if not length.isdecimal():
            raise refused(400, "Content-Length is no number", close=True)
        is_asked = "expect" in request.headers
        return int(length) // (1 if is_asked else 2)

    async def _bounded(self, body: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        async for chunk in body:
            self.held += len(chunk)
            self._uploads.take(len(chunk))
            self._require_small(self.held)
            yield chunk

    def _require_small(self, count: int) -> None:
        if count > self._limits.max_bytes:
            raise refused(413, f"More than {self._limits.max_upload:g} MB (--max-upload)", close=True)

"""What stands before the application: for whom it is, what browsers may do with it, what is counted; HEAD."""

from __future__ import annotations

import ipaddress
import time
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastcls.serving.counters import Counters
from fastcls.specs.serving import AddressSpec

_LOCAL = ("localhost", "127.0.0.1", "::1")
_ANY = ("0.0.0.0", "::")
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "media-src blob:; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """Refuses requests for unknown hosts and from pages of others, and counts the rest.

    HEAD is answered as GET is, without the body (RFC 9110, 9.3.2): FastAPI's routes answer 405.

    A page of another site can make a name of its own stand for 127.0.0.1 (DNS rebinding): its requests are
    told by that name. Where a server listens at all addresses, an address is no such name.

    Args:
        app: What is guarded.
        address: Whose names are known.
        counters: Where requests are counted.
    """

    def __init__(self, app: ASGIApp, *, address: AddressSpec, counters: Counters) -> None:
        self._app, self._counters = app, counters
        self._hosts = {*_LOCAL, *address.hosts} - {*_ANY}
        self._takes_addresses = address.host in _ANY

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asks_for_head = scope["method"] == "HEAD"
        answer = _Answer(send, has_body=not asks_for_head)
        refusal = self._refusal(Headers(scope=scope))
        started = time.perf_counter()
        asked = {**scope, "method": "GET"} if asks_for_head else scope
        try:
            await (refusal or self._app)(asked, receive, answer.send)
        finally:
            self._counters.answered(scope["path"], answer.status, time.perf_counter() - started)

    def _refusal(self, headers: Headers) -> ASGIApp | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._knows(host):
            detail = f"This server does not answer as {host[:100]!r}. Start it with --allow-host"
            return JSONResponse({"detail": detail}, 421)
        if origin is not None and not self._knows(origin.partition("://")[2]):
            return JSONResponse({"detail": "This server does not answer to pages of others"}, 403)
        return None

    def _knows(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            return name in self._hosts or (self._takes_addresses and bool(ipaddress.ip_address(name)))
        except ValueError:
            return False


class _Answer:
    def __init__(self, send: Send, *, has_body: bool) -> None:
        self._send, self._has_body, self.status = send, has_body, 500

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers: Any = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            if headers.get("Allow") == "GET":
                headers["Allow"] = "GET, HEAD"
        elif not self._has_body:
            message = {**message, "body": b""}
        await self._send(message)

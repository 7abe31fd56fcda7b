"""Files at web addresses: fetched within bounds of bytes and time, over HTTP and HTTPS alone."""

from __future__ import annotations

import contextlib
import http.client
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import fastcls
from fastcls.sizes import format_bytes

# Seconds that a server may be silent, and that an image may take in all.
SILENCE_S, TOTAL_S = 15.0, 60.0
MOST_BYTES = 64 << 20
_MOST_REDIRECTS = 5
_BLOCK = 1 << 16
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
# What may stand in an address as it is, "%" included: what is quoted already stays so.
_SAFE = "%/:=&?~#+!$,;'@()*[]"
_NO_RANGE = 200


class WebError(OSError):
    """A file cannot be fetched; the message is the reason, in one line.

    Attributes:
        status: What the server answered; 0 if it did not, or is not to blame.
        is_transient: Whether it may work a moment later.
    """

    def __init__(self, reason: str, status: int = 0, *, is_transient: bool = False) -> None:
        super().__init__(reason)
        self.status, self.is_transient = status, is_transient


@dataclass(frozen=True)
class Url:
    """The address of an image.

    Attributes:
        address: As it was given.
    """

    address: str

    def __str__(self) -> str:
        return self.address


def scheme_of(text: str) -> str:
    """The scheme of an address in lower case; "" for a path.

    >>> [scheme_of(text) for text in ("HTTPS://example.org/a.jpg", "photos/a.jpg", "C:/a.jpg")]
    ['https', '', '']
    """
    match = _SCHEME.match(text)
    return match[1].lower() if match else ""


def is_url(text: str) -> bool:
    """Whether a text is an address that `fetch` takes."""
    return scheme_of(text) in ("http", "https")


def fetch(address: str, start: int = 0, stop: int | None = None) -> bytes:
    """The bytes at an address, or some of them.

    Args:
        address: Of HTTP or HTTPS.
        start: The first byte.
        stop: The first byte that is not wanted; None for all to the end.

    Raises:
        WebError: They cannot be had: the server says no or nothing, they are too many, they come too
            slowly, or a redirection leads elsewhere than to HTTP and HTTPS.
    """
    with _opened(address, _range(start, stop)) as response:
        data = _read(response)
    return data[start:stop] if response.status == _NO_RANGE else data


def fetch_marked(address: str) -> tuple[bytes, str]:
    """The bytes at an address, and what `state` says of them.

    Raises:
        WebError: They cannot be had, as with `fetch`.
    """
    with _opened(address, {}) as response:
        return _read(response), _mark(response)


def fetch_into(address: str, file: BinaryIO) -> int:
    """Write the bytes at an address, however many; returns their number.

    Raises:
        WebError: They cannot be had, as with `fetch`.
    """
    with _opened(address, {}) as response:
        told, count = response.length, 0
        while block := response.read1(_BLOCK):
            count += file.write(block)
        _require_whole(told, count)
    return count


def state(address: str) -> tuple[int, str]:
    """Size in bytes of what is at an address, and a text that changes when it does: its tag, or its date.

    It asks for one byte: what is signed for reading, or made by a program, has no answer to HEAD.

    Raises:
        WebError: It cannot be had, or its size is not told.
    """
    with _opened(address, _range(0, 1)) as response:
        told = response.headers.get("Content-Range", "").rpartition("/")[2]
        size = int(told) if told.isdecimal() else response.length
        if size is None:
            raise WebError("the server does not tell its size")
        return size, _mark(response)


def _mark(response: Any) -> str:
    return response.headers.get("ETag") or response.headers.get("Last-Modified") or ""


def _range(start: int, stop: int | None) -> dict[str, str]:
    if start == 0 and stop is None:
        return {}
    return {"Range": f"bytes={start}-{'' if stop is None else stop - 1}"}


@contextlib.contextmanager
def _opened(address: str, headers: dict[str, str]) -> Iterator[Any]:
    """The response of a server; what goes wrong until it was read is a `WebError`."""
    quoted = urllib.parse.quote(address, safe=_SAFE)
    headers = {"User-Agent": f"fastcls/{fastcls.__version__}", **headers}
    try:
        if "@" in urllib.parse.urlsplit(quoted).netloc:
            raise WebError("addresses with a user's name or password are not supported")
        request = urllib.request.Request(quoted, headers=headers)  # looks at the host already
        with _opener().open(request, timeout=SILENCE_S) as response:
            yield response
    except WebError:
        raise
    except TimeoutError as error:
        raise _late() from error
    except urllib.error.HTTPError as error:
        is_transient = error.code in (408, 429) or error.code >= 500
        reason = f"the server answers {error.code} {_reason_of(error.reason)}"
        raise WebError(reason, error.code, is_transient=is_transient) from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise _late() from error
        is_transient = isinstance(error.reason, ConnectionError)
        raise WebError(_reason_of(error.reason), is_transient=is_transient) from error
    except (OSError, http.client.HTTPException, ValueError) as error:  # UnicodeError of a host's name too
        is_transient = isinstance(error, (ConnectionError, http.client.HTTPException))
        raise WebError(_reason_of(error), is_transient=is_transient) from error


def _opener() -> urllib.request.OpenerDirector:
    """What opens addresses: unlike Python's own, it knows no files, FTP or data."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = _MOST_REDIRECTS
    inf_msg = "after too many redirections: "

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not is_url(newurl):
            raise WebError(f"it is redirected to {newurl!r}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _read(response: Any) -> bytes:
    """The body of a response, within bounds."""
    told, until = response.length, time.monotonic() + TOTAL_S
    if told is not None and told > MOST_BYTES:
        raise _too_many()
    data = bytearray()
    while block := response.read1(_BLOCK):
        data += block
        if len(data) > MOST_BYTES:
            raise _too_many()
        if time.monotonic() > until:
            raise WebError(f"it takes longer than {TOTAL_S:g} s")
    _require_whole(told, len(data))
    return bytes(data)


def _require_whole(told: int | None, count: int) -> None:
    if told is not None and count < told:
        raise WebError(f"the connection ended after {count:,} of {told:,} bytes", is_transient=True)


def _too_many() -> WebError:
    return WebError(f"it has more than {format_bytes(MOST_BYTES)}")


def _late() -> WebError:
    return WebError(f"no answer within {SILENCE_S:g} s", is_transient=True)


def _reason_of(error: Any) -> str:
    reason = getattr(error, "strerror", None) or error
    return " ".join(str(reason).split()) or type(error).__name__

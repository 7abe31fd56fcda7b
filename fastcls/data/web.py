"""Images at web addresses: fetched within bounds of bytes and time, over HTTP and HTTPS alone."""

from __future__ import annotations

import http.client
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

import fastcls
from fastcls.data.image_formats import UnreadableImage
from fastcls.sizes import format_bytes

# Seconds that a server may be silent, and that an image may take in all.
SILENCE_S, TOTAL_S = 15.0, 60.0
MOST_BYTES = 64 << 20
_MOST_REDIRECTS = 5
_BLOCK = 1 << 16
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
# What may stand in an address as it is, "%" included: what is quoted already stays so.
_SAFE = "%/:=&?~#+!$,;'@()*[]"


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


def fetch(url: Url) -> bytes:
    """The bytes at an address.

    Raises:
        UnreadableImage: They cannot be had: the server says no or nothing, they are too many, they come too
            slowly, or a redirection leads elsewhere than to HTTP and HTTPS.
    """
    address = urllib.parse.quote(url.address, safe=_SAFE)
    headers = {"User-Agent": f"fastcls/{fastcls.__version__}"}
    try:
        request = urllib.request.Request(address, headers=headers)  # looks at the host already
        with _opener().open(request, timeout=SILENCE_S) as response:
            return _read(response)
    except TimeoutError as error:
        raise _unread(f"no answer within {SILENCE_S:g} s") from error
    except urllib.error.HTTPError as error:
        raise _unread(f"the server answers {error.code} {_reason_of(error.reason)}") from error
    except urllib.error.URLError as error:
        is_late = isinstance(error.reason, TimeoutError)
        reason = f"no answer within {SILENCE_S:g} s" if is_late else _reason_of(error.reason)
        raise _unread(reason) from error
    except (OSError, http.client.HTTPException, ValueError) as error:  # UnicodeError of a host's name too
        raise _unread(_reason_of(error)) from error


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

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not is_url(newurl):
            raise _unread(f"it is redirected to {newurl!r}")
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
            raise _unread(f"it takes longer than {TOTAL_S:g} s")
    if told is not None and len(data) < told:
        raise _unread(f"the connection ended after {len(data):,} of {told:,} bytes")
    return bytes(data)


def _too_many() -> UnreadableImage:
    return _unread(f"it has more than {format_bytes(MOST_BYTES)}")


def _unread(reason: str) -> UnreadableImage:
    return UnreadableImage(f"cannot be fetched: {reason}")


def _reason_of(error: Any) -> str:
    reason = getattr(error, "strerror", None) or error
    return " ".join(str(reason).split()) or type(error).__name__

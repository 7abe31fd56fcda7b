"""What a client is told in place of an answer."""

from __future__ import annotations

from fastapi import HTTPException

# The rest of what is being sent is not read: the connection ends with the answer.
_CLOSING = {"Connection": "close"}


def refused(status: int, detail: str, *, close: bool = False) -> HTTPException:
    """An error of the client: it should not send the same again."""
    return HTTPException(status, detail, _CLOSING if close else None)


def busy(detail: str, *, seconds: int = 1, close: bool = False) -> HTTPException:
    """The client may send the same again, after so many seconds."""
    return HTTPException(503, detail, {"Retry-After": str(seconds), **(_CLOSING if close else {})})

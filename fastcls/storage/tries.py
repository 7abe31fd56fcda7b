"""Trying again what may work a moment later, and saying what does not."""

from __future__ import annotations

import contextlib
import errno
import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

from fastcls import web
from fastcls.errors import FastclsError, StorageError
from fastcls.web import scheme_of

_TRIES, _WAIT_S, _LONGEST_S = 5, 0.25, 60.0
_TRANSIENT_STATUS = (408, 409, 425, 429, 500, 502, 503, 504)
_TRANSIENT_CODES = (
    *("ConditionalRequestConflict", "InternalError", "OperationAborted", "RequestTimeout"),
    *("ServiceUnavailable", "SlowDown", "Throttling", "ThrottlingException"),
)
_REFUSED_CODES = (
    *("AccessDenied", "AllAccessDisabled", "AuthorizationHeaderMalformed", "ExpiredToken"),
    *("InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch", "Forbidden"),
)
_CREDENTIALS = {
    "s3": "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; FSSPEC_S3_ANON=true for a public "
    "bucket; AWS_ENDPOINT_URL for a store other than Amazon's",
    "gs": "Set GOOGLE_APPLICATION_CREDENTIALS, or run: gcloud auth application-default login; "
    "FSSPEC_GS_TOKEN=anon for a public bucket",
    "hf": "Set HF_TOKEN, or run: hf auth login",
}
# Names of classes, as their packages may not be installed: of timeouts and connections that broke.
_TRANSIENT_ERRORS = {"ClientError", "ConnectionError", "HTTPClientError", "TimeoutError"}
_OF_THIS_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE}
_Result = TypeVar("_Result")


def tried(url: str, function: Callable[[], _Result]) -> _Result:
    """Call a function, again after a while if what goes wrong may be over then."""
    started = time.monotonic()
    for tries in range(1, _TRIES + 1):
        try:
            return function()
        except Exception as error:
            if getattr(error, "errno", None) in _OF_THIS_MACHINE:
                raise
            is_last = tries == _TRIES or time.monotonic() - started > _LONGEST_S
            if is_last or not _is_transient(error):
                raise _explained(url, error, tries) from error
        time.sleep(_WAIT_S * 2**tries * random.uniform(0.5, 1))
    raise AssertionError("unreachable")


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, web.WebError):
        return error.is_transient
    if isinstance(error, (FileNotFoundError, FileExistsError, PermissionError)):
        return code_of(error) in _TRANSIENT_CODES
    if _TRANSIENT_ERRORS & {cls.__name__ for cls in type(error).__mro__}:
        return _status_of(error) in (0, *_TRANSIENT_STATUS)
    return code_of(error) in _TRANSIENT_CODES or _status_of(error) in _TRANSIENT_STATUS


def _response_of(error: BaseException) -> dict[str, Any]:
    """What S3 answered, which s3fs keeps as the cause of its errors."""
    for each in (error, error.__cause__):
        if isinstance(getattr(each, "response", None), dict):
            return dict(each.response)  # type: ignore[union-attr]
    return {}


def code_of(error: BaseException) -> str:
    return str(_response_of(error).get("Error", {}).get("Code", ""))


def _status_of(error: BaseException) -> int:
    known = _response_of(error).get("ResponseMetadata", {}).get("HTTPStatusCode")
    answer = getattr(error, "response", None)  # of requests and httpx
    for value in (
        known,
        *(getattr(error, n, None) for n in ("status", "code")),
        getattr(answer, "status_code", 0),
    ):
        with contextlib.suppress(TypeError, ValueError):
            return int(value)  # type: ignore[arg-type]
    return 0


def _explained(url: str, error: Exception, tries: int) -> Exception:
    """The error that a user sees."""
    reason = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, FastclsError):
        return error
    if code_of(error) == "NoSuchBucket":
        return StorageError(
            f"The bucket of {url} does not exist. Check its name, and AWS_ENDPOINT_URL if it is set"
        )
    if isinstance(error, FileNotFoundError) or _status_of(error) in (404, 410):
        return missing(url)
    if isinstance(error, web.WebError):
        return StorageError(f"{url} cannot be fetched: {reason}")
    name = type(error).__name__
    is_refused = (
        isinstance(error, PermissionError) or "Credentials" in name or name == "DefaultCredentialsError"
    )
    if is_refused or code_of(error) in _REFUSED_CODES or _status_of(error) in (401, 403):
        help_ = _CREDENTIALS.get(
            {"gcs": "gs", "s3a": "s3"}.get(scheme_of(url), scheme_of(url)), "Check your credentials"
        )
        return StorageError(f"{url} is refused: {reason}. {help_}")
    after = f" ({tries} tries)" if tries > 1 else ""
    return StorageError(f"{url} cannot be used: {reason}{after}")


def missing(url: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, "there is no such object", url)

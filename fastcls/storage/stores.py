"""File systems of fsspec, one per scheme and process."""

from __future__ import annotations

import functools
import os
from typing import Any

from fastcls.errors import MissingExtraError, OptionError, shown
from fastcls.optional import require
from fastcls.web import scheme_of

S3 = ("s3", "s3a")
# Amazon and what speaks like it, Google, Hugging Face, Azure, the web; memory and files are for tests.
SCHEMES = (*S3, "gs", "gcs", "hf", "abfs", "abfss", "az", "http", "https", "memory", "file")


def file_system(url: str, *, retry: bool = True) -> Any:
    """The file system of a URL's scheme, shared by all threads of a process.

    Args:
        url: The URL.
        retry: Whether it may send a request again by itself, where it does so.

    Raises:
        OptionError: The scheme is unknown.
        MissingExtraError: Its package is not installed.
    """
    require_known(url)
    return _made(scheme_of(url), retry, os.getpid())


def forget() -> None:
    """Make new connections from now on, with what the environment says then."""
    _made.cache_clear()


def get_object(fs: Any, url: str) -> tuple[bytes, str]:
    """The bytes of an object of S3, and its tag, in one request."""
    bucket, key, version = fs.split_path(url)
    asked = {"Bucket": bucket, "Key": key, **({"VersionId": version} if version else {})}

    async def get() -> tuple[bytes, str]:
        answer = await fs._call_s3("get_object", **asked, **fs.req_kw)
        async with answer["Body"] as body:
            return await body.read(), answer.get("ETag", "")

    from fsspec.asyn import sync

    return sync(fs.loop, get)  # type: ignore[no-any-return]


def require_known(url: str) -> None:
    """Refuse a URL of a scheme that is no store: fsspec knows others too, of archives, caches and programs.

    Raises:
        OptionError: The scheme is unknown.
    """
    scheme = scheme_of(url)
    if scheme not in SCHEMES:
        raise OptionError(
            f"Unknown scheme {shown(scheme)}. Choose one of: {', '.join(SCHEMES)}. Received: {shown(url)}"
        )


@functools.cache
def _made(scheme: str, retry: bool, _process: int) -> Any:
    registry = require("fsspec.registry", purpose=f"{scheme}://", extra="remote")
    options: dict[str, Any] = {"use_listings_cache": False}
    if scheme in S3:
        # One layer tries again; a connection for each thread that reads.
        retries = {"mode": "standard", "total_max_attempts": 1}
        timeouts = {"connect_timeout": 10, "read_timeout": 20}
        options["config_kwargs"] = {"retries": retries, "max_pool_connections": 64, **timeouts}
        options["skip_instance_cache"] = True
    try:
        fs = registry.filesystem(scheme, **options)
    except ImportError as error:
        raise MissingExtraError(
            f"{scheme}:// needs a package that cannot be imported ({error}). "
            f"Install it with: pip install {'adlfs' if scheme.startswith('a') else repr('fastcls[remote]')}"
        ) from error
    if scheme in S3:
        fs.retries = 3 if retry else 1  # of each part of a large object
    return fs

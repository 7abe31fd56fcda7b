"""File systems of fsspec, one per scheme and process."""

from __future__ import annotations

import functools
import os
from typing import Any

from fastcls.errors import MissingExtraError, OptionError, closest, shown
from fastcls.optional import require
from fastcls.web import scheme_of

S3 = ("s3", "s3a")


def file_system(url: str, *, retry: bool = True) -> Any:
    """The file system of a URL's scheme, shared by all threads of a process.

    Args:
        url: The URL.
        retry: Whether it may send a request again by itself, where it does so.

    Raises:
        OptionError: The scheme is unknown.
        MissingExtraError: Its package is not installed.
    """
    return _made(scheme_of(url), retry, os.getpid())


def forget() -> None:
    """Make new connections from now on, with what the environment says then."""
    _made.cache_clear()


@functools.cache
def _made(scheme: str, retry: bool, _process: int) -> Any:
    registry = require("fsspec.registry", purpose=f"{scheme}://", extra="remote")
    if scheme not in (*registry.known_implementations, *registry.registry):
        known = sorted(registry.known_implementations)
        raise OptionError(f"Unknown scheme {shown(scheme)}://. The closest are: {closest(scheme, known)}")
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
            "Install it with: pip install 'fastcls[remote]'"
        ) from error
    if scheme in S3:
        fs.retries = 3 if retry else 1  # of each part of a large object
    return fs

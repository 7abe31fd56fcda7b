"""What a cache knows of its data set, written by hand."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastcls.cache.listing import Report
from fastcls.cache.samples import Failure, SampleRow
from fastcls.cache.store import Cache
from fastcls.errors import CacheError


def write_listing(
    cache: Cache,
    rows: Iterable[SampleRow] | None = None,
    failures: list[Failure] | None = None,
    **changes: Any,
) -> None:
    """Write the tables and the report of the only data set of a cache; what is not given stays."""
    served = cache.serving("data", Path("/nowhere/data"))
    report, before = Report(data="/nowhere/data", root="/nowhere/data"), []
    with contextlib.suppress(CacheError):
        report, before = served.listing.report(), served.listing.failures()
    served.listing.write(replace(report, **changes), rows, before if failures is None else failures)

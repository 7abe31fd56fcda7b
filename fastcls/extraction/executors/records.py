"""What came of a shard task, as JSON that another machine reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypedDict

from fastcls.cache.samples import FileState
from fastcls.extraction.reading import Reading
from fastcls.extraction.shard_tasks import ShardTask
from fastcls.extraction.worker import Results, ShardInfo, WorkerSpec
from fastcls.records import Amount, Count, made


class _Shard(TypedDict):
    path: str | None
    forwarded: Count
    rows: Count
    readings: list[tuple[str, str, int, int, int, str]]


class _Record(TypedDict):
    host: str
    seconds: Amount
    results: list[_Shard]


def as_record(results: Results, host: str, seconds: float) -> dict[str, Any]:
    """What came of a task.

    Args:
        results: Of it, for each cache.
        host: Who ran it.
        seconds: How long that took.
    """
    readings = [reading for info in results for reading in info.readings]
    return {
        "host": host,
        "seconds": round(seconds, 3),
        # An image that fails without a digest may not do so elsewhere, or later.
        "given_up": any(reading.reason and not reading.digest for reading in readings),
        "results": [
            {**asdict(info), "path": info.path.name if info.path else None, "readings": _packed(info)}
            for info in results
        ],
    }


def _packed(info: ShardInfo) -> list[list[Any]]:
    return [
        [r.path, r.digest, r.state.size, r.state.mtime_ns, r.state.ctime_ns, r.reason] for r in info.readings
    ]


def read_record(record: Mapping[str, Any], folders: Sequence[Path]) -> Results:
    """The results of a record.

    Args:
        record: As JSON has it.
        folders: Where the shards of each cache are.

    Raises:
        ValueError: It is no such record.
    """
    return tuple(
        ShardInfo(
            folder / info["path"] if info["path"] else None,
            info["forwarded"],
            info["rows"],
            tuple(
                Reading(path, digest, FileState(*state), why)
                for path, digest, *state, why in info["readings"]
            ),
        )
        for info, folder in zip(made(_Record, record)["results"], folders, strict=True)
    )


def nothing(spec: WorkerSpec) -> Results:
    """The results of a task that needs nothing."""
    return tuple(ShardInfo(None, 0, 0, ()) for _ in spec.caches)


def restricted(results: Results, task: ShardTask) -> tuple[Results, ShardTask | None]:
    """What a machine needs of the results of a task, and the images that it must read itself.

    Args:
        results: Of the task, from a machine that may have lacked other rows.
        task: The task, with the images that this machine lacks rows of.

    Returns:
        The results, and what is left of the task; None if that is nothing.
    """
    wanted = {(place, image.path) for image in task.images for place in image.caches}
    kept = tuple(
        replace(info, readings=tuple(r for r in info.readings if (place, r.path) in wanted))
        for place, info in enumerate(results)
    )
    known = {(place, reading.path) for place, info in enumerate(kept) for reading in info.readings}
    missing = [
        image._replace(caches=tuple(place for place in image.caches if (place, image.path) not in known))
        for image in task.images
    ]
    return kept, replace(task, images=tuple(missing)).lacking()


def merged(parts: Sequence[Results]) -> Results:
    """The results of the parts of a task as those of the whole."""
    return tuple(
        ShardInfo(
            next((info.path for info in infos if info.path), None),
            sum(info.forwarded for info in infos),
            sum(info.rows for info in infos),
            tuple(reading for info in infos for reading in info.readings),
        )
        for infos in zip(*parts, strict=True)
    )

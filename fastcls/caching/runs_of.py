"""The runs that name rows of a cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastcls import inventory
from fastcls.data.digests import DIGEST_DTYPE
from fastcls.errors import CacheError, OptionError
from fastcls.files import PathLike, as_path
from fastcls.runs import Run


@dataclass(frozen=True)
class NamedRuns:
    """Runs below some folders.

    Attributes:
        looked_at: The folders.
        runs: The runs whose record can be read.
        damaged: Folders of the others.
    """

    looked_at: tuple[Path, ...] = ()
    runs: tuple[Run, ...] = ()
    damaged: tuple[Path, ...] = ()

    def of(self, fingerprint: str) -> Iterator[Run]:
        """Those that were trained on the cache of this fingerprint."""
        for run in self.runs:
            known: Any = run.record.get("cache")
            if isinstance(known, dict) and known.get("fingerprint") == fingerprint:
                yield run

    def digests(self) -> np.ndarray:
        """Digests of the images that had a part in any of them: (N,) S32.

        Raises:
            CacheError: What a run names cannot be read.
        """
        if self.damaged:
            raise CacheError(
                f"{self.damaged[0]} cannot be read, so that nobody knows which bottlenecks it names. Repair "
                "or remove it first, or give other --runs"
            )
        found = [np.empty(0, DIGEST_DTYPE)]
        for run in self.runs:
            try:
                found.append(np.array([image.digest for image in run.used.images], DIGEST_DTYPE))
            except (OptionError, OSError, ValueError) as error:
                raise CacheError(f"It is unknown which bottlenecks {run.folder} names: {error}") from error
        return np.concatenate(found)


def find_runs(folders: Sequence[PathLike]) -> NamedRuns:
    """The runs below some folders; those that are still in training name nothing yet.

    Raises:
        OptionError: There is no such folder.
    """
    looked_at = tuple(as_path(folder, "runs") for folder in folders)
    runs, damaged = [], []
    for entry in (entry for folder in looked_at for entry in inventory.find(folder)):
        if entry.kind != "run" or (entry.state == inventory.UNFINISHED and not entry.date):
            continue
        try:
            runs.append(Run.open(entry.path))
        except (OptionError, OSError):
            damaged.append(entry.path)
    return NamedRuns(looked_at, tuple(runs), tuple(damaged))

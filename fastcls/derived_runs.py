"""Runs that are made of another run, without a training."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fastcls import files, runs
from fastcls.runs import Run


@contextlib.contextmanager
def derived(run: Run, out: Path, command: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Make a run of another one; it takes its place when the block ends well.

    Args:
        run: The other run, which stays as it is.
        out: The folder to make.
        command: Which command makes it: a training with the same options does not take it for its own.

    Yields:
        The folder, which has all files of the run but for its models and checkpoints: the block writes the
        models there. And the record, which the block may change: it is written last.

    Raises:
        OptionError: `out` holds something, or a file of the run is damaged or gone.
    """
    runs.require_new(out)
    with files.atomic_folder(out) as folder:
        for name in (runs.IMAGES, runs.HISTORY):
            shutil.copyfile(run.file(name), folder / name)
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(run.folder / runs.CURVES, folder / runs.CURVES)
        record = {**run.record, "asked": {**run.asked, "command": command}, **_places(run, out)}
        yield folder, record
        runs.write_record(folder, record)


def _places(run: Run, out: Path) -> Mapping[str, Any]:
    """Where the cache is, as seen from the new run."""
    seen = [text for place in run.cache_folders for text in runs.seen_from(out, place)]
    return {"cache_folders": list(dict.fromkeys(seen))} if seen else {}

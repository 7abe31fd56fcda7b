"""In the process that checks an export, where only the runtime of its format is imported."""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from fastcls.exporting.runtimes import Export, find_export, open_unchecked

BATCH = 8
_WARM_UP, _TIMED, _TIMED_S = 3, 30, 2.0


def main() -> None:
    """Run the export argv[1] on the images argv[2]; write what it gives to argv[3], and more to argv[4]."""
    place, images_file, found_file, told_file = map(Path, sys.argv[1:])
    export, images = open_unchecked(find_export(place)), np.load(images_file)
    found = [export.run(images[:1])]  # one alone, the others in batches: their number is free
    found += [export.run(images[start : start + BATCH]) for start in range(1, len(images), BATCH)]
    np.save(found_file, np.concatenate(found))
    told = {"described": export.described, "ms_per_image": _time(export, images[:1])}
    told_file.write_text(json.dumps(told))


def _time(export: Export, image: np.ndarray) -> float:
    """Median time of a batch of one image, in milliseconds."""
    for _ in range(_WARM_UP):
        export.run(image)
    times: list[float] = []
    end = time.perf_counter() + _TIMED_S
    while not times or (len(times) < _TIMED and time.perf_counter() < end):
        started = time.perf_counter()
        export.run(image)
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)

"""The learning curve that `fastcls curve` has written, as a report shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastcls import files
from fastcls.errors import OptionError


def read_curve(path: Path) -> dict[str, Any]:
    """Read the numbers of a learning curve.

    Args:
        path: The JSON file beside its picture.

    Raises:
        OptionError: It cannot be read, or is something else.
    """
    try:
        known = files.read_json(path)
        points = [[int(point["images"]), float(point["mean"])] for point in known["points"]]
        return {"figure": str(known["figure"]), "sentence": str(known["sentence"]), "points": points}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise OptionError(
            f"{path} is not a learning curve ({error}). Give the .json that `fastcls curve CACHE` writes"
        ) from error

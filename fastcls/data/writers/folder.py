"""Put images into a split folder, as links or copies."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from fastcls import files
from fastcls.data.split_table import SplitRow
from fastcls.parallel import spread
from fastcls.specs import check_choice
from fastcls.wording import count_of

# Puts an image in its place, and says whether it had to fall back to a copy.
Place = Callable[[Path, Path], bool]
logger = logging.getLogger(__name__)


def prepare_folders(rows: Iterable[SplitRow], out: Path) -> None:
    """Make the folders of all rows and clear them of what a killed run left, even beside its last file."""
    for folder in sorted({out, *((out / row.path).parent for row in rows)}):
        folder.mkdir(parents=True, exist_ok=True)
        files.remove_leftovers(folder)


def place_files(rows: Sequence[SplitRow], out: Path, place: Place) -> None:
    targets = [out / row.path for row in rows]
    for target in targets:
        if target.is_symlink():  # of an earlier run, to where its image no longer is
            target.unlink()
    sources = (Path(row.source) for row in rows)
    fallbacks = sum(spread(lambda pair: place(*pair), zip(sources, targets, strict=True)))
    if fallbacks:
        logger.warning("Copied %s, as %s does not take hard links to them", count_of(fallbacks, "image"), out)


def placer(mode: str) -> Place:
    """The function that puts an image in its place in such a mode."""
    placers = {"link": _link_or_copy, "copy": _copy, "symlink": _symlink}
    check_choice("mode", mode, placers)
    return placers[mode]


def _link_or_copy(source: Path, target: Path) -> bool:
    try:
        # A hard link to a symbolic link would break when that one is relative.
        os.link(source.resolve() if source.is_symlink() else source, target)
    except FileExistsError:
        raise
    except OSError:  # Another file system, one without links, or a file of another owner.
        _copy(source, target)
        return True
    return False


def _copy(source: Path, target: Path) -> bool:
    # Not atomic_path, which looks for leftovers each time: a class may have 100,000 images.
    with files.temporary_folder(target.parent) as folder:
        shutil.copyfile(source, folder / target.name)
        files.put(folder / target.name, target)
    return False


def _symlink(source: Path, target: Path) -> bool:
    target.symlink_to(source)
    return False

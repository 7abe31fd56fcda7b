"""Images without classes: to be forwarded, and to choose from which to label next."""

from __future__ import annotations

from pathlib import Path

from fastcls.data.dataset import Dataset, Sample
from fastcls.data.readers.folder import list_images, warn_of_left_out
from fastcls.errors import DataError
from fastcls.files import PathLike
from fastcls.storage.paths import data_place
from fastcls.tasks import SEVERAL_LABELS


def open_unlabeled(folder: PathLike) -> Dataset:
    """All images below a folder, as a data set without classes: each image has none.

    Args:
        folder: The folder; folders in it mean nothing.

    Raises:
        DataError: There is no such folder, or no image in it.
    """
    root = data_place(folder, "folder")
    if not root.is_dir():
        raise DataError(f"There is no folder {root}. Images without classes are read from a folder")
    content = list_images(root)
    warn_of_left_out(root, content.left_out)
    if not content.images:
        raise DataError(f"There is no image in {root}")
    samples = tuple(Sample(Path(path).as_posix(), ()) for path in content.images)
    return Dataset(root, (), samples, len(content.left_out), SEVERAL_LABELS, source=root)

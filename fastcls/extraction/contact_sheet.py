"""A picture of some images and their views, as they would go through the trunk."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from fastcls import files
from fastcls.cutter import Cut
from fastcls.data.dataset import Dataset
from fastcls.data.decoder import Decoder, UnreadableImage, affordable_pixels
from fastcls.data.views import make_view
from fastcls.errors import DataError, OptionError
from fastcls.extraction.caches import CutCaches
from fastcls.extraction.fidelity import evenly_spaced
from fastcls.extraction.reading import identify
from fastcls.specs import CutSpec, ViewSpec

_IMAGES = 5
_GAP = 4  # pixels


def draw_contact_sheet(
    dataset: Dataset,
    cut: CutSpec | Cut,
    root: Path,
    views: ViewSpec,
    out: Path,
    *,
    max_pixels: int | None = None,
) -> int:
    """Draw some images, a row each, with all their views, the plain one first.

    Args:
        dataset: The images; those to train on are shown.
        cut: What they would be forwarded through: it tells their size.
        root: Folder of caches.
        views: The views.
        out: The PNG file to write.
        max_pixels: See `ExtractConfig`.

    Returns:
        How many images are shown.

    Raises:
        OptionError: `out` is no name of a PNG file or another file is there, or the base cannot be used.
        DataError: There is no readable image to train on.
    """
    if out.suffix.lower() != ".png":
        raise OptionError(f"The preview is a PNG file. Received: {str(out)!r}. Choose a name ending in .png")
    files.require_writable(out.parent)
    decoder = Decoder(CutCaches(cut, root).pixels, max_pixels or affordable_pixels(1))
    paths = [sample.path for sample in dataset.samples if sample.split in ("train", "")]
    shown = (
        _views_of(dataset.root, paths[place], decoder, views) for place in evenly_spaced(len(paths), _IMAGES)
    )
    rows = [row for row in shown if row]
    if not rows:
        raise DataError(f"{dataset.given} has no readable image to train on")
    with files.new_path(out, "--preview") as temporary:
        temporary.write_bytes(cv2.imencode(".png", _sheet(rows)[..., ::-1])[1].tobytes())
    return len(rows)


def _views_of(root: Path, path: str, decoder: Decoder, views: ViewSpec) -> list[np.ndarray]:
    """All views of an image; none if it cannot be read."""
    reading, data = identify(root, path)
    try:
        image = decoder.decode(data)
    except UnreadableImage:
        return []
    return [make_view(image, reading.digest, views, number) for number in range(views.views)]


def _sheet(rows: list[list[np.ndarray]]) -> np.ndarray:
    """Images of one size, side by side and below each other on white: (H, W, 3) uint8."""
    height, width = (side + _GAP for side in rows[0][0].shape[:2])
    sheet = np.full((len(rows) * height - _GAP, len(rows[0]) * width - _GAP, 3), 255, np.uint8)
    for down, row in enumerate(rows):
        for right, image in enumerate(row):
            top, left = down * height, right * width
            sheet[top : top + height - _GAP, left : left + width - _GAP] = image
    return sheet

"""Fonts for pictures: one that has the characters of a text, among those that are installed."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

# It has a box for every character there is.
_LAST_RESORT = "Last Resort"


@functools.lru_cache(maxsize=1 << 12)
def font_for(text: str) -> Path | None:
    """The file of a font that has all characters of a text; None if no installed one has.

    It is DejaVu Sans, which comes with Matplotlib, wherever that has them: Latin, Greek, Cyrillic, Arabic.
    """
    wanted = {character for character in text if not character.isspace()}
    return next((font for font in _fonts() if wanted <= _characters(font)), None)


def _fonts() -> Iterator[Path]:
    import matplotlib as mpl

    yield Path(mpl.get_data_path(), "fonts/ttf/DejaVuSans.ttf")
    from matplotlib.font_manager import fontManager  # the first time on a machine it looks for seconds

    found = sorted(
        fontManager.ttflist, key=lambda font: (font.style != "normal", font.weight != 400, font.name)
    )
    yield from (Path(font.fname) for font in found if not font.name.startswith(_LAST_RESORT))


@functools.cache
def _characters(font: Path) -> frozenset[str]:
    """The characters of a font; none if it cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(map(chr, FT2Font(str(font)).get_charmap()))
    except (OSError, RuntimeError):
        return frozenset()

"""Fonts for class names in any script, among those that are installed."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.ft2font import FT2Font
    from matplotlib.text import Text

# Scripts whose letters depend on their neighbors: Matplotlib places one after the other. Joiners make one
# character of several.
_SHAPED = (
    *((0x0590, 0x08FF), (0x0900, 0x0DFF), (0x0F00, 0x109F), (0x1780, 0x18AF), (0x1A20, 0x1CFF)),
    *((0x200D, 0x200D), (0xA880, 0xA8FF), (0xFB1D, 0xFDFF), (0xFE70, 0xFEFC), (0x10A00, 0x11FFF)),
)
_UNDRAWN = "\N{VARIATION SELECTOR-15}\N{VARIATION SELECTOR-16}"  # they only choose among looks
_UNUSUAL = ("bold", "italic", "oblique", "light", "thin", "black", "mono", "condensed", "serif")


def drawable(name: str) -> str:
    """A name as it can be drawn: its letters composed, without variation selectors."""
    return unicodedata.normalize("NFC", name).translate(dict.fromkeys(map(ord, _UNDRAWN)))


@functools.lru_cache(maxsize=1024)
def font_for(name: str, *, shapes: bool = False) -> str | None:
    """An installed font that has all characters of a name: its path, "" for the default font.

    Args:
        name: The name.
        shapes: Whether what draws it joins letters as their neighbors ask for, which Matplotlib does not.

    Returns:
        None where there is none, or the name is in a script that would not be set.
    """
    if name.isascii():
        return ""
    if not shapes and any(low <= ord(character) <= high for character in name for low, high in _SHAPED):
        return None
    from matplotlib.font_manager import FontProperties, findfont

    if _has(findfont(FontProperties()), name):
        return ""
    return next((path for path in _installed() if _has(path, name)), None)


def set_fonts(texts: Sequence[Text], fonts: Sequence[str | None]) -> None:
    """Give texts the fonts that `font_for` found."""
    from matplotlib.font_manager import FontProperties

    for text, font in zip(texts, fonts, strict=True):
        if font:
            text.set_fontproperties(FontProperties(fname=font, size=text.get_fontsize()))


@functools.cache
def _installed() -> tuple[str, ...]:
    """Paths of the installed fonts, plain ones first."""
    # Not `fontManager.ttflist`: it is kept on disk, and lacks what was installed since.
    from matplotlib.font_manager import findSystemFonts

    def unusual(path: str) -> tuple[bool, str]:
        return any(word in Path(path).stem.lower() for word in _UNUSUAL), path

    return tuple(sorted(findSystemFonts(), key=unusual))


def _has(path: str, name: str) -> bool:
    font = _open(path)
    return font is not None and all(font.get_char_index(ord(character)) for character in name)


@functools.lru_cache(maxsize=64)
def _open(path: str) -> FT2Font | None:
    from matplotlib.ft2font import FT2Font

    try:
        return FT2Font(path)
    except (OSError, RuntimeError):  # one that it cannot read, such as of pictures
        return None

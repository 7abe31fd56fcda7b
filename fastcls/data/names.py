"""Names: safe as those of files, and equal where they look equal."""

from __future__ import annotations

import unicodedata


def nfc(name: str) -> str:
    """A name in Unicode's composed form, in which those that look equal are equal: macOS decomposes names.

    >>> nfc("cafe\N{COMBINING ACUTE ACCENT}") == "caf\N{LATIN SMALL LETTER E WITH ACUTE}"
    True
    """
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def safe_name(text: str) -> str:
    """A text as the name of a file: all but letters, digits and `-_.` is replaced.

    >>> safe_name("conv2/3:add")
    'conv2_3_add'
    """
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in text)

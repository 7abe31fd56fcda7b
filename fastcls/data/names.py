"""Names that are safe as names of files."""

from __future__ import annotations


def safe_name(text: str) -> str:
    """A text as the name of a file: all but letters, digits and `-_.` is replaced.

    >>> safe_name("conv2/3:add")
    'conv2_3_add'
    """
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in text)

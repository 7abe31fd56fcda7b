"""Numbers in messages."""

from __future__ import annotations


def count_of(number: int, one: str, many: str = "") -> str:
    """A number with the noun that is counted, in the singular or the plural.

    Args:
        number: How many.
        one: What one is called.
        many: What several are called, where that is not `one` and an s.

    >>> count_of(1, "epoch"), count_of(0, "image"), count_of(2200, "class", "classes")
    ('1 epoch', '0 images', '2,200 classes')
    """
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"

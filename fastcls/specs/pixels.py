"""How pixels are made of an image file: what travels with every model that was trained on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastcls.records import Filled, Positive, made


@dataclass(frozen=True)
class PixelRule:
    """What makes two programs see the same pixels in a file.

    Attributes:
        size: (height, width) in pixels.
        decode: Name of the rule by which a file is decoded.
        resize: Name of the rule by which that comes to the size.
    """

    size: tuple[Positive, Positive]
    decode: Filled
    resize: Filled

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> PixelRule:
        """From a JSON object.

        Raises:
            ValueError: It is no such rule.
        """
        return made(cls, values)

"""Formats of exports: `FORMATS` is the table.

A function that writes one takes a `Source` and the folder to write into.
"""

from fastcls.specs.exporting import FORMATS, FormatKind

__all__ = ["FORMATS", "FormatKind"]

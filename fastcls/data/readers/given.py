"""What a file is that was given as a data set but is none: by its first bytes."""

from __future__ import annotations

import shlex
from pathlib import Path

from fastcls.data.image_formats import describe_other, kind_of
from fastcls.data.tfrecord import begins_with_record
from fastcls.errors import DataError

_HEAD_BYTES = 512
_TAR = (257, b"ustar")
# What `describe_other` calls a file that may be a table.
_MAYBE_TABLE = ("text", "of an unknown format", "only zero bytes")
_UNPACK = {"a zip archive": "unzip", "a gzip archive": "gunzip -k", "an archive (7z or RAR)": "7z x"}


def refuse_other_file(path: Path) -> None:
    """Refuse a file that is certainly no table: an image, an archive, records under another name.

    Raises:
        DataError: It is one; the message says what was meant.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:  # reported when it is read
        return
    told = _described(path, head)
    if told:
        raise DataError(
            f"{path} is {told}. A data set is a folder with a folder of images per class, a table, or "
            "TFRecord files."
        )


def _described(path: Path, head: bytes) -> str:
    """What a file is and what to do; "" for one that may be a table."""
    named = shlex.quote(str(path))
    kind = kind_of(head)
    if kind:
        article = "an" if kind[0] in "AH" else "a"
        folder = path.absolute().parent
        return f"{article} {kind} image. Name the folder that holds its class folder: {folder.parent}"
    if begins_with_record(head):
        return f"a TFRecord file by what it holds. Its name must say so: ln -s {named} {named}.tfrecord"
    if head[_TAR[0] :].startswith(_TAR[1]):
        return f"a tar archive. Unpack it first: tar xf {named}"
    other = describe_other(head) if head else ""
    if not other or other.startswith(_MAYBE_TABLE):
        return ""
    if path.name.lower().endswith((".tar.gz", ".tgz")):
        return f"a tar archive. Unpack it first: tar xf {named}"
    if other in _UNPACK:
        return f"{other}. Unpack it first: {_UNPACK[other]} {named}"
    return other

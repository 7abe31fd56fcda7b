"""WebDataset: tar files whose members of one name are a sample: `000.jpg` is the image of label `000.cls`.

A member's key is its path up to the first dot of its name, the rest is what it holds. The label is in `cls`
(a number or a name), else in `json` (a field label, class_name, class or cls), else in `txt` (a line).
Numbers get the names in `labels.txt` or `classes.txt` beside the files, if there is one: a name per line, or
`0:daisy`.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fastcls import files, home
from fastcls.data import tar
from fastcls.data.image_formats import named_kind
from fastcls.data.names import nfc
from fastcls.data.readers.entries import Entry, Table, some
from fastcls.data.readers.record_classes import LABELS_FILE
from fastcls.data.readers.tfrecord import splits_of
from fastcls.data.tar import DamagedTarError, Member, is_tar
from fastcls.data.tfrecord import join_address
from fastcls.errors import DataError
from fastcls.parallel import ahead
from fastcls.storage.paths import UrlPath, as_place, is_pattern, matching
from fastcls.tasks import ONE_LABEL
from fastcls.wording import count_of

_LABELS = ("cls", "json", "txt")
_FIELDS = ("label", "class_name", "class", "cls")
_NAMES = (LABELS_FILE, "classes.txt", "classnames.txt")
_LABEL_BYTES = 1 << 20
_THREADS = 8
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
# The key of a sample, the place and size of its image, and the text of its label; -1 and "" where one lacks.
_Sample = tuple[str, int, int, str]
logger = logging.getLogger(__name__)


def braces(text: str) -> list[str]:
    """What a pattern with braces stands for, as a shell has it.

    >>> braces("{train,val}-{08..10}.tar")[:4]
    ['train-08.tar', 'train-09.tar', 'train-10.tar', 'val-08.tar']
    """
    match = _BRACES.search(text)
    if not match:
        return [text]
    span = _RANGE.fullmatch(match[1])
    if span:
        numbers = range(int(span[1]), int(span[2]) + 1)
        choices = [f"{number:0{len(span[1])}}" for number in numbers]
    else:
        choices = match[1].split(",")
    return [
        made for choice in choices for made in braces(text[: match.start()] + choice + text[match.end() :])
    ]


def find_tars(path: Path) -> list[Path]:
    """The tar files of a path, sorted: itself, those in a folder without folders, or those of a pattern.

    Raises:
        DataError: A pattern with braces names files that do not exist.
    """
    text = str(path)
    if "{" in text and not path.exists():
        named = [as_place(each) for each in braces(text)]
        missing = [str(each) for each in named if is_tar(each.name) and not each.is_file()]
        if missing:
            raise DataError(f"{path}: {count_of(len(missing), 'file')} missing: {some(missing)}")
        return [each for each in named if is_tar(each.name)]
    if is_tar(path.name) and path.is_file():
        return [path]
    if path.is_dir():
        inside = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
        tars = sorted(entry for entry in inside if is_tar(entry.name) and entry.is_file())
        return tars if tars and not any(entry.is_dir() for entry in inside) else []
    found = matching(text) if is_pattern(text) else []
    return [each for each in found if is_tar(each.name)]


def read_webdataset(
    tars: Sequence[Path], *, image_key: str | None = None, label_key: str | None = None
) -> tuple[Table, Path]:
    """List the samples in tar files.

    Args:
        tars: The files. Each belongs to the split that its name contains.
        image_key: The ending of the images, such as "jpg"; None for those of known formats.
        label_key: The ending of the labels, such as "cls", or a field of `json`; None for known ones.

    Returns:
        Entries with addresses of images, relative to a folder, and the folder.

    Raises:
        DataError: No sample has an image and a label, a number has no name, or only some files name a split.
    """
    root = as_place(os.path.commonpath([file.parent for file in tars]))
    names = _class_names(root)
    entries: list[Entry] = []
    incomplete: list[str] = []
    found = ahead(
        lambda file: _samples(file, image_key, label_key), tars, threads=_THREADS, depth=2 * _THREADS
    )
    for file, split, samples in zip(tars, splits_of(tars, root, "tar"), found, strict=True):
        for key, place, size, label in samples:
            if place < 0 or not label:
                incomplete.append(f"{file.name}: {key} without {'an image' if place < 0 else 'a label'}")
                continue
            address = f"{join_address(_relative(file, root), place)}:{size}"
            entries.append(Entry(address, (nfc(_named(label, names, root)),), split))
    if incomplete:
        logger.warning("%s left out: %s", count_of(len(incomplete), "sample"), some(incomplete))
    if not entries:
        raise DataError(
            f"{tars[0]} is a tar archive. Unpack it first: tar xf {tars[0]}. A data set is a folder with a "
            "folder of images per class, a table (CSV, JSON Lines, Parquet), or TFRecord or WebDataset files "
            "(KEY.jpg with KEY.cls, KEY.json or KEY.txt)"
        )
    return Table(tuple(entries), tuple(sorted({e.class_names[0] for e in entries})), ONE_LABEL), root


def _relative(file: Path, root: Path) -> str:
    return str(file)[len(str(root)) :].lstrip("/") if str(root) != "." else str(file)


def _samples(file: Path, image_key: str | None, label_key: str | None) -> list[_Sample]:
    """The samples of a file; of one at a URL they are kept per machine, as all of it is read for them."""
    if not isinstance(file, UrlPath):
        return list(_read(file, image_key, label_key))
    from fastcls import storage

    key = files.json_digest([str(file), *storage.stat(str(file)), image_key, label_key])

    def make(folder: Path) -> None:
        files.write_json(folder / "samples.json", list(_read(file, image_key, label_key)))

    return home.read(home.kept("tar", key, make), "samples.json", list[_Sample])


def _read(file: Path, image_key: str | None, label_key: str | None) -> Iterator[_Sample]:
    held: dict[str, Member] = {}
    last = ""
    try:
        for member in tar.members(file):
            folder, _, name = member.name.rpartition("/")
            stem, _, ending = name.partition(".")
            key = f"{folder}/{stem}" if folder else stem
            if not stem:
                continue
            if key != last and held:
                yield _sample(file, last, held, image_key, label_key)
                held = {}
            last = key
            held[ending.lower()] = member
    except DamagedTarError as error:
        logger.warning("%s. What comes after is missing", error)
    if held:
        yield _sample(file, last, held, image_key, label_key)


def _sample(
    file: Path, key: str, held: dict[str, Member], image_key: str | None, label_key: str | None
) -> _Sample:
    images = [m for end, m in held.items() if (end == image_key if image_key else named_kind(f"a.{end}"))]
    image = images[0] if images else Member("", -1, 0)
    return key, image.place, image.size, _label(file, held, label_key)


def _label(file: Path, held: dict[str, Member], label_key: str | None) -> str:
    """The text of a label; "" where there is none, or it cannot be read."""
    endings = [label_key] if label_key in held else ["json"] if label_key else _LABELS
    for ending in endings:
        member = held.get(ending or "")
        if member is None or member.size > _LABEL_BYTES:
            continue
        try:
            text = tar.read_member(str(file), member.place, member.size).decode("utf-8-sig")
            told = _field(json.loads(text), label_key) if ending == "json" else text.strip()
        except (OSError, ValueError):
            continue
        if told:
            return told
    return ""


def _field(value: Any, label_key: str | None) -> str:
    if not isinstance(value, dict):
        return str(value) if isinstance(value, (int, str)) else ""
    fields = _FIELDS if label_key in (None, "json") else (label_key,)
    found = next((value[name] for name in fields if value.get(name) is not None), "")
    return str(found).strip() if isinstance(found, (int, str)) else ""


def _class_names(folder: Path) -> dict[str, str]:
    """What numbers of classes are called; empty where no file says so."""
    table = next((folder / name for name in _NAMES if (folder / name).is_file()), None)
    if table is None:
        return {}
    with table.open(encoding="utf-8-sig") as file:
        lines = [line.strip() for line in file]
    pairs = [line.partition(":") for line in lines if line]
    if all(number.isdecimal() and name for number, _, name in pairs):
        return {number: name.strip() for number, _, name in pairs}
    return {str(number): name for number, name in enumerate(lines) if name}


def _named(label: str, names: dict[str, str], root: Path) -> str:
    if not names or not label.isdecimal() or label in names.values():
        return label
    if label not in names:
        raise DataError(
            f"Class number {label} has no name in the list of classes in {root}. Add a line to it"
        )
    return names[label]

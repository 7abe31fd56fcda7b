"""Tables of images: a label each, several joined by a separator, or a column of 0 and 1 per class."""

from __future__ import annotations

import logging
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from fastcls import web
from fastcls.data.conflicts import Claim, describe_conflicts, require_classes
from fastcls.data.names import nfc
from fastcls.data.readers.delimited import open_delimited, open_own
from fastcls.data.readers.entries import SPLITS, Entry, Table, name_splits, some, split_named
from fastcls.data.readers.grid import PATH_NAMES, VAGUE_NAMES, Opener, Rows, is_missing
from fastcls.data.readers.json_lines import open_json_lines
from fastcls.data.readers.labels import find_reader
from fastcls.data.readers.layout import BITS, LABEL_COLUMNS, RESERVED, Layout, find_layout, has_label_column
from fastcls.data.readers.parquet import open_parquet
from fastcls.data.readers.places import Places
from fastcls.errors import DataError, FastclsError, GoneError
from fastcls.specs.data import ReadSpec
from fastcls.storage.paths import as_place
from fastcls.tasks import SEVERAL_LABELS, Task
from fastcls.wording import count_of

# What opens a file, by its suffix; anything else is a text table.
_OPENERS: dict[str, Opener] = {
    ".parquet": open_parquet,
    ".json": open_json_lines,
    ".jsonl": open_json_lines,
    ".ndjson": open_json_lines,
}
_TEXT = (".csv", ".tsv")
logger = logging.getLogger(__name__)


def read_csv(path: Path, spec: ReadSpec | None = None) -> Table:
    """Read a table of paths with a column of labels, or a column of 0 and 1 per class.

    Args:
        path: The table; `group` and `split` are read where it has them.
        spec: What the user says of its columns.

    Raises:
        DataError: The table cannot be read, contradicts itself, or names files that do not exist.
    """
    spec = spec or ReadSpec()
    places = Places(path, _root(path, spec), spec.path_suffix)
    opener = _OPENERS.get(path.suffix.lower(), open_delimited)
    if spec.delimiter is not None and opener is not open_delimited:
        raise DataError(f"{path} is no text table: --delimiter has no effect. Remove it.")
    with opener(path, spec.delimiter, places.names_image) as grid:
        if grid.pictures and spec.image_root:
            raise DataError(f"{path} holds the images themselves: --image-root has no effect. Remove it.")
        head, rows = grid.peek()
        layout = find_layout(path, grid, head, spec, places.looks_like_image)
        lines = _collect(path, rows, layout, places)
    read, task, note = _labels(path, layout, lines, spec)
    entries, dropped = _entries(path, lines, read, _splits(path, lines), drops=spec.conflicts == "drop")
    places.require_all()
    _warn(path, entries, layout, spec.label_separator)
    found = {name for entry in entries for name in entry.class_names} | set(map(nfc, layout.classes))
    suffix = f"{' or '.join(places.guessed)} appended to paths" if places.guessed else ""
    notes = tuple(filter(None, (*grid.notes, *layout.notes, suffix, note)))
    return Table(entries, tuple(sorted(found)), task, notes, dropped, needs_suffix=places.needs_suffix)


def _root(path: Path, spec: ReadSpec) -> Path | None:
    """The folder of paths, if the user names one."""
    root = None if spec.image_root is None else as_place(spec.image_root)
    if root is None or web.is_url(str(root)) or root.is_dir():
        return root
    fact = "is not a folder" if root.exists() else "does not exist"
    raise GoneError(
        f"--image-root {spec.image_root} {fact} ({root.absolute()}). Name the folder that "
        f"the paths in {path} are relative to."
    )


def tells_labels(path: Path, spec: ReadSpec) -> bool:
    """Whether a table of an image folder has a column of paths and one of labels, by their names."""
    with _OPENERS.get(path.suffix.lower(), open_delimited)(path, spec.delimiter, lambda _: False) as grid:
        has_paths = spec.path_column is not None or "file_name" in grid.columns or bool(grid.pictures)
        return has_paths and (spec.label_column is not None or has_label_column(grid.columns))


def label_tables(root: Path) -> list[Path]:
    """The tables in a folder that seem to have paths of images and their labels."""
    return sorted(
        entry
        for entry in root.iterdir()
        if entry.suffix.lower() in (*_OPENERS, *_TEXT) and entry.is_file() and _names_labels(entry)
    )


def _names_labels(path: Path) -> bool:
    try:
        with _OPENERS.get(path.suffix.lower(), open_delimited)(path, None, lambda _: False) as grid:
            names = {name.lower() for name in grid.columns}
            has_paths = bool(names & {*PATH_NAMES, *VAGUE_NAMES}) or bool(grid.pictures)
            return has_paths and (len(names) == 2 or has_label_column(grid.columns))
    except FastclsError:  # it is none that can be read
        return False


def is_split_table(path: Path) -> bool:
    """Whether split-data wrote a CSV for several labels per image; a user's file may have the same name."""
    with open_own(path) as grid:
        return set(RESERVED) <= set(grid.columns) and not {*LABEL_COLUMNS} & set(grid.columns)


def read_earlier_splits(path: Path) -> dict[str, str]:
    """The split of each digest in a table that split-data wrote for several labels per image.

    Raises:
        DataError: It is damaged, or something else.
    """
    with open_own(path) as grid:
        is_ours = grid.columns[: len(RESERVED)] == RESERVED
        splits = (
            {row.get("digest", ""): row.get("split", "") for _, row in grid.rows} if is_ours else {"": ""}
        )
    if not set(splits.values()) <= set(SPLITS):
        raise DataError(
            f"{path} was not made by split-data for several labels per image, or is damaged. Expected the "
            f"columns {','.join(RESERVED)} and one per class. Received: {','.join(grid.columns)}. Choose "
            "another output folder."
        )
    return splits


def name_clash(class_names: Iterable[str]) -> str:
    """The name of a reserved column if a class has it too; else ""."""
    return min({*LABEL_COLUMNS, *RESERVED} & {name.lower() for name in class_names}, default="")


class _Said(NamedTuple):
    """What a row says of its image; rows that say the same share one."""

    cell: str  # of the label
    classes: tuple[str, ...]  # by their columns
    split: str
    group: str


@dataclass
class _Lines:
    """The rows of a table in columns, as a list may be long.

    Attributes:
        paths: Of the images.
        said: What each row says.
        numbers: The line of each row.
        first: The line in which each thing is said first, in the order of lines.
    """

    paths: list[str] = field(default_factory=list)
    said: list[_Said] = field(default_factory=list)
    numbers: array[int] = field(default_factory=lambda: array("q"))
    first: dict[_Said, int] = field(default_factory=dict)
    _shared: dict[_Said, _Said] = field(default_factory=dict, repr=False)

    def add(self, line: int, path: str, said: _Said) -> None:
        """Add a row."""
        if said not in self.first:
            self.first[said] = line
            self._shared[said] = said
        self.paths.append(path)
        self.said.append(self._shared[said])
        self.numbers.append(line)


def _collect(path: Path, rows: Rows, layout: Layout, places: Places) -> _Lines:
    """What the rows say, in blocks of which one is in memory besides."""
    lines = _Lines()
    found: dict[str, str] = {}
    for line, row in rows:
        named = row.get(layout.path, "")
        if is_missing(named):
            raise DataError(f"{path}, line {line}: the path is empty. Fill it in or remove the line.")
        place = found.get(named)
        if place is None:
            place = places.find(named)
            place = found[named] = named if place == named else place  # one text, not two
        label, split, group = (
            row.get(column, "") if column else "" for column in (layout.label, layout.split, layout.group)
        )
        classes = _classes(path, line, row, layout.classes)
        lines.add(line, place, _Said(label, classes, split.strip(), group.strip()))
    return lines


def _classes(path: Path, line: int, row: Mapping[str, str], columns: Sequence[str]) -> tuple[str, ...]:
    found = []
    for name in columns:
        bit = BITS.get(row.get(name, "").strip().lower())
        if bit is None:
            raise DataError(
                f"{path}, line {line}: expected 0 or 1 for each class, as there is no label column. "
                f"Received: {row.get(name, '').strip()!r} in column {name!r}. Name the column of the labels "
                f"with --label-column, if there is one. Columns: {some(list(row))}."
            )
        if bit:
            found.append(name)
    return tuple(found)


def _labels(
    path: Path, layout: Layout, lines: _Lines, spec: ReadSpec
) -> tuple[Callable[[_Said], tuple[str, ...]], Task, str]:
    """How the classes of an image are read, what is asked of it, and what is not plain about that."""
    if not layout.label:
        return lambda said: said.classes, SEVERAL_LABELS, ""
    cells = {said.cell: line for said, line in reversed([*lines.first.items()])}
    read, task, note = find_reader(path, layout, cells, spec.label_separator)
    lacking = set() if task.may_have_none else {said for said in lines.first if is_missing(said.cell)}
    if lacking:
        first, count = min(lines.first[said] for said in lacking), sum(said in lacking for said in lines.said)
        others = f" (as in {count_of(count - 1, 'other line')})" if count > 1 else ""
        raise DataError(f"{path}, line {first}: the label is empty{others}. Fill it in or remove the line.")
    return lambda said: read(said.cell), task, note


def _splits(path: Path, lines: _Lines) -> Mapping[str, str]:
    """The split that each cell stands for."""
    cells: dict[str, int] = {}
    for said, line in lines.first.items():
        cells.setdefault(said.split, line)
    named = {cell: line for cell, line in cells.items() if not is_missing(cell)}
    for cell, line in named.items():
        if not split_named(cell):
            raise DataError(
                f"{path}, line {line}: unknown split {cell!r}. Use one of: {', '.join(SPLITS)}, or leave it "
                "empty."
            )
    return dict.fromkeys(cells, "") | name_splits(named, path)


def _entries(
    path: Path,
    lines: _Lines,
    read: Callable[[_Said], tuple[str, ...]],
    splits: Mapping[str, str],
    *,
    drops: bool,
) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    """An entry per path, and the paths that are dropped.

    Raises:
        DataError: Two rows say different things, or a class loses all its images.
    """
    known = {said: tuple(sorted({nfc(name) for name in read(said)})) for said in lines.first}
    entries: dict[str, Entry] = {}
    claims: dict[str, set[Claim]] = defaultdict(set)  # of paths of which rows say different things
    for place, said, line in zip(lines.paths, lines.said, lines.numbers, strict=True):
        entry = Entry(place, known[said], splits[said.split], said.group)
        earlier = entries.setdefault(place, entry)
        if earlier == entry:
            continue
        claims[place] |= {Claim(place, each.class_names) for each in (earlier, entry)}
        if not (drops and len(claims[place]) > 1):
            raise DataError(f"{path}, line {line}: {_contradiction(entry, earlier)}")
    if not claims:
        return tuple(entries.values()), ()
    dropped = {named: sorted(said) for named, said in claims.items()}
    kept = tuple(entry for entry in entries.values() if entry.path not in dropped)
    logger.warning("%s. All of them are left out", describe_conflicts(path, [*dropped.values()]))
    before = (name for names in known.values() for name in names)
    require_classes(path, before, (name for entry in kept for name in entry.class_names))
    return kept, tuple(dropped)


def _contradiction(entry: Entry, earlier: Entry) -> str:
    """What two rows of one image say, and what to do."""
    pairs = {
        "labels": (entry.class_names, earlier.class_names),
        "split": ((entry.split,), (earlier.split,)),
        "group": ((entry.group,), (earlier.group,)),
    }
    found = {what: map(_listed, pair) for what, pair in pairs.items() if pair[0] != pair[1]}
    received = "; ".join(f"{what} {', earlier '.join(words)}" for what, words in found.items())
    differs = entry.class_names != earlier.class_names
    remedy = (
        ": an image has one, also with --conflicts keep. --conflicts drop leaves such images out; if an "
        "image can have several labels, write them into one row (see --label-separator)"
        if differs
        else ""
    )
    return (
        f"{entry.path!r} is listed twice with different {' and '.join(found)}. "
        f"Received: {received}. Remove one of the rows{remedy}."
    )


def _listed(words: Sequence[str]) -> str:
    return ", ".join(map(repr, filter(None, words))) or "none"


def _warn(path: Path, entries: Sequence[Entry], layout: Layout, separator: str | None) -> None:
    if separator and max((len(e.class_names) for e in entries), default=2) < 2:
        logger.warning("%s: no image has more than one label (separator: %r)", path, separator)
    found = {name for entry in entries for name in entry.class_names}
    unused = sorted(set(map(nfc, layout.classes)) - found)
    if unused:
        logger.warning("%s has no images of class %s", path, some(unused))

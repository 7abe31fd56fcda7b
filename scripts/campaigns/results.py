"""What a folder holds, as far as it is promised to be equal: rows, tables, weights, images."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Summary = dict[str, str]

# Times, and what a rerun found done already.
_VOLATILE_MEMBERS = re.compile(
    "seconds|checksum|forwarded|reused|shards|rows|resources|engine|fidelity|requests|shared_object_id"
)
# Digests of files that are compared themselves, perhaps but for times; times; and numbers that Keras gives.
_ARBITRARY = re.compile(r"[0-9a-f]{32}|\d{4}-\d\d-\d\d[T@]\d\d:\d\d:\d\d\S*|(?<=^functional)_\d+$")
_VOLATILE_COLUMNS = {"seconds", "size", "mtime_ns", "ctime_ns"}
# Files of TensorBoard tell time and process; which trunks are converted depends on what is missing.
_VOLATILE_FOLDERS = {"tensorboard", "openvino"}
_SHOWN = 6


def summarize(root: Path) -> Summary:
    """A digest of everything below a folder by relative path; rows of shards by that of their image."""
    summary: Summary = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if _VOLATILE_FOLDERS & set(Path(name).parts):
            continue
        if path.parent.name == "shards" and path.suffix == ".h5" and not path.name.startswith("."):
            _add_rows(summary, path, f"{Path(name).parent}")
        else:
            summary[name] = _describe(path, root)
    return summary


def differences(found: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
    """What is missing, left over or other, in words; empty if nothing is."""
    words = {
        "missing": expected.keys() - found.keys(),
        "left over": found.keys() - expected.keys(),
        "other": {name for name in expected.keys() & found.keys() if expected[name] != found[name]},
    }
    return [f"{word}: {_some(sorted(names))}" for word, names in words.items() if names]


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _describe(path: Path, root: Path) -> str:
    if path.is_symlink():
        return f"link to {path.readlink()}".replace(str(root), "ROOT")
    if path.is_dir():
        return "folder"
    data = path.read_bytes()
    describe = {".csv": _describe_table, ".json": _describe_json, ".keras": _describe_model}.get(path.suffix)
    try:
        return _digest(describe(data, str(root)).encode() if describe else data)
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        return f"unreadable ({type(error).__name__}) {_digest(data)}"


def _describe_table(data: bytes, root: str) -> str:
    lines = csv.DictReader(io.StringIO(data.decode().replace(root, "ROOT"), newline=""))
    kept = [{name: value for name, value in line.items() if name not in _VOLATILE_COLUMNS} for line in lines]
    return "\n".join(sorted(json.dumps(line) for line in kept))


def _describe_json(data: bytes, root: str) -> str:
    return json.dumps(_stable(json.loads(data.decode().replace(root, "ROOT"))), sort_keys=True)


def _stable(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {name: member for name, member in value.items() if not _VOLATILE_MEMBERS.fullmatch(name)}
        return {name: _stable(member) for name, member in kept.items()}
    if isinstance(value, list):
        return [_stable(member) for member in value]
    return _ARBITRARY.sub("", value) if isinstance(value, str) else value


def _describe_model(data: bytes, root: str) -> str:
    """The weights of a `.keras` file bit by bit, its graph, and what fastcls adds."""
    parts = []
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in sorted(archive.namelist()):
            member = archive.read(name)
            if name.endswith(".json"):
                parts.append(f"{name} {_describe_json(member, root)}")
            elif name.endswith(".h5"):
                parts += [f"{name}/{place} {text}" for place, text in _datasets(member)]
            else:
                parts.append(f"{name} {_digest(member)}")
    return "\n".join(parts)


def _datasets(data: bytes) -> Iterator[tuple[str, str]]:
    with h5py.File(io.BytesIO(data)) as file:
        found: list[tuple[str, str]] = []
        file.visititems(
            lambda name, node: (
                found.append((name, _digest(node[()].tobytes())))  # type: ignore[func-returns-value]
                if isinstance(node, h5py.Dataset)
                else None
            )
        )
    yield from found


def _add_rows(summary: Summary, path: Path, folder: str) -> None:
    """One entry per row; a row that is there twice has an entry of its own for each further one."""
    try:
        with h5py.File(path) as file:
            digests = [key.decode() for key in file["digests"][()]]
            values = np.asarray(file["bottlenecks"])
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        summary[f"{folder}/{path.name}"] = f"unreadable ({type(error).__name__})"
        return
    for key, value in zip(digests, values, strict=False):
        entry = f"{folder}/row {key}"
        while entry in summary:
            entry += " again"
        summary[entry] = _digest(value.tobytes())


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]

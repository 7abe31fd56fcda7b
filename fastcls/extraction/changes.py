"""Why images are forwarded again: what sets a new cache apart from earlier ones of its base and cut."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastcls import files
from fastcls.cache import store
from fastcls.cache.store import Cache
from fastcls.extraction.fingerprint import DECIDING
from fastcls.records import as_json

_IN_WORDS = {
    "architecture": "the graph",
    "weights_digest": "the weights",
    "tail_digest": "what follows the cut",
    "float32_layers": "the layers in float32",
    "policies": "the dtype policies",
}


def describe_change(cache: Cache) -> str:
    """What the earlier cache under the same root that is most like a new one has else; "" without one."""
    new = as_json(asdict(cache.manifest))
    found = [(differences(old, new), folder) for folder, old in _earlier(cache)]
    if not found:
        return ""
    told, folder = min(found, key=lambda pair: (len(pair[0]), pair[1]))
    return f"It differs from {folder}, which is kept, in {'; '.join(told)}"


def _earlier(cache: Cache) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Manifests of other caches of this base and cut, of whatever version."""
    for folder in store.cache_folders(cache.folder.parent):
        try:
            values = files.read_json(folder / "manifest.json")
            is_like = all(values[name] == getattr(cache.manifest, name) for name in ("base", "layer"))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # damaged: whoever opens it is told
        if is_like and folder != cache.folder:
            yield folder, values


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What sets two manifests apart, in words; both as JSON has them."""
    if old.get("version") != new["version"]:
        return [f"the layout of caches (version {old.get('version')}, now {new['version']})"]
    names = [name for name in ("normalize", *DECIDING, "tail_digest") if old.get(name) != new[name]]
    if {"normalize", "size", "pool", "policies"} & set(names):  # the graph follows from these
        names = [name for name in names if name != "architecture"]
    return [
        _IN_WORDS[name] if name in _IN_WORDS else f"{name} ({_shown(old.get(name))}, now {_shown(new[name])})"
        for name in names
    ]


def _shown(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)

"""How two sets of options differ, and what one tells beyond the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What two nested values differ in, for a message; "" where they are equal.

    >>> differences({"training": {"epochs": 3}, "rows": "ab"}, {"training": {"epochs": 5}, "rows": "ab"})
    'training.epochs was 3, is 5'
    """
    earlier, asked = _flat(before), _flat(now)
    names = sorted(name for name in earlier.keys() | asked.keys() if earlier.get(name) != asked.get(name))
    return "; ".join(f"{name} was {earlier.get(name)}, is {asked.get(name)}" for name in names)


def beyond(now: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """The nested values that are not the same in what was asked for; `resolve` takes them back.

    >>> asked = {"training": {"epochs": 3, "views": None}, "head": None}
    >>> beyond({"training": {"epochs": 3, "views": 2}, "head": {"kind": "knn"}}, asked)
    {'training': {'views': 2}, 'head': {'kind': 'knn'}}
    """
    found: dict[str, Any] = {}
    for name, value in now.items():
        known = asked.get(name)
        if isinstance(value, dict) and isinstance(known, dict):
            if inner := beyond(value, known):
                found[name] = inner
        elif name not in asked or value != known:
            found[name] = value
    return found


def resolve(asked: Mapping[str, Any], decided: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked for, with the nested values that were decided in place of it.

    >>> resolve({"training": {"epochs": 3, "views": None}}, {"training": {"views": 2}, "rows": "ab"})
    {'training': {'epochs': 3, 'views': 2}, 'rows': 'ab'}
    """
    resolved = dict(asked)
    for name, value in decided.items():
        known = asked.get(name)
        if isinstance(value, dict) and isinstance(known, dict):
            value = resolve(known, value)
        resolved[name] = value
    return resolved


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted names.

    >>> _flat({"training": {"epochs": 3}, "rows": "ab"})
    {'training.epochs': 3, 'rows': 'ab'}
    """
    flat: dict[str, Any] = {}
    for name, value in values.items():
        inner = _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
        flat |= inner
    return flat

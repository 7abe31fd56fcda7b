"""How two sets of options differ."""

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

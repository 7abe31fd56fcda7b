"""Records: JSON that fastcls writes and reads again, held to what a class says of its members.

A record is a dataclass, or a TypedDict where it stays an object, which may hold more than is read. What a
type does not say is said by a rule: `Annotated[int, Rule("0 or more", lambda number: number >= 0)]`.
"""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Collection
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

from fastcls.errors import shown

T = TypeVar("T")
Read = Callable[[Any, str], Any]
_PLAIN: dict[Any, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    str: ((str,), "text"),
    type(None): ((type(None),), "null"),
}


@dataclass(frozen=True)
class Rule:
    """What a value must be besides its type.

    Attributes:
        said: In words, after "should be".
        holds: Whether a value is that.
    """

    said: str
    holds: Callable[[Any], bool]

    def __call__(self, value: Any, place: str) -> None:
        if not self.holds(value):
            raise _wrong(value, place, self.said)


@dataclass(frozen=True)
class Part:
    """What is there of the members of a class must be as that says; what else is there is not read.

    Attributes:
        kind: A dataclass or TypedDict.
    """

    kind: Any

    def __call__(self, value: Any, place: str) -> None:
        _read_known(self.kind, value, place)


def one_of(choices: Collection[str]) -> Rule:
    """The rule that a text is one of several."""
    return Rule(f"one of {', '.join(choices)}", lambda value: value in choices)


REQUIRED = {"required": True}  # metadata of a field that has a default
FILLED = Rule("not empty", bool)
Filled = Annotated[str, FILLED]
Count = Annotated[int, Rule("a whole number, 0 or more", lambda number: 0 <= number < 1 << 63)]
Positive = Annotated[int, Rule("a whole number, 1 or more", lambda number: 1 <= number < 1 << 63)]
Amount = Annotated[float, Rule("a number, 0 or more", lambda number: not number < 0)]
Share = Annotated[float, Rule("a number from 0 to 1", lambda number: 0 <= number <= 1)]


def made(kind: type[T], value: Any) -> T:
    """What decoded JSON means as a class, such as a dataclass, `dict[str, str]` or `tuple[int, ...]`.

    Raises:
        ValueError: It is something else; the message tells which member, and what it should be.

    >>> made(tuple[int, ...], [3, "a"])
    Traceback (most recent call last):
    ValueError: its [1] is 'a', and should be a whole number
    """
    as_any: Any = kind
    found: T = _reader(as_any)(value, "")
    return found


def as_json(value: Any) -> Any:
    """A value as it comes back from a JSON file: keys are text, tuples are lists."""
    return json.loads(json.dumps(value))


def _wrong(value: Any, place: str, said: str) -> ValueError:
    return ValueError(f"{f'its {place}' if place else 'it'} is {shown(value)}, and should be {said}")


@cache
def _reader(kind: Any) -> Read:
    """What reads a value of a kind, which has a place in the record."""
    origin, parts = get_origin(kind), get_args(kind)
    if is_dataclass(kind) or is_typeddict(kind):
        return lambda value, place: _read_members(kind, value, place)
    if origin is Annotated:
        return lambda value, place: _read_ruled(parts[0], kind.__metadata__, value, place)
    if origin in (Union, types.UnionType):
        return lambda value, place: _read_any(parts, value, place)
    if origin in (list, tuple):
        return lambda value, place: _read_list(origin, parts, value, place)
    if origin is dict:
        return lambda value, place: _read_object(parts[1], value, place)
    return lambda value, place: _read_plain(kind, value, place)


def _read_plain(kind: Any, value: Any, place: str) -> Any:
    known, said = _PLAIN.get(kind, ((object if kind is Any else kind,), getattr(kind, "__name__", "")))
    if not isinstance(value, known) or (isinstance(value, bool) and kind in (int, float)):
        raise _wrong(value, place, said)
    return value


def _read_ruled(kind: Any, rules: tuple[Any, ...], value: Any, place: str) -> Any:
    found = _reader(kind)(value, place)
    for rule in rules:
        rule(value, place)
    return found


def _read_any(kinds: tuple[Any, ...], value: Any, place: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    *others, last = (kind for kind in kinds if kind is not type(None))
    for kind in others:
        try:
            return _reader(kind)(value, place)
        except ValueError:
            continue
    return _reader(last)(value, place)


def _read_list(kind: Any, parts: tuple[Any, ...], value: Any, place: str) -> Any:
    if not isinstance(value, (list, tuple)):
        raise _wrong(value, place, "a list")
    if kind is list or parts[1:] == (...,):
        parts = parts[:1] * len(value)
    if len(parts) != len(value):
        raise _wrong(value, place, f"a list of {len(parts)}")
    return kind(_reader(part)(value[n], f"{place}[{n}]") for n, part in enumerate(parts))


def _read_object(kind: Any, value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(value, place, "an object")
    read = _reader(kind)
    return {name: read(each, f"{place}[{name!r}]") for name, each in value.items()}


@cache
def _readers(kind: Any) -> dict[str, Read]:
    hints = get_type_hints(kind, include_extras=True)
    names = [each.name for each in fields(kind)] if is_dataclass(kind) else hints
    return {name: _reader(hints[name]) for name in names}


@cache
def _required(kind: Any) -> list[str]:
    if not is_dataclass(kind):
        return sorted(kind.__required_keys__)
    return [
        each.name
        for each in fields(kind)
        if (each.default is MISSING and each.default_factory is MISSING) or each.metadata.get("required")
    ]


def _read_known(kind: Any, value: Any, place: str) -> dict[str, Any]:
    """Those members of an object that a class knows."""
    within, read = f"{place}." if place else "", _readers(kind)
    return {
        name: read[name](each, f"{within}{name}")
        for name, each in _read_object(Any, value, place).items()
        if name in read
    }


def _read_members(kind: Any, value: Any, place: str) -> Any:
    is_class: bool = is_dataclass(kind)
    if is_class and isinstance(value, kind):
        return value
    known, within = _read_known(kind, value, place), f"{place}." if place else ""
    if lacking := [name for name in _required(kind) if name not in known]:
        raise ValueError(f"it lacks {within}{lacking[0]}")
    if not is_class:
        return {**value, **known}
    if unknown := [name for name in value if name not in known]:
        raise ValueError(f"it has an unknown {within}{unknown[0]}")
    try:
        return kind(**known)
    except ValueError as error:  # of its own checks
        raise ValueError(f"its {place}: {error}" if place else str(error)) from error

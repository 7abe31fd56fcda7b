"""The options of a spec: found, checked, filled in, and built of values."""

from __future__ import annotations

import functools
import inspect
import logging
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar, get_args, get_type_hints

from fastcls.errors import OptionError, shown
from fastcls.specs.checks import no_effect
from fastcls.specs.option import KEY, Option, option

logger = logging.getLogger(__name__)
T = TypeVar("T")
Given = Sequence[tuple[Option, Any]]


def described(spec: T) -> T:
    """Add the options of a spec to its docstring, as its attributes."""
    lines = [f"    {each.name}: {own.told}" for each, own, _ in _fields(spec) if own]
    spec.__doc__ = f"{inspect.cleandoc(spec.__doc__ or '')}\n\nAttributes:\n" + "\n".join(lines)
    return spec


def options_of(spec: Any) -> Mapping[str, Option]:
    """The options of a spec and of the specs in it, by name, in their order."""
    found: Mapping[str, Option] = _options_of(spec)
    return found


@functools.cache
def _options_of(spec: Any) -> Any:
    return {found.name: found for found in _find(spec)}


def settle(spec: Any) -> None:
    """Check the values of a spec that is being made; mappings become the specs that they mean.

    Raises:
        OptionError: A value is none that its option takes, or an option has no effect.
    """
    for each, own, inner in _fields(type(spec)):
        value = getattr(spec, each.name)
        if own:
            object.__setattr__(spec, each.name, own.check(value))
        elif inner and not isinstance(value, inner):
            object.__setattr__(spec, each.name, _made(inner, each.name, value))
    refuse_without_effect(spec)


def as_spec(kind: type[T], given: Any, name: str, *, named: bool = False) -> T:
    """The spec that Python code gives, or one of the defaults.

    Args:
        kind: The spec.
        given: One of that kind, a mapping of its fields, or None for the defaults.
        name: What a message calls it.
        named: Whether its first field alone, as text or a path, stands for it; None does not then.

    Raises:
        OptionError: It is something else.
    """
    if isinstance(given, kind):
        return given
    if given is None and not named:
        return kind()
    if named and isinstance(given, (str, os.PathLike)):
        return kind(os.fspath(given))  # type: ignore[call-arg]
    made: T = _made(kind, name, given, named=named)
    return made


def refuse_without_effect(*specs: Any) -> None:
    """Raise OptionError where an option that is not at its default has no effect by the value of another."""
    held = [
        (found, value_at(spec, found.path)) for spec in specs for found in options_of(type(spec)).values()
    ]
    for choice, value in held:
        silenced = silenced_by(choice, value)
        given = [other.flag for other, told in held if other.names & silenced and told != other.default]
        if given:
            raise OptionError(no_effect(given, choice.spell(value)))


def silenced_by(choice: Option, value: Any) -> frozenset[str]:
    """What a value of an option leaves without effect, as `Option.names` has it."""
    return full_names(choice, choice.silences(value))


def full_names(owner: Option, names: Iterable[str]) -> frozenset[str]:
    """Names of fields as "Spec.field"; those without a spec are of the spec of an option."""
    specs = {name.split(".")[0] for name in owner.names if name.endswith(f".{owner.path[-1]}")}
    return frozenset(name if "." in name else f"{spec}.{name}" for name in names for spec in specs)


def overlay(known: Collection[Option], *layers: Given) -> Given:
    """Options that are given in several places, the weakest first: what counts in the end.

    What a value leaves without effect, or takes the place of, is dropped from the weaker layers. What it sets
    counts more than these, and less than its own layer.

    Args:
        known: All options.
        layers: Options with their values.
    """
    held: list[tuple[Option, Any]] = []
    for layer in layers:
        choices = [(own, value) for own, value in layer if own.sets]
        settable = {name for own, _ in choices for values in own.sets.values() for name in values}
        meant = [
            (own, value)
            for choice, chosen in choices
            for name, value in choice.sets[chosen].items()
            for own in known
            if name in own.names
        ]
        cleared = [own for own, _ in held if own.names & settable]
        settable |= {name for own in cleared for name in full_names(own, own.replaces)}
        held = [(own, value) for own, value in held if not own.names & settable]
        held = _laid_over(_laid_over(held, meant), layer)
    return held


def left_out(known: Collection[Option], settled: Given) -> Iterator[str]:
    """What a choice sets and another option leaves without effect, in a line for each two of them.

    Args:
        known: All options.
        settled: What counts in the end, as `overlay` returns it.
    """
    for choice, chosen in settled:
        meant = choice.sets.get(chosen, {}) if choice.sets else {}
        for other, value in settled:
            unused = silenced_by(other, value)
            gone = {
                own.spell(meant[name]): None
                for name in meant
                for own in known
                if name in own.names and own.names & unused
            }
            if gone:
                told = no_effect(list(gone), other.spell(value)).partition(". ")[0]
                yield f"{told}: that part of {choice.spell(chosen)} is left out"


def fill_in(choice: Option, chosen: Any, *specs: Any) -> list[Any]:
    """Specs in which options at their defaults have the values that a choice sets.

    >>> depth = Option("", path=("depth",), sets={"deep": {"ExampleSpec.layers": 3}})
    >>> fill_in(depth, "deep", ExampleSpec(), ExampleSpec(2))
    [ExampleSpec(layers=3), ExampleSpec(layers=2)]
    """
    placed = [_placed(spec, str(place)) for place, spec in enumerate(specs)]
    known = [own for options in placed for own, _, _ in options]
    given = [(own, value) for options in placed for own, value, is_given in options if is_given]
    settled = overlay(known, [(choice, chosen)], given)
    for line in left_out(known, settled):
        logger.warning(line)
    values = {own.path: value for own, value in settled}
    return [
        build(type(spec), {path[1:]: value for path, value in values.items() if path[0] == str(place)})
        for place, spec in enumerate(specs)
    ]


def _placed(spec: Any, place: str) -> list[tuple[Option, Any, bool]]:
    """The options of a spec, a place before their paths; each with its value and whether it was given."""
    owned = options_of(type(spec)).values()
    plain = build(type(spec), {own.path: value_at(spec, own.path) for own in owned if own.is_required})
    held = [(own, value_at(spec, own.path)) for own in owned]
    return [
        (replace(own, path=(place, *own.path)), value, own.is_required or value != value_at(plain, own.path))
        for own, value in held
    ]


def _laid_over(held: Given, layer: Given) -> list[tuple[Option, Any]]:
    gone = {name for own, value in layer for name in silenced_by(own, value) | full_names(own, own.replaces)}
    return [*((own, value) for own, value in held if not own.names & gone), *layer]


def value_at(spec: Any, path: Iterable[str]) -> Any:
    """The value of an option in a spec."""
    return functools.reduce(getattr, path, spec)


def build(spec: type[T], values: Mapping[tuple[str, ...], Any], *path: str) -> T:
    """Make a spec of the values of its options by their paths; missing ones are at their defaults."""
    kind: Any = spec
    given: dict[str, Any] = {}
    for each, own, inner in _fields(kind):
        place = (*path, each.name)
        if own and place in values:
            given[each.name] = values[place]
        elif inner:
            given[each.name] = build(inner, values, *place)
    made: T = kind(**given)
    return made


def _made(spec: Any, name: str, value: Any, *, named: bool = False) -> Any:
    """The spec that a mapping of its fields stands for."""
    known = [each.name for each in fields(spec)]
    if not isinstance(value, Mapping) or not value.keys() <= {*known} or (named and known[0] not in value):
        also = f", text or a path for its {known[0]}," if named else ","
        raise OptionError(
            f"{name} must be of type {spec.__name__}{also} or a mapping of its fields {', '.join(known)}. "
            f"Received: {shown(value)}"
        )
    return spec(**value)


def _find(spec: Any, path: tuple[str, ...] = (), names: frozenset[str] = frozenset()) -> Iterator[Option]:
    for each, own, inner in _fields(spec):
        place = (*path, each.name)
        known = names | {
            f"{kind.__name__}.{each.name}"
            for kind in spec.__mro__
            if each.name in getattr(kind, "__dataclass_fields__", ())
        }
        if own:
            yield replace(own, names=known, path=place)
        elif inner:
            yield from _find(inner, place, known)


def _fields(spec: Any) -> tuple[tuple[Field[Any], Option | None, Any], ...]:
    """The fields of a spec, each with its option, or the spec that it holds."""
    return _fields_of(spec)


@functools.cache
def _fields_of(spec: Any) -> Any:
    hints = get_type_hints(spec)
    found = []
    for each in fields(spec):
        types = tuple(_flat(hints[each.name]))
        inner = next((kind for kind in types if is_dataclass(kind)), None)
        own = each.metadata.get(KEY)
        if own:
            default = None if own.is_required else each.default
            flag = own.flag or f"--{'no-' * (default is True)}{each.name.replace('_', '-')}"
            own = replace(own, flag=flag, types=types, default=default)
        found.append((each, own, inner if not own else None))
    return tuple(found)


def _flat(hint: Any) -> Iterator[Any]:
    """The types that an annotation names."""
    yield hint
    for part in get_args(hint):
        yield from _flat(part)


@dataclass(frozen=True)
class ExampleSpec:
    """For the examples in this module."""

    layers: int = option(1, "How many", low=1)

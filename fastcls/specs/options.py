"""Options: fields of specs that carry their help, and how a value of one is read and checked.

A new option is one field, `warmup: int = option(0, "Epochs in which the rate first rises", low=0)`: the
command line, `--config` and `run.json` take it from there.
"""

from __future__ import annotations

import functools
import inspect
import math
import numbers
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields, is_dataclass, replace
from typing import Any, TypeVar, get_args, get_type_hints

from fastcls.errors import OptionError, shown
from fastcls.specs.checks import check_choice, no_effect

T = TypeVar("T")
_KEY = "option"


def _nothing(_: Any) -> Iterable[str]:
    return ()


@dataclass(frozen=True)
class Option:
    """What is known of an option.

    Attributes:
        help: What it does, for `--help`.
        flag: What the command line calls it, where that is not the name of the field.
        low: The least value.
        above: What values must be above.
        high: The greatest value.
        below: What values must be below.
        choices: Texts that it takes.
        metavar: What stands for its value in `--help`.
        shown: What the default means, where it is None.
        read: Makes the value of text, of a value of a JSON file, or of what Python code gives.
        silences: Names of the options that a value leaves without effect: fields of its own spec, or
            "Spec.field"; a field that is a spec means all options of that.
        replaces: Such names of options that it takes the place of: loaded from `--config`, they are dropped.
        names: "Spec.field" of its field, and of all fields that it lies in.
        path: Names of the fields from the spec that was asked down to its own.
        types: What its annotation names.
        default: Its default.
        is_required: Whether it must be given.
    """

    help: str
    flag: str = ""
    low: float | None = None
    above: float | None = None
    high: float | None = None
    below: float | None = None
    choices: Collection[str] = ()
    metavar: str | None = None
    shown: str = ""
    read: Callable[[Any], Any] | None = None
    silences: Callable[[Any], Iterable[str]] = _nothing
    replaces: tuple[str, ...] = ()
    names: frozenset[str] = frozenset()
    path: tuple[str, ...] = ()
    types: tuple[Any, ...] = ()
    default: Any = None
    is_required: bool = False

    @property
    def name(self) -> str:
        """The flag as an identifier: `train_batch_norm`."""
        return self.flag.removeprefix("--").replace("-", "_")

    @property
    def told(self) -> str:
        """Its help, with the default."""
        default = self.shown or self.default
        is_plain = default is None or default is False
        if isinstance(default, float):
            default = f"{default:g}"
        return self.help if is_plain else f"{self.help} [default: {default}]"

    def parse(self, text: str) -> Any:
        """The value that stands on a command line.

        Raises:
            OptionError: It is of another type, or none of the choices.
        """
        if not self.read:
            for kind in (int, float):
                if kind in self.types:
                    try:
                        return kind(text)
                    except ValueError:
                        if str not in self.types:
                            raise self._wrong_type(text) from None
        return self.convert(text)

    def convert(self, value: Any) -> Any:
        """A value as its type; what JSON or Python code gives for it.

        Raises:
            OptionError: It is of another type, or none of the choices.
        """
        if value is None and type(None) in self.types:
            return None
        if self.read:
            value = self.read(value)
        if not self.read or str in self.types:
            value = self._as_type(value)
        if self.choices and isinstance(value, str) and value not in self.choices:
            if float in self.types:
                raise self._wrong_type(value)
            check_choice(self.name, value, self.choices)
        return value

    def check(self, value: Any) -> Any:
        """A value as its type, within the bounds.

        Raises:
            OptionError: It is another.
        """
        value = self.convert(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not self._is_within(value):
            raise OptionError(f"{self.name} must be {self._bounds()}. Received: {value}")
        return value

    def spell(self, value: Any) -> str:
        """The option with a value, as it is typed.

        >>> options_of(ExampleSpec)["layers"].spell(8)
        '--layers 8'
        """
        if value is None or value is True:
            return f"{self.flag} unset" if value is None else self.flag
        return f"{self.flag} {value:g}" if isinstance(value, float) else f"{self.flag} {value}"

    def _as_type(self, value: Any) -> Any:
        if isinstance(value, bool):
            if bool in self.types:
                return value
        elif int in self.types and isinstance(value, numbers.Integral):
            return int(value)
        elif float in self.types and isinstance(value, numbers.Real):
            return float(value)
        elif str in self.types and isinstance(value, (str, os.PathLike)):
            return os.fspath(value)
        raise self._wrong_type(value)

    def _wrong_type(self, value: Any) -> OptionError:
        kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
        named = [text for kind, text in kinds.items() if kind in self.types]
        if self.choices and str in self.types:
            named = [*named[:-1], f"one of {', '.join(self.choices)}"]
        return OptionError(f"{self.name} must be {' or '.join(named)}. Received: {shown(value)}")

    def _is_within(self, value: float) -> bool:
        low, above, high, below = (
            limit if given is None else given
            for given, limit in (
                *((self.low, -math.inf), (self.above, -math.inf)),
                *((self.high, math.inf), (self.below, math.inf)),
            )
        )
        return math.isfinite(value) and low <= value <= high and above < value < below

    def _bounds(self) -> str:
        if self.above == 0 and self.high is None and self.below is None:
            return "positive"
        words = [
            f"above {self.above}" if self.above is not None else "",
            f"{self.low} or more" if self.low is not None else "",
            f"at most {self.high}" if self.high is not None else "",
            f"below {self.below}" if self.below is not None else "",
        ]
        return " and ".join(filter(None, words)) or "a finite number"


def option(default: T, help: str, **details: Any) -> T:
    """A field of a spec that is an option: see `Option` for the details."""
    value: T = field(default=default, metadata={_KEY: Option(help, **details)})
    return value


def required(help: str, **details: Any) -> Any:
    """A field of a spec that is an option without a default."""
    return field(metadata={_KEY: Option(help, is_required=True, **details)})


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
        also = f", text or a path for its {known[0]}," if named else ""
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
        own = each.metadata.get(_KEY)
        if own:
            flag = own.flag or f"--{each.name.replace('_', '-')}"
            default = None if own.is_required else each.default
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

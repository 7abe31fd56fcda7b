"""An option: a field of a spec that carries its help, and how a value of it is read and checked.

A new option is one field, `warmup: int = option(0, "Epochs in which the rate first rises", low=0)`: the
command line, `--config` and `run.json` take it from there.
"""

from __future__ import annotations

import importlib
import math
import numbers
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fastcls.errors import OptionError, shown
from fastcls.specs.checks import check_choice

T = TypeVar("T")
# Where a field keeps its option.
KEY = "option"
# How far from 0 whole numbers may be where an option does not say: libraries fail in their own words beyond.
_MOST = 2**32 - 1
_LARGEST = 3e38  # what float32 holds
# Metavars of values that may be paths.
_PLACES = {"PATH", "DIRECTORY", "BASE", "FILE.py:FUNCTION"}


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
        metavar: What stands for its value in `--help`; words in lower case between bars are values.
        suggested: "module:name" of a collection of values that it takes besides others, for tab completion.
        shown: What the default means, where it is None.
        read: Makes the value of text, of a value of a JSON file, or of what Python code gives.
        silences: Names of the options that a value leaves without effect: fields of its own spec, or
            "Spec.field"; a field that is a spec means all options of that.
        replaces: Such names of options that it takes the place of: loaded from `--config`, they are dropped.
        sets: What each of its values means for other options, {value: {"Spec.field": value}}.
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
    suggested: str = ""
    shown: str = ""
    read: Callable[[Any], Any] | None = None
    silences: Callable[[Any], Iterable[str]] = _nothing
    replaces: tuple[str, ...] = ()
    sets: Mapping[Any, Mapping[str, Any]] = field(default_factory=dict)
    names: frozenset[str] = frozenset()
    path: tuple[str, ...] = ()
    types: tuple[Any, ...] = ()
    default: Any = None
    is_required: bool = False

    @property
    def name(self) -> str:
        """The flag as an identifier: `train_batch_norm`; `refit` of `--no-refit`, which makes it false."""
        return self.flag.removeprefix("--no-" if self.default is True else "--").replace("-", "_")

    @property
    def told(self) -> str:
        """Its help, with the default."""
        default = self.shown or self.default
        is_plain = default is None or isinstance(default, bool)
        if isinstance(default, float):
            default = f"{default:g}"
        return self.help if is_plain else f"{self.help} [default: {default}]"

    @property
    def known_values(self) -> tuple[str, ...]:
        """Values to choose from, as far as they have names."""
        if self.suggested:
            module, _, name = self.suggested.partition(":")
            return tuple(getattr(importlib.import_module(module), name))
        return tuple(self.choices) or tuple(filter(str.islower, (self.metavar or "").split("|")))

    @property
    def takes_path(self) -> bool:
        """Whether its value may be a file or a folder."""
        return not _PLACES.isdisjoint((self.metavar or "").split("|"))

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
        if isinstance(value, int) and value > _MOST:
            raise OptionError(f"{self.name} must be at most {self.high or _MOST}. Received: {shown(value)}")
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not self._is_within(value):
            raise OptionError(f"{self.name} must be {self._bounds()}. Received: {shown(value)}")
        if isinstance(value, float) and abs(value) > _LARGEST:
            raise OptionError(f"{self.name} must be within {_LARGEST:g}. Received: {shown(value)}")
        if isinstance(value, int) and value < -_MOST:
            raise OptionError(f"{self.name} must be {-_MOST} or more. Received: {shown(value)}")
        return value

    def spell(self, value: Any) -> str:
        """The option with a value, as it is typed.

        >>> Option("Units.", flag="--layers").spell(8)
        '--layers 8'
        """
        if value is None or isinstance(value, bool):
            return f"{self.flag} unset" if value is None else self.flag
        if isinstance(value, tuple):
            value = ",".join(map(str, value))
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
        return low <= value <= high and above < value < below  # neither NaN nor infinite, too

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
    value: T = field(default=default, metadata={KEY: Option(help, **details)})
    return value


def required(help: str, **details: Any) -> Any:
    """A field of a spec that is an option without a default."""
    return field(metadata={KEY: Option(help, is_required=True, **details)})

"""Fields that take a shorthand: given as a name, read as what it stands for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

_Value = TypeVar("_Value")
_Given = TypeVar("_Given")


class Converted(Generic[_Value, _Given]):
    """The default of a dataclass field whose value may be given as something else.

    A type checker takes the type of the constructor's argument from `__set__`, and that of the attribute
    from `__get__`: `CutSpec("resnet50").base` is a `BaseSpec` to everybody.

    Args:
        shorthand: The type of what stands for a value, or several.
        convert: Makes a value of it.
        default: Makes the value where none is given; None for a field that must be given.
    """

    def __init__(
        self,
        shorthand: type | tuple[type, ...],
        convert: Callable[[_Given], _Value],
        default: Callable[[], _Value] | None = None,
    ) -> None:
        self._shorthand, self._convert, self._default = shorthand, convert, default

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> _Value:
        if instance is not None:
            value: _Value = instance.__dict__[self._name]
            return value
        if self._default is None:
            raise AttributeError(self._name)  # how dataclasses are told that there is no default
        return self._default()

    def __set__(self, instance: Any, value: _Value | _Given) -> None:
        is_short = isinstance(value, self._shorthand)
        made = self._convert(cast(_Given, value)) if is_short else value
        instance.__dict__[self._name] = made

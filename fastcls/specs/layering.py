"""Options that are given in several places: which value of each counts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from fastcls.specs.options import Option, build, full_names, options_of, silenced_by, value_at

Given = Sequence[tuple[Option, Any]]


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


def fill_in(choice: Option, chosen: Any, *specs: Any) -> list[Any]:
    """Specs in which options at their defaults have the values that a choice sets.

    >>> from fastcls.specs.options import ExampleSpec
    >>> depth = Option("", path=("depth",), sets={"deep": {"ExampleSpec.layers": 3}})
    >>> fill_in(depth, "deep", ExampleSpec(), ExampleSpec(2))
    [ExampleSpec(layers=3), ExampleSpec(layers=2)]
    """
    placed = [_placed(spec, str(place)) for place, spec in enumerate(specs)]
    known = [own for options in placed for own, _, _ in options]
    given = [(own, value) for options in placed for own, value, is_given in options if is_given]
    values = {own.path: value for own, value in overlay(known, [(choice, chosen)], given)}
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

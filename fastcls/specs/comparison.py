"""How two sets of options differ, and what one tells beyond the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastcls.specs.bases import BaseSpec, CutSpec
from fastcls.specs.data import SplitSpec
from fastcls.specs.finetuning import FinetuneSpec
from fastcls.specs.folds import FoldSpec
from fastcls.specs.heads import HeadSpec
from fastcls.specs.option import Option
from fastcls.specs.options import options_of
from fastcls.specs.training import TrainConfig
from fastcls.specs.views import ViewSpec
from fastcls.wording import count_of

# The members of a request that are specs.
_SPECS = {
    "cut": CutSpec,
    "views": ViewSpec,
    "start": BaseSpec,
    "head": HeadSpec,
    "finetuning": FinetuneSpec,
    "training": TrainConfig,
    "splits": SplitSpec,
    "folds": FoldSpec,
}
_RENAMED = {("run", "training.batch_size"): "--train-batch-size"}
# What options and data do not explain, where the values are digests.
_FACTS = {
    "cache": "the bottlenecks are of another cache",
    "images": "the images, or their labels, are others",
    "train_rows": "the images to train on, or their labels, are others",
    "val_rows": "the images to validate on, or their labels, are others",
    "classes": "the classes are others",
    "head.architecture": "the layers of the head are others",
    "head.code": "the code of the head has changed",
    "head.weights": "the weights to start from are others",
    "network": "the layers of the network are others",
    "weights": "the weights to start from are others",
}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What two requests, or what was decided for them, differ in, for a message; "" where they are equal.

    >>> differences({"training": {"epochs": 3}, "cache": "ab"}, {"training": {"epochs": 5}, "cache": "cd"})
    '--epochs was 3, is 5'
    >>> differences({"head": {"refit": False}}, {"head": {"refit": True}})
    '--no-refit was given, is not given now'
    >>> data = {"name": "photos", "images": 60, "digest": "ab"}
    >>> differences({"data": data}, {"data": {**data, "images": 58, "digest": "cd"}})
    'photos has changed: 60 images then, 58 now'
    """
    told = [*_told_of_data(before.get("data"), now.get("data")), *_told_of_options(before, now)]
    return "; ".join(dict.fromkeys(told or _told_of_facts(before, now)))


def differing(requests: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """The options in which several requests differ: by their flags, the value in each.

    >>> differing([{"training": {"epochs": 3, "seed": 0}}, {"training": {"epochs": 5, "seed": 0}}, {}])
    {'--epochs': ('3', '5', '-'), '--seed': ('0', '0', '-')}
    """
    found: dict[str, tuple[str, ...]] = {}
    for name, spec in _SPECS.items():
        for own in options_of(spec).values():
            values = [_value_at(request.get(name), own.path) for request in requests]
            if any(value != values[0] for value in values):
                found[own.flag] = tuple(_cell(own, value) for value in values)
    return found


def _cell(own: Option, value: Any) -> str:
    if isinstance(value, bool):
        return "-" if value == own.default else "given"
    return "-" if value is None else _spelled(value)


def _told_of_data(before: Any, now: Any) -> Iterator[str]:
    """What has changed in the images; what they are called has no part in it."""
    if before == now:
        return
    if not (_is_data(before) and _is_data(now)):
        yield "its images were noted in another way, by another version of fastcls"
        return
    if before["digest"] == now["digest"]:
        return
    counts = count_of(before["images"], "image"), f"{now['images']:,}"
    what = f"{counts[0]} then, {counts[1]} now"
    if before["images"] == now["images"]:
        what = f"{counts[0]} then and now, but not the same names, labels or parts"
    yield f"{now['name']} has changed: {what}"


def _is_data(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("images"), int) and "digest" in value


def _told_of_options(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name, spec in _SPECS.items():
        earlier, asked = before.get(name), now.get(name)
        if earlier == asked:
            continue
        known = [*options_of(spec).values()]
        if not isinstance(earlier, dict) or not isinstance(asked, dict):
            known = known[:1]  # which tells enough of a spec that is not there
        for own in known:
            values = _value_at(earlier, own.path), _value_at(asked, own.path)
            if values[0] != values[1]:
                renamed = _RENAMED.get((str(now.get("command")), ".".join((name, *own.path))))
                yield _told(own, renamed or own.flag, *values)
    if before.get("goes_on", False) != now.get("goes_on", False):
        yield _given("--from", is_now=bool(now.get("goes_on")))
    typed = set(before.get("typed") or ()) ^ set(now.get("typed") or ())
    flags = {name: f"--{name}" for name in typed}
    flags |= {own.name: own.flag for spec in (HeadSpec, TrainConfig) for own in options_of(spec).values()}
    yield from (_given(flags[name], is_now=name in (now.get("typed") or ())) for name in sorted(typed))


def _told(own: Option, flag: str, before: Any, now: Any) -> str:
    if bool in own.types:
        return _given(flag, is_now=now != own.default)
    return f"{flag} was {_spelled(before)}, is {_spelled(now)}"


def _given(flag: str, *, is_now: bool) -> str:
    return f"{flag} was not given, is given now" if is_now else f"{flag} was given, is not given now"


def _spelled(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value)) or "none"
    return "unset" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _value_at(values: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        values = values.get(name) if isinstance(values, dict) else None
    return values


def _told_of_facts(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    earlier, asked = (
        _flat({name: value for name, value in values.items() if name != "data"}) for values in (before, now)
    )
    for name in sorted(earlier.keys() | asked.keys()):
        if earlier.get(name) != asked.get(name):
            told = f"{name} was {earlier.get(name)}, is {asked.get(name)}"
            yield _FACTS.get(name, told)


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

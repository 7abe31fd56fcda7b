"""What two requests differ in, as a user reads it."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict

import pytest

from fastcls.specs import (
    BaseSpec,
    CutSpec,
    FinetuneSpec,
    HeadSpec,
    SplitSpec,
    TrainConfig,
    ViewSpec,
    differences,
)
from fastcls.specs.options import options_of, value_at

SPECS = {
    "start": BaseSpec("lenet5"),
    "cut": CutSpec("lenet5"),
    "head": HeadSpec("linear", layers=(8, 0.5)),
    "training": TrainConfig(),
    "finetuning": FinetuneSpec(),
    "splits": SplitSpec(),
    "views": ViewSpec(),
}
REQUEST = {
    "command": "run",
    "data": {"name": "photos", "images": 60, "digest": "ab"},
    "typed": [],
    "goes_on": False,
    "cache": "cd",
    **json.loads(json.dumps({name: asdict(spec) for name, spec in SPECS.items()})),
}


def changed(path, value):
    request = copy.deepcopy(REQUEST)
    place = request
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return request


def test_equal_requests_differ_in_nothing():
    assert differences(REQUEST, copy.deepcopy(REQUEST)) == ""
    assert differences(REQUEST, changed(("data", "name"), "moved")) == ""


@pytest.mark.parametrize("name", SPECS)
def test_an_option_is_told_by_its_flag_and_not_by_its_field(name):
    for own in options_of(type(SPECS[name])).values():
        before = value_at(SPECS[name], own.path)
        now = not before if bool in own.types else "other" if str in own.types else 77
        told = differences(REQUEST, changed((name, *own.path), now))
        flag = "--train-batch-size" if own.name == "batch_size" else own.flag
        if bool in own.types:
            is_now = now != own.default
            given = "not given, is given now" if is_now else "given, is not given now"
            assert told == f"{flag} was {given}"
        else:
            assert told.startswith(f"{flag} was ") and told.endswith(f", is {now}") and "\n" not in told
            assert "None" not in told and "(" not in told and "[" not in told


@pytest.mark.parametrize(
    ("path", "now", "told"),
    [
        (("data",), {"name": "p", "images": 1, "digest": "x"}, "p has changed: 60 images then, 1 now"),
        (("data",), "an old digest", "its images were noted in another way, by another version of fastcls"),
        (("cache",), "ef", "the bottlenecks are of another cache"),
        (("goes_on",), True, "--from was not given, is given now"),
        (("typed",), ["epochs"], "--epochs was not given, is given now"),
        (("head",), None, "--head was linear, is unset"),
        (("splits",), None, "--val was 0.2, is unset"),
        (("unheard_of",), 3, "unheard_of was None, is 3"),
    ],
    ids=str,
)
def test_what_is_no_option_is_told_in_words(path, now, told):
    assert differences(REQUEST, changed(path, now)) == told
    assert differences(changed(path, now), REQUEST) != ""


def test_options_explain_what_follows_from_them():
    now = {**changed(("training", "epochs"), 3), "cache": "ef"}
    assert differences(REQUEST, now) == "--epochs was 50, is 3"
    assert differences(REQUEST, {**now, "data": {**REQUEST["data"], "digest": "cd"}}) == (
        "photos has changed: 60 images then and now, but not the same names, labels or parts; "
        "--epochs was 50, is 3"
    )

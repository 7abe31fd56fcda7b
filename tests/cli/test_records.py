"""JSON that is whole, its checksum right, but a member holds what it never should: a line names the file."""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import operator
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from test_exported import write_export

from fastcls import files, home, inventory, runs, suggester
from fastcls.cache import checked_files
from fastcls.cache.store import Cache
from fastcls.comparison.runs import _differing
from fastcls.errors import FastclsError
from fastcls.exporting.export_record import read_record, write_record
from fastcls.exporting.runtimes import fault_of
from fastcls.metrics_record import METRICS
from fastcls.report.tested import read_test
from fastcls.runs import Run
from fastcls.specs import SplitSpec, ViewSpec, differences
from fastcls.training.head_reader import head_spec, train_config

WRONG = (None, True, -1, 0.5, "", "a", [], ["a"], [[]], {}, {"a": None})
FEW = (None, -1, "a", {"a": None})  # of what lies deep
KINDS = {type(None): "null", bool: "boolean", int: "number", float: "number", str: "text", list: "list"}
MISSING = object()


@dataclass(frozen=True)
class Kind:
    """A kind of record. Members are given as patterns of their names, joined by dots.

    Attributes:
        path: Where one is.
        read: Reads all that commands read of it.
        told: Members that nothing depends on but what is shown, or that are read where they are used alone.
        null: Members that may be null.
        empty: Members that may be empty.
        absent: Members that may be missing.
        has_checksum: Whether it has one, which is to be right.
    """

    path: Path
    read: Callable[[], Any]
    told: tuple[str, ...] = ()
    null: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    has_checksum: bool = True

    def takes(self, member: str, value: Any, was: Any) -> bool:
        """Whether a value may be taken for that of a member."""
        if any(fnmatch(member, pattern) for pattern in self.told):
            return True
        known = {"absent": value is MISSING, "null": value is None, "empty": value in ("", [], {})}
        allowed = [own for name, is_so in known.items() if is_so for own in getattr(self, name)]
        if any(fnmatch(member, pattern) for pattern in allowed):
            return True
        return value not in (MISSING, -1) and kind_of(value) == kind_of(was) and not known["empty"]


def kind_of(value):
    return KINDS.get(type(value), "object")


def places(value, *place):
    """The place of each member in a JSON value; of lists that of the first."""
    items = (
        value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    )
    for name, inner in items:
        yield (*place, name)
        yield from places(inner, *place, name)


def replaced(value, place, new):
    """A JSON value with another one in a place, or without it."""
    changed = copy.deepcopy(value)
    inner = changed
    for name in place[:-1]:
        inner = inner[name]
    if new is MISSING:
        del inner[place[-1]]
    else:
        inner[place[-1]] = new
    return changed


def stored(kind: Kind) -> Any:
    return files.read_checked_json(kind.path) if kind.has_checksum else files.read_json(kind.path)


def store(kind: Kind, value: Any) -> None:
    (files.write_checked_json if kind.has_checksum else files.write_json)(kind.path, value)


@contextlib.contextmanager
def kept(path: Path) -> Iterator[None]:
    whole = path.read_bytes()
    try:
        yield
    finally:
        path.write_bytes(whole)


@pytest.fixture(scope="module")
def made(trained, photos, tmp_path_factory):
    """A cache, a run and an export of their own."""
    root = tmp_path_factory.mktemp("records")
    cache = shutil.copytree(trained.cache.folder, root / "caches" / trained.cache.folder.name)
    run = shutil.copytree(trained.run, root / "run")
    export = run / "exports" / "openvino-float32"
    write_export(run, export)
    check = {"images": 8, "agreeing": 8, "decisions": 8, "max_difference": 1e-6, "ms_per_image": 0.1}
    known = {"format": "openvino", "precision": "float32", "bytes": 5, "check": check, "image_bytes": None}
    names = ("classifier.xml", "classifier.bin")
    own = {"digests": {"model": "a"}, "files": {name: files.file_digest(export / name) for name in names}}
    write_record(export, {**known, **own})
    return root, Cache(cache), run, export


def all_of_run(run: Path) -> None:
    """What commands read of the record of a run before they load a model."""
    opened = Run.open(run)
    for each in (
        opened.cache_folders,
        opened.task,
        opened.used,
        opened.history(),
        opened.lost,
        opened.tests(),
    ):
        assert each is not None
    assert head_spec(opened) and train_config(opened)
    opened.spec("cut", suggester._spec)
    opened.spec("splits", lambda asked: SplitSpec(**asked))
    opened.spec("views", lambda asked: ViewSpec(**asked))
    (entry,) = inventory.find(run)
    assert entry.state == inventory.COMPLETE
    _differing([opened, opened])
    differences(opened.resolved, {"data": {"name": "a", "images": 3, "digest": "d"}})


_EMPTY = ("*architecture", "*weights_digest", "*cuts*", "*fidelity", "*policies*", "*versions*")
ALLOWED = {
    "manifest.json": {
        "told": ("*cosine",),
        "null": ("*neighbors",),
        "empty": _EMPTY,
        "absent": ("cuts*", "*fidelity*", "float32_layers", "policies*", "tail_digest", "versions*"),
    },
    "digests.json": {"empty": ("of",)},
    "samples.json": {
        "told": ("extraction.*", "views.view_seed"),  # a seed may be negative
        "empty": ("extraction", "written", "*.before", "views", "views.augment", "failures*"),
        "absent": ("extraction", "written", "views.*", "*.lines", "*.before", "failures.digest"),
    },
    "run.json": {
        # Options are read where they are used, and compared as they are.
        "told": (
            *("asked.*", "decided_by.head*", "decided_by.training*", "weights_license", "figures.*"),
            *("cache.version", "cache.fidelity.*"),
        ),
        "null": ("familiarity",),
        "empty": (
            *("asked", "cache_folders", "decided_by*", "familiarity", "fastcls", "figures", "images"),
            *_EMPTY,
        ),
        "absent": (
            *("cache", "cache.*", "cache_folders*", "decided_by.*", "familiarity*", "fastcls"),
            *("files.classifier.keras", "files.head.keras", "images.*"),
        ),
    },
    "export.json": {
        "told": ("image_bytes", "check.max_difference", "check.ms_per_image"),
        "empty": ("digests",),
        "absent": ("digests.model", "files.*"),
    },
    # A figure may be undefined; what a version does not know is missing. Texts are shown.
    "metrics.json": {
        "told": ("tested_on.parity*", "tested_on.corrected"),
        "null": ("*",),
        "empty": ("*",),
        "absent": ("*",),
    },
}


def kinds(root, cache, run, export) -> dict[str, Kind]:
    """The records, by their names, and what reads them."""
    listing, folder, test = cache.listing, cache.folder, run / "test" / "photos"
    found = {
        "manifest.json": (folder / "manifest.json", lambda: Cache(folder)),
        "digests.json": (
            folder / "digests.json",
            lambda: checked_files.require_whole(folder / "trunk.keras"),
        ),
        "samples.json": (
            listing.report_path,
            lambda: (Cache(folder).listing.report(), Cache(folder).samples()),
        ),
        "run.json": (run / runs.RECORD, lambda: all_of_run(run)),
        "export.json": (
            export / runs.EXPORT_RECORD,
            lambda: (read_record(export), fault_of(export / "classifier.xml")),
        ),
        "metrics.json": (test / METRICS, lambda: read_test(Run.open(run), test.name)),
    }
    return {
        name: Kind(*known, **ALLOWED[name], has_checksum=name != "metrics.json")
        for name, known in found.items()
    }


@pytest.mark.parametrize("name", ALLOWED)
def test_a_member_of_another_kind_is_named(made, name):
    kind = kinds(*made)[name]
    known, taken = stored(kind), []
    kind.read()
    with kept(kind.path):
        for place in places(known):
            member, was = ".".join(map(str, place)), functools.reduce(operator.getitem, place, known)
            for value in (MISSING, *(WRONG if len(place) == 1 else FEW)):
                if value == was and kind_of(value) == kind_of(was):
                    continue
                store(kind, replaced(known, place, value))
                try:
                    kind.read()
                except FastclsError as error:
                    told = str(error)
                    assert str(kind.path.parent) in told and "\n" not in told, (member, value, told)
                else:
                    taken += [] if kind.takes(member, value, was) else [(member, value)]
    assert taken == []


COMMANDS = {
    "manifest.json": (
        ("cache", "info", "{cache}"),
        ("cache", "verify", "{cache}"),
        ("train-head", "{cache}", "--out", "{out}"),
        ("audit", "{cache}"),
        ("curve", "{cache}", "--out", "{out}.png"),
        ("test", "{run}", "{photos}", "--cache", "{cache}", "--out", "{out}"),
    ),
    "samples.json": (
        ("cache", "verify", "{cache}"),
        ("train-head", "{cache}", "--out", "{out}"),
        ("audit", "{cache}"),
    ),
    "digests.json": (("cache", "verify", "{cache}"), ("train-head", "{cache}", "--out", "{out}")),
    "run.json": (
        ("predict", "{run}", "{photos}/red/0.png"),
        ("test", "{run}", "{photos}", "--out", "{out}"),
        ("explain", "{run}", "{photos}/red/0.png", "--out", "{out}"),
        ("export", "{run}", "--format", "openvino"),
        ("calibrate", "{run}", "--out", "{out}"),
        ("report", "{run}"),
        ("compare", "{run}", "{run}"),
        ("suggest", "{photos}", "--from", "{run}", "--out", "{out}.csv"),
        ("train-head", "{cache}", "--from", "{run}", "--out", "{out}"),
        ("finetune", "{photos}", "--from", "{run}", "--out", "{out}"),
        ("train-head", "{cache}", "--out", "{run}"),
    ),
    "export.json": (
        ("predict", "{export}", "{photos}/red/0.png"),
        ("export", "{run}", "--format", "openvino"),
    ),
    "metrics.json": (("report", "{run}", "--test", "photos"),),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_say_so_in_one_line(fastcls, made, photos, tmp_path, name):
    _, cache, run, export = made
    kind = kinds(*made)[name]
    known = stored(kind)
    where = {"cache": cache.folder, "run": run, "export": export, "photos": photos, "out": tmp_path / "out"}
    with kept(kind.path):
        for member in known:
            value = 5 if kind_of(known[member]) != "number" else "five"
            if kind.takes(member, value, known[member]):
                continue
            store(kind, {**known, member: value})
            for command in COMMANDS[name]:
                done = fastcls(*(part.format(**where) for part in command))
                lines = done.err.splitlines()
                assert done.code == 1 and str(kind.path.parent) in lines[0], (member, command, done)
                assert len(lines) == 1 or "verify" in command, (member, command, lines)
            assert not list(tmp_path.iterdir())


def rewritten(path, name, change):
    """Change a JSON member of an archive; the checksums of the archive are right."""
    with zipfile.ZipFile(path) as whole:
        members = {each: whole.read(each) for each in whole.namelist()}
    members[name] = json.dumps(change(json.loads(members[name]))).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for each, data in members.items():
            archive.writestr(each, data)
    return path


# What is kept besides is shown, or copied to what is made of the classifier.
_SHOWN = {
    "fastcls",
    "weights_license",
    "training",
    "views",
    "figures",
    "train_count",
    "val_count",
    "familiarity",
}


def test_what_travels_with_a_classifier_is_named(made, fastcls, photos, tmp_path):
    whole = made[2] / runs.CLASSIFIER
    with zipfile.ZipFile(whole) as archive:
        known = json.loads(archive.read("fastcls.json"))
    assert known.keys() > _SHOWN
    for member in known.keys() - {*_SHOWN, "checksum"}:
        for value in (5, "a", [[]], {"size": ["a", 5]}, -1):
            path = shutil.copyfile(whole, tmp_path / "lone.keras")
            rewritten(path, "fastcls.json", lambda told: {**told, member: value})  # noqa: B023
            done = fastcls("predict", path, photos / "red" / "0.png")
            assert done.code == 1 and str(path) in done.err and done.err.count("\n") == 1, (
                member,
                value,
                done,
            )


def test_fewer_classes_than_the_head_has_outputs(made, fastcls, tmp_path):
    _, cache, run, _ = made
    with kept(run / runs.RECORD):
        record = files.read_checked_json(run / runs.RECORD)
        fewer = {**record, "class_names": record["class_names"][:2]}
        files.write_checked_json(run / runs.RECORD, fewer)
        with pytest.raises(FastclsError, match=rf"{run}/run\.json .*its class_names are not those"):
            Run.open(run)
        del fewer["decided_by"]["classes"]
        files.write_checked_json(run / runs.RECORD, fewer)
        done = fastcls(
            "train-head", cache.folder, "--from", run, "--head", "linear", "--out", tmp_path / "out"
        )
        assert done.code == 1 and f"{run / runs.RECORD} is damaged: it names 2 classes" in done.err


@pytest.mark.parametrize("asked", [5, ["a"], {"typed": 5}, {"typed": [[1]]}, {"training": 5}, {"command": 5}])
def test_a_request_that_is_none_is_named(made, fastcls, tmp_path, asked):
    _, cache, run, _ = made
    with kept(run / runs.RECORD):
        record = files.read_checked_json(run / runs.RECORD)
        told = {"command": "train-head", **asked} if isinstance(asked, dict) else asked
        files.write_checked_json(run / runs.RECORD, {**record, "asked": told})
        done = fastcls("train-head", cache.folder, "--config", run, "--out", tmp_path / "out")
    fact = "is damaged" if isinstance(asked, dict) else "is a run of an unknown command"
    assert (done.code, done.err.count("\n")) == (1, 1) and f"{run / runs.RECORD} {fact}" in done.err


@pytest.mark.parametrize("version", [None, 2, 99, "3", True, [3], 3.5])
def test_a_cache_of_another_version_names_its_maker(made, fastcls, version):
    cache = made[1]
    with kept(cache.folder / "manifest.json"):
        known = files.read_checked_json(cache.folder / "manifest.json")
        told = {**known, "version": version, "versions": {"fastcls": "9.8"}}
        files.write_checked_json(cache.folder / "manifest.json", told)
        done = fastcls("cache", "info", cache.folder)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert f"has version {version!r}, this fastcls reads version 3" in done.err
    assert "use the fastcls that made it (9.8)" in done.err


def test_what_a_machine_keeps_is_named(tmp_path):
    (tmp_path / "notes.json").write_text('{"float32_layers": ["a", 5], "fidelity": null}')
    with pytest.raises(
        FastclsError, match=rf"{tmp_path}/notes\.json is damaged: its .*\[1\] is 5.*made again"
    ):
        home.read(tmp_path, "notes.json", dict[str, tuple[str, ...] | None])


def test_few_images_were_compared(made, fastcls):
    cache = made[1]
    figures = {
        "images": 5,
        "median_error": 0.001,
        "largest_error": 0.01,
        "median_cosine": 1,
        "smallest_cosine": 1,
    }
    with kept(cache.folder / "manifest.json"):
        cache.note_fidelity("openvino", {**figures, "neighbors": None, "are_yours": False})
        done = fastcls("cache", "info", cache.folder)
    assert done.code == 0 and "Engine openvino against Keras in float32: images 5, median_error" in done.out
    assert "neighbors" not in done.out

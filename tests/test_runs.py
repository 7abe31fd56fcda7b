"""A run folder and its record."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fastcls import files, runs
from fastcls.errors import OptionError
from fastcls.runs import Run
from fastcls.tasks import ONE_LABEL, SEVERAL_LABELS
from fastcls.used_images import UsedImage, write_images

RECORD = {
    "class_names": ["a", "b"],
    "asked": {},
    "decided_by": {},
    "images": {"complete": True},
    "task": "one label",
    "thresholds": None,
    "figures": {"val_loss": 0.5},
    "train_count": 1,
    "val_count": 1,
}
IMAGES = [
    UsedImage('odd, "name"\n.png', ("a",), "train", "1" * 32),
    UsedImage("\udcff.png", ("b",), "val", "2" * 32),
]


@pytest.fixture
def run(tmp_path):
    for name in (runs.CLASSIFIER, runs.HEAD, "checkpoints/epoch-0001.keras"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    write_images(tmp_path / runs.IMAGES, IMAGES, ONE_LABEL)
    runs.write_record(tmp_path, RECORD)
    return Run.open(tmp_path)


def test_images__come_back(run, tmp_path):
    assert run.used.images == tuple(IMAGES)
    several = [replace(IMAGES[0], labels=()), replace(IMAGES[1], labels=("a", "b$|,"))]
    write_images(tmp_path / runs.IMAGES, several, SEVERAL_LABELS)
    runs.write_record(tmp_path, {**RECORD, "task": "several labels", "thresholds": [0.5, 0.5]})
    assert Run.open(tmp_path).used.images == tuple(several)


def test_of__is_the_run_of_its_own_files_alone(run, tmp_path):
    for name in (runs.CLASSIFIER, "checkpoints/epoch-0001.keras"):
        assert Run.of(tmp_path / name) == replace(run, folder=tmp_path.absolute())
    assert Run.of(tmp_path) == run
    (tmp_path / "checkpoints" / "foreign.keras").write_text(runs.CLASSIFIER)
    assert Run.of(tmp_path / "checkpoints" / "foreign.keras") is None
    (tmp_path / runs.CLASSIFIER).write_text("another")
    assert Run.of(tmp_path / runs.CLASSIFIER) is None
    with pytest.raises(OptionError, match="damaged or was replaced"):
        run.file(runs.CLASSIFIER)


@pytest.mark.parametrize("name", [".", "..", "file/run", "link", "dangling", "full"])
def test_require_new__refuses_what_cannot_be_made(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    with pytest.raises(OptionError):
        runs.require_new(runs.Path(name))
    before = sorted(tmp_path.rglob("*"))
    for allowed in ("empty", "new", "deep/er/new"):
        runs.require_new(runs.Path(allowed))
    assert sorted(tmp_path.rglob("*")) == before


def test_require_new__refuses_a_mount_point_and_a_read_only_place(tmp_path, mount):
    place = mount(tmp_path / "mounted", "tmpfs", "size=100k")
    with pytest.raises(OptionError, match="already exists"):
        runs.require_new(place)
    runs.require_new(place / "run")
    mount(place, "tmpfs", "remount,ro")
    with pytest.raises(OptionError, match="mounted is not writable"):
        runs.require_new(place / "job" / "run")


def test_read_checked_json__one_bit_anywhere(tmp_path):
    path = tmp_path / "run.json"
    value = {"classes": ["rose", "花"], "figures": {"loss": 0.25, "none": None}, "count": 3}
    files.write_checked_json(path, value)
    whole = path.read_bytes()
    assert files.read_checked_json(path) == value
    for place in range(len(whole)):
        for bit in range(8):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << bit)]) + whole[place + 1 :])
            try:
                found = files.read_checked_json(path)
            except ValueError as error:
                assert "\n" not in str(error)
            else:
                assert found == value  # white space
    for length in range(len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="it"):
            files.read_checked_json(path)


def test_open__an_export_is_no_run_and_the_run_is_named(run):
    export = run.folder / "exports" / "onnx-float32"
    export.mkdir(parents=True)
    (export / "export.json").write_text("{}")
    with pytest.raises(OptionError, match=rf"onnx-float32 is an export\. Give the run .*: {run.folder}$"):
        Run.open(export)

"""`fastcls runs`: what is there, whole or not."""

import json
import re
import shutil

import pytest


@pytest.fixture
def home(trained, tmp_path):
    """A folder with a tested run and a cache, copied from those of all tests."""
    shutil.copytree(trained.run, tmp_path / "runs" / "first")
    shutil.copytree(trained.cache.folder, tmp_path / "caches" / trained.cache.folder.name)
    return tmp_path


def listed(fastcls, *arguments):
    result = fastcls("runs", "--json", *arguments)
    assert result.code == 0 and not result.err
    return [json.loads(line) for line in result.out.splitlines()]


def test_runs__tells_what_is_there(fastcls, home):
    (home / "notes.txt").write_text("mine")
    (home / ".hidden").mkdir()
    shutil.copytree(home / "runs" / "first", home / ".hidden" / "run")
    cache, run = listed(fastcls, home)
    record = json.loads((home / "runs" / "first" / "run.json").read_text())
    assert (run["kind"], run["state"], run["path"]) == ("run", "complete", str(home / "runs" / "first"))
    assert (run["head"], run["cut"], run["images"]) == ("linear", "pooled", {"train": 36, "val": 12})
    assert run["val"]["accuracy"] == record["figures"]["val_accuracy"]
    tested = json.loads((home / "runs/first/test/photos/metrics.json").read_text())
    assert run["tests"]["photos"]["accuracy"] == tested["accuracy"]
    assert (cache["kind"], cache["state"], cache["images"]) == ("cache", "complete", {"photos": 60})
    assert cache["base"] == run["base"] == record["cache"]["base"]
    of_run = [path.lstat().st_size for path in (home / "runs" / "first").rglob("*") if path.is_file()]
    assert run["bytes"] == sum(of_run)


def test_runs__prints_tables(fastcls, home, monkeypatch):
    monkeypatch.chdir(home)
    result = fastcls("runs")
    runs, caches = (part.splitlines() for part in result.out.split("\n\n"))
    columns = ["run", "date", "size", "base", "cut", "train", "val", "head", "metric", "val", "test"]
    assert runs[0].split() == columns
    assert runs[1].startswith("runs/first ") and len(runs) == len(caches) == 2
    tested = json.loads((home / "runs/first/test/photos/metrics.json").read_text())["accuracy"]
    assert re.search(rf"linear +accuracy +\d\.\d+ +photos {tested:.3f}$", runs[1])
    assert "photos 60" in caches[1] and result.err == ""


def test_runs__a_folder_may_be_a_run_itself_or_hold_nothing(fastcls, home, tmp_path):
    (run,) = listed(fastcls, home / "runs" / "first")
    assert run["kind"] == "run"
    (tmp_path / "empty").mkdir()
    assert fastcls("runs", tmp_path / "empty").out == "No runs or caches found\n"
    result = fastcls("runs", tmp_path / "missing")
    assert result.code == 1 and result.err == f"Error: There is no folder {tmp_path / 'missing'}\n"


@pytest.mark.parametrize("change", ["remove", "empty", "garble", "folder"])
@pytest.mark.parametrize(
    "name",
    ["run.json", "classifier.keras", "manifest.json", "trunk.keras", "photos.json", "metrics.json"],
)
def test_runs__damage_is_listed_and_stops_nothing(fastcls, home, name, change):
    (path,) = home.rglob(name)
    content = path.read_bytes()
    path.unlink()
    if change == "folder":
        path.mkdir()
    elif change != "remove":
        path.write_bytes(b"" if change == "empty" else content[:-20] + b"\x80" + content[-19:])
    cache, run = listed(fastcls, home)
    assert (cache["kind"], run["kind"]) == ("cache", "run")
    entry = cache if name in ("manifest.json", "trunk.keras", "photos.json") else run
    other = run if entry is cache else cache
    assert other["state"] == "complete"
    if name.endswith(".keras") and change in ("empty", "garble"):
        assert entry["state"] == "complete"  # models are not read
    elif name == "metrics.json":
        assert entry["state"] == "complete" and entry["tests"] == {}
    else:
        assert entry["state"] == "damaged" and entry["problem"]
        assert str(entry["path"]) in fastcls("runs", home).err


def test_runs__the_unfinished_is_named(fastcls, home):
    shutil.move(home / "runs" / "first", home / "runs" / "first.unfinished")
    (cache_folder,) = (home / "caches").iterdir()
    shutil.rmtree(cache_folder / "samples")
    cache, run = listed(fastcls, home)
    assert (run["state"], run["problem"]) == ("unfinished", "trained, but not moved to its place")
    assert (cache["state"], cache["problem"]) == ("unfinished", "the extraction has not ended")
    (home / "runs" / "first.unfinished" / "run.json").unlink()
    (home / "runs" / "first.unfinished" / "asked.json").write_text("{}")
    assert listed(fastcls, home)[1]["problem"] == "the training has not ended"

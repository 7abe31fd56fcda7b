import csv
import io
import json
import os
import shutil
from pathlib import Path

import pytest


@pytest.fixture
def album(photos, tmp_path):
    """A folder with folders, odd names, and a file that is no image."""
    root = tmp_path / "my album"
    (root / "a" / "b").mkdir(parents=True)
    places = {
        "red": root / "a" / "b" / "red one.png",
        "green": root / "a" / "vert 緑.PNG",
        "blue": root / 'line\nbreak, "quoted".png',
    }
    for name, place in places.items():
        shutil.copy(photos / name / "0.png", place)
    (root / "notes.txt").write_text("not an image")
    return root, places


def test_predict__prints_a_line_per_image(fastcls, trained, album):
    root, places = album
    result = fastcls("predict", trained.run, root)
    assert result.code == 0 and result.err == ""
    lines = result.out.splitlines()
    assert len(lines) == 3  # a name with a line break stays on one line
    for name, place in places.items():
        shown = str(place) if str(place).isprintable() else repr(str(place))
        (line,) = (line for line in lines if line.startswith(f"{shown}: "))
        assert line.removeprefix(f"{shown}: ").startswith(f"{name} ")
        assert line.endswith("%")


def test_predict__json_has_an_object_per_line(fastcls, trained, album):
    root, places = album
    result = fastcls("predict", trained.run, root, "--json", "--top-k", 2)
    rows = [json.loads(line) for line in result.out.splitlines()]
    assert {row["path"]: row["predictions"][0]["class"] for row in rows} == {
        str(place): name for name, place in places.items()
    }
    for row in rows:
        first, second = (p["confidence"] for p in row["predictions"])
        assert first >= second


def test_predict__csv(fastcls, trained, album):
    root, places = album
    result = fastcls("predict", trained.run, root, "--csv", "--top-k", 99)
    rows = list(csv.DictReader(io.StringIO(result.out)))
    assert list(rows[0]) == ["path", "rank", "class", "confidence"]
    assert len(rows) == 3 * 3  # no more than there are classes
    for name, place in places.items():
        own = [row for row in rows if row["path"] == str(place)]
        assert [row["rank"] for row in own] == ["1", "2", "3"] and own[0]["class"] == name
        assert sum(float(row["confidence"]) for row in own) == pytest.approx(1, abs=1e-5)


def test_predict__the_last_form_wins(fastcls, trained, photos):
    image = photos / "red" / "0.png"
    assert fastcls("predict", trained.run, image, "--csv", "--json").out.startswith("{")
    assert fastcls("predict", trained.run, image, "--json", "--csv").out.startswith("path,rank")


def test_predict__repeats_what_is_given_twice(fastcls, trained, photos):
    image = photos / "red" / "0.png"
    result = fastcls("predict", trained.run, image, photos / "red", image, "--batch-size", 4)
    lines = result.out.splitlines()
    assert len(lines) == 22 and lines[0] == lines[1] == lines[-1]


def test_predict__goes_on_after_unreadable_images(fastcls, trained, photos, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")
    image = photos / "green" / "3.png"
    result = fastcls("predict", trained.run, tmp_path / "missing.png", tmp_path / "broken.jpg", image)
    assert result.code == 1
    assert result.out.startswith(f"{image}: green ")
    assert [line.split(":")[0] for line in result.err.splitlines()] == ["Unreadable"] * 2
    assert "missing.png" in result.err and "broken.jpg" in result.err


def test_predict__pipes_and_links_to_nowhere_are_named_and_hang_nobody(fastcls, trained, photos, tmp_path):
    shutil.copy(photos / "green" / "3.png", tmp_path)
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "link.jpg").symlink_to("nowhere")
    result = fastcls("predict", trained.run, tmp_path)
    assert result.code == 1 and result.out.count("\n") == 1
    link, pipe = result.err.splitlines()
    assert "link.jpg': cannot be read: No such file" in link
    assert "pipe.jpg': cannot be read: it is not a regular file" in pipe


@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"]], ids=str)
def test_predict__takes_names_that_are_not_utf8(form, fastcls, trained, photos, tmp_path):
    odd = Path(os.fsdecode(bytes(tmp_path) + b"/\xff.png"))
    shutil.copy(photos / "red" / "0.png", odd)
    result = fastcls("predict", trained.run, odd, *form)
    assert result.code == 0 and "red" in result.out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["{run}"], 2, "Missing argument 'IMAGES...'"),
        (["{tmp}", "x.png"], 1, "There is no classifier"),
        (["{run}/run.json", "x.png"], 1, "is not a classifier made by fastcls"),
        (["{run}", "{tmp}"], 1, "There is no image in"),
        (["{run}", "x.png", "--top-k", "0"], 2, "--top-k"),
    ],
)
def test_predict__explains_what_is_wrong(arguments, code, message, fastcls, trained, tmp_path):
    result = fastcls("predict", *(a.format(run=trained.run, tmp=tmp_path) for a in arguments))
    assert result.code == code and message in result.err and result.out == ""

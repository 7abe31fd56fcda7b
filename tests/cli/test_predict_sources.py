"""Where `fastcls predict` takes its images from, and where it sorts them to."""

import io
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from video_support import COLORS

from fastcls.data import video
from fastcls.errors import OptionError
from fastcls.inference.classifier import Classifier


@pytest.fixture
def type_in(monkeypatch):
    """Returns a function that puts bytes on standard input."""

    def put(data):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(data))))

    return put


def paths_of(result):
    return [line.split(": ")[0] for line in result.out.splitlines()]


def test_predict__patterns(fastcls, trained, photos):
    found = fastcls("predict", trained.run, photos / "*" / "1?.png")
    expected = sorted(str(path) for path in photos.glob("*/1?.png"))
    assert found.code == 0 and paths_of(found) == expected and len(expected) == 30
    deep = fastcls("predict", trained.run, photos.parent / "**" / "7.png", photos / "red" / "0.png")
    assert paths_of(deep) == [*sorted(map(str, photos.glob("*/7.png"))), str(photos / "red" / "0.png")]
    none = fastcls("predict", trained.run, photos / "*.gif")
    assert none.code == 1 and "No file matches" in none.err and none.out == ""


def test_predict__a_file_whose_name_looks_like_a_pattern_is_that_file(fastcls, trained, photos, tmp_path):
    shutil.copy(photos / "red" / "0.png", tmp_path / "a[1].png")
    shutil.copy(photos / "blue" / "0.png", tmp_path / "a1.png")
    assert paths_of(fastcls("predict", trained.run, tmp_path / "a[1].png")) == [str(tmp_path / "a[1].png")]


@pytest.mark.parametrize("separator", [b"\n", b"\r\n", b"\0"], ids=["lines", "windows", "print0"])
def test_predict__a_list_on_standard_input(separator, fastcls, trained, photos, type_in, tmp_path):
    odd = tmp_path / os.fsdecode(b"\xff [2].png")
    shutil.copy(photos / "red" / "0.png", odd)
    given = [photos / "red" / "3.png", tmp_path / "none[1].png", odd, photos / "blue"]
    type_in(separator.join(os.fsencode(path) for path in given) + separator)
    result = fastcls("predict", trained.run, photos / "green" / "0.png", "-", "--json")
    rows = [json.loads(line) for line in result.out.splitlines()]
    blue = sorted(map(str, (photos / "blue").iterdir()))
    assert [row["path"] for row in rows] == [
        *map(str, (photos / "green" / "0.png", given[0], odd)),
        *sorted(blue),
    ]
    assert result.code == 1 and "none[1].png': cannot be read: No such file" in result.err


def test_predict__a_line_that_names_no_image_is_unreadable_and_the_others_are_answered(
    fastcls, trained, photos, type_in, tmp_path
):
    good, long = photos / "red" / "3.png", "x" * 5000
    type_in(
        b"\xef\xbb\xbf" + os.fsencode(good) + f"\n{long}\nnone://a/b\n{long}.mp4\n{tmp_path}\n".encode()
    )  # as PowerShell writes
    result = fastcls("predict", trained.run, "-", photos / "red" / "4.png")
    assert result.code == 1 and paths_of(result) == [str(good), str(photos / "red" / "4.png")]
    assert result.err.count("x': cannot be read: File name too long") == 1
    assert result.err.count("x.mp4': cannot be read: File name too long") == 1
    assert result.err.count("none://a/b': Unknown scheme 'none'") == 1
    assert result.err.count(f"{tmp_path}': There is no image in ") == 1


@pytest.mark.parametrize("arguments", [[""], [".", "--sort-into", ""], ["", "."]])
def test_predict__refuses_an_empty_path(arguments, fastcls, trained):
    refused = fastcls("predict", trained.run, *arguments)
    assert refused.code == 2 and "It is empty. Give a path" in refused.err and refused.out == ""


@pytest.mark.parametrize("given", [b"", b"\n\n"])
def test_predict__an_empty_list(given, fastcls, trained, type_in):
    type_in(given)
    result = fastcls("predict", trained.run, "-")
    assert result.code == 1 and "There is no path on standard input" in result.err


def test_predict__answers_a_line_before_the_next_one_comes(trained, photos, monkeypatch):
    """A program that writes a path and waits for the answer gets it."""
    from fastcls.inference.sources import open_sources

    reading, writing = os.pipe()
    monkeypatch.setattr(sys, "stdin", os.fdopen(reading))
    classifier = Classifier.load(trained.run)
    results = (one for group in open_sources(["-"]).groups() for one in classifier.stream(group.images))
    for name in ("red", "blue", "green"):
        path = photos / name / "0.png"
        os.write(writing, f"{path}\n".encode())
        assert (next(results).path, next(iter([name]))) == (path, name)
    os.close(writing)
    assert list(results) == []


def test_predict__videos(fastcls, trained, clip, photos):
    image = photos / "red" / "0.png"
    result = fastcls("predict", trained.run, clip, image, "--every", 2, "--json")
    rows = [json.loads(line) for line in result.out.splitlines()]
    assert result.code == 0 and [row["predictions"][0]["class"] for row in rows] == [*COLORS, "red"]
    assert [row["path"] for row in rows] == [*(f"{clip}#frame={number}" for number in (0, 2, 4)), str(image)]
    assert [row.get("seconds") for row in rows] == [0.0, 0.2, 0.4, None]
    assert len(fastcls("predict", trained.run, clip.parent / "*.avi", "--csv").out.splitlines()) == 7
    shutil.copy(photos / "red" / "0.png", clip)  # of another format than its name says
    broken = fastcls("predict", trained.run, clip.with_suffix(".mp4"), clip)
    assert broken.code == 1 and "clip.mp4': cannot be read: No such file" in broken.err
    clip.with_suffix(".mp4").write_text("junk")
    junk = fastcls("predict", trained.run, clip.with_suffix(".mp4"))
    assert junk.code == 1 and junk.err.count("\n") == 1 and "clip.mp4': no frame can be read" in junk.err


def test_classifier__takes_what_the_command_takes(trained, clip, photos):
    classifier = Classifier.load(trained.run)
    found = classifier.predict(str(clip))
    assert [result.class_name for result in found] == [name for name in COLORS for _ in range(2)]
    assert [result.path for result in found] == [None] * 6 and found[5].seconds == 0.5
    assert repr(found[3]).startswith(f"<{clip}#frame=3: green ")
    assert len(classifier.predict([str(photos / "*" / "2.png"), clip])) == 9
    with pytest.raises(OptionError, match="Unknown scheme 'ftp'"):
        classifier.predict("ftp://host/a.jpg")
    (gone,) = classifier.predict("http://127.0.0.1:1/a.jpg")
    assert gone.name == "http://127.0.0.1:1/a.jpg" and gone.reason.startswith("cannot be fetched: ")


class FakeCapture:
    """A camera whose frames are counted, and that a user ends by Ctrl-C."""

    given = 0

    def __init__(self, index):
        type(self).given = 0

    def isOpened(self):  # noqa: N802
        return True

    def grab(self):
        type(self).given += 1
        if self.given > 5:
            raise KeyboardInterrupt
        return True

    def retrieve(self):
        return True, np.full((32, 32, 3), COLORS["green"], np.uint8)

    def release(self):
        pass


def test_predict__a_camera_is_answered_frame_by_frame_until_ctrl_c(fastcls, trained, monkeypatch):
    monkeypatch.setattr(video.cv2, "VideoCapture", FakeCapture)
    result = fastcls("predict", trained.run, "camera:0", "--every", 2, "--json")
    rows = [json.loads(line) for line in result.out.splitlines()]
    assert result.code == 0 and result.err == ""
    assert [row["path"] for row in rows] == [f"camera:0#frame={number}" for number in (0, 2, 4)]
    camera = video.Camera(0)
    for number, found in enumerate(Classifier.load(trained.run).stream(camera, batch_size=1), 1):
        assert FakeCapture.given == number and found.class_name == "green"
        if number == 4:
            break


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{photos}", "--every", "2"], "--every has no effect with images"),
        (["-", "-"], "- can be read once only. Received: 2 times"),
        (["camera:front"], "Cameras are numbered from 0: camera:0. Received: camera:front"),
        ([f"camera:{10**20}"], "Camera 100000000000000000000 cannot be opened: there is none"),
        (["ftp://host/a.jpg"], "Unknown scheme 'ftp'. Choose one of: s3, "),
        (["{photos}", "--sort-into", "{photos}"], "already exists. Choose another --sort-into"),
        (["http://host/a.jpg", "--sort-into", "{new}"], "Only image files can be sorted"),
        (["{photos}", "a.tfrecord#12", "--sort-into", "{new}"], "Received: a.tfrecord#12"),
    ],
)
def test_predict__refuses_before_work(arguments, message, fastcls, photos, tmp_path):
    places = {"photos": photos, "new": tmp_path / "new"}
    result = fastcls("predict", "no such run", *(each.format(**places) for each in arguments))
    assert result.code == 1 and message in result.err and result.out == ""
    assert list(tmp_path.iterdir()) == []


def test_predict__sorts_and_prints(fastcls, trained, photos, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n")
    given = ("predict", trained.run, photos, broken)
    result = fastcls(*given, "--sort-into", tmp_path / "sorted", "--csv")
    assert result.code == 1 and result.out == fastcls(*given, "--csv").out
    assert f"Sorted into {tmp_path / 'sorted'}: blue 20, green 20, red 20" in result.err
    for path in (tmp_path / "sorted").rglob("*.png"):
        origin = photos / path.parent.name / f"{int(path.stem)}.png"
        assert path.samefile(origin)
    assert sum(1 for path in photos.rglob("*.png")) == 60


def test_predict__a_list_that_cannot_be_sorted_leaves_nothing(fastcls, trained, photos, type_in, tmp_path):
    type_in(f"{photos / 'red'}\nhttp://127.0.0.1:1/a.jpg\n".encode())
    result = fastcls("predict", trained.run, "-", "--sort-into", tmp_path / "sorted")
    assert result.code == 1 and "Received: http://127.0.0.1:1/a.jpg" in result.err
    assert list(tmp_path.iterdir()) == []


def test_explain__takes_patterns_and_refuses_what_is_no_file(fastcls, trained, photos, clip, tmp_path):
    out = tmp_path / "out"
    made = fastcls("explain", trained.run, photos / "*" / "1.png", "--out", out)
    assert made.code == 0, made.err
    assert sorted(Path(path.parent.name, path.name) for path in out.rglob("1.png")) == [
        Path(name, "1.png") for name in COLORS
    ]
    refused = fastcls("explain", trained.run, clip, "--out", tmp_path / "more")
    assert refused.code == 1 and "not of videos" in refused.err

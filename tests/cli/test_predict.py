import csv
import io
import json
import os
import re
import shutil
from pathlib import Path

import pytest

from fastcls.cli.predict import _as_line, _Said


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


def test_predict__a_class_name_stays_on_its_line(capsys):
    said = _Said([("two\nlines\x1b[31m", 0.75)], "", is_raw=False, is_long=False)
    assert _as_line("a.png", said) == r"a.png: 'two\nlines\x1b[31m' 75.0%"


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
    assert list(rows[0]) == ["path", "rank", "class", "confidence", "unfamiliar"]
    assert len(rows) == 3 * 3  # no more than there are classes
    for name, place in places.items():
        own = [row for row in rows if row["path"] == str(place)]
        assert [row["rank"] for row in own] == ["1", "2", "3"] and own[0]["class"] == name
        assert sum(float(row["confidence"]) for row in own) == pytest.approx(1, abs=1e-5)


def test_predict__a_line_end_in_a_name_ends_no_line_of_the_csv(fastcls, trained, photos, tmp_path):
    names = ["a\rb.png", "a\nb.png", "a\r\nb.png", 'a",b.png']
    for name in names:
        shutil.copy(photos / "red" / "0.png", tmp_path / name)
    result = fastcls("predict", trained.run, tmp_path, "--csv")
    rows = list(csv.DictReader(io.StringIO(result.out, newline="")))
    assert {row["path"] for row in rows} == {str(tmp_path / name) for name in names}
    assert {row["class"] for row in rows} == {"red"}


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
        (["{run}"], 2, "Missing argument 'SOURCES...'"),
        (["{run}", "x.png", "--json", "--csv"], 2, "Give either --json or --csv"),
        (["{tmp}", "x.png"], 1, "There is no classifier"),
        (["{run}/run.json", "x.png"], 1, "is not a classifier made by fastcls"),
        (["{run}", "{tmp}"], 1, "There is no image in"),
        (["{run}", "x.png", "--top-k", "0"], 1, "top_k must be 1 or more"),
    ],
)
def test_predict__explains_what_is_wrong(arguments, code, message, fastcls, trained, tmp_path):
    result = fastcls("predict", *(a.format(run=trained.run, tmp=tmp_path) for a in arguments))
    assert result.code == code and message in result.err and result.out == ""


def test_predict__below_the_least_confidence_the_answer_is_unsure_in_every_form(
    fastcls, trained, photos, monkeypatch
):
    from fastcls.inference.classifier import Classifier

    monkeypatch.chdir(photos)
    plain = Classifier.load(trained.run).predict("red")
    least = sorted(result.confidence for result in plain)[10]  # ten are below
    asked = ("predict", trained.run, "red", "--min-confidence", least)
    found = Classifier.load(trained.run).predict("red", min_confidence=least)
    expected = {str(one.path): "unsure" if one.confidence < least else one.class_name for one in plain}
    assert list(expected.values()).count("unsure") == 10
    assert {str(one.path): one.class_name for one in found} == expected
    assert [one.confidence for one in found] == [one.confidence for one in plain]
    lines = [line.split(": ") for line in fastcls(*asked).out.splitlines()]
    assert {path: said.split()[0] for path, said in lines} == expected
    likely = {str(one.path): [name for name, _ in one.scores()] for one in plain}
    for top_k in (None, 1, 3):
        more = ("--json",) if top_k is None else ("--json", "--top-k", top_k)
        objects = [json.loads(line) for line in fastcls(*asked, *more).out.splitlines()]
        assert {row["path"]: row["answer"] for row in objects} == expected
        named = {row["path"]: [each["class"] for each in row["predictions"]] for row in objects}
        assert named == {path: names[: top_k or 1] for path, names in likely.items()}
    for path, said in (line.split(": ") for line in fastcls(*asked, "--top-k", 2).out.splitlines()):
        answer = "unsure 00.0% (" if expected[path] == "unsure" else ""
        names = re.sub(r"\d+\.\d", "00.0", said.removesuffix(" [unfamiliar]"))
        names = names.removeprefix(answer).removesuffix(")")
        assert names == ", ".join(f"{name} 00.0%" for name in likely[path][:2])
    ranked = {path: [] for path in expected}
    for row in csv.DictReader(io.StringIO(fastcls(*asked, "--csv", "--top-k", 2).out)):
        ranked[row["path"]].append(row["class"])
    unsure = {path: ["unsure"] * (answer == "unsure") for path, answer in expected.items()}
    assert ranked == {path: [*unsure[path], *names[:2]] for path, names in likely.items()}
    rows = csv.DictReader(io.StringIO(fastcls(*asked, "--csv").out))
    assert {row["path"]: row["class"] for row in rows} == expected
    pytest.importorskip("pandas")
    assert dict(zip(expected, found.to_frame()["predicted"], strict=True)) == expected


def test_predict__scores_are_the_probabilities_of_all_classes(fastcls, trained, photos):
    from fastcls.inference.classifier import Classifier

    image = photos / "red" / "0.png"
    (result,) = Classifier.load(trained.run).predict(image)
    line = fastcls("predict", trained.run, image, "--scores").out
    assert line == f"{image}: " + ", ".join(f"{name} {value:.6f}" for name, value in result.scores()) + "\n"
    assert {name for name, _ in result.scores()} == {"blue", "green", "red"}
    (row,) = fastcls("predict", trained.run, image, "--scores", "--json", "--top-k", 2).out.splitlines()
    assert [one["class"] for one in json.loads(row)["scores"]] == [name for name, _ in result.scores(2)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--threshold", 0.3), "--threshold has no effect with one label per image"),
        (("--scores", "--min-confidence", 0.3), "--min-confidence has no effect with --scores"),
        (("--min-confidence", 1.5), "min_confidence must be 0 or more and at most 1"),
    ],
)
def test_predict__refuses_options_without_effect(given, message, fastcls, trained, photos):
    result = fastcls("predict", trained.run, photos, *given)
    assert result.code in (1, 2) and message in result.err and result.out == ""


def test_predict__shows_a_bar_on_a_terminal_alone(fastcls, trained, photos, monkeypatch):
    assert fastcls("predict", trained.run, photos).err == ""
    monkeypatch.setattr("fastcls.cli.options.show_progress", lambda: True)
    result = fastcls("predict", trained.run, photos)
    assert "predict:   0%|" in result.err and "/60 [" in result.err
    assert result.out.count("\n") == 60

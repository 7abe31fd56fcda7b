import csv
import json
import shutil

import cv2
import numpy as np
import pytest

from fastcls import Classifier, explain
from fastcls.inference.explained_folder import explain_images
from fastcls.inference.overlays import captioned


@pytest.fixture
def album(photos, tmp_path):
    """Photos of two shapes in folders, and files that are no images."""
    root = tmp_path / "album"
    (root / "b" / "緑").mkdir(parents=True)
    shutil.copy(photos / "red" / "0.png", root / "b" / "one.png")
    shutil.copy(photos / "green" / "1.png", root / "b" / "緑" / "two.png")
    cv2.imwrite(str(root / "three.bmp"), cv2.imread(str(photos / "blue" / "2.png"))[:20, :12])
    (root / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")
    return root


def rows_of(out):
    with (out / "explained.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def size_of(path):
    return cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR).shape[:2]


def test_explain__writes_a_picture_per_image_at_the_same_path(fastcls, trained, album, tmp_path):
    out = tmp_path / "new" / "out"
    done = fastcls("explain", trained.run, album, "--out", out, "--size", 64)
    assert done.code == 1 and "broken.jpg': damaged or truncated" in done.err
    assert done.out.splitlines()[0] == "Explained 3 images: 3 maps by grad-cam, layer conv (7x7)"
    names = {
        "b/one.png",
        "b/緑/two.png",
        "three.bmp.png",
        "contact_sheet.jpg",
        "explained.csv",
        "explained.json",
    }
    assert {path.relative_to(out).as_posix() for path in out.rglob("*.*")} == names
    rows = {row["path"]: row for row in rows_of(out)}
    assert {path: (row["class"], row["file"]) for path, row in rows.items()} == {
        "b/one.png": ("red", "b/one.png"),
        "b/緑/two.png": ("green", "b/緑/two.png"),
        "three.bmp": ("blue", "three.bmp.png"),
        "broken.jpg": ("", ""),
    }
    assert rows["broken.jpg"]["reason"] and not rows["three.bmp"]["reason"]
    for path in album.rglob("*.png"):
        (predicted,) = Classifier.load(trained.run).predict(path)
        row = rows[path.relative_to(album).as_posix()]
        assert float(row["confidence"]) == pytest.approx(predicted.confidence, abs=1e-4)
    about = json.loads((out / "explained.json").read_text(encoding="utf-8"))
    assert (about["layer"], about["map"], about["images"], about["unreadable"]) == ("conv", [7, 7, 8], 3, 1)
    # The photo and a map side by side, each in the shape of the photo, below a line of text.
    height, width = size_of(out / "b" / "one.png")
    assert width == 2 * 64 + 4 and height > round(64 * 24 / 30)
    height, width = size_of(out / "three.bmp.png")
    assert width == 2 * round(64 * 12 / 20) + 4 and height > 64


def test_explain__any_class_and_layer_in_any_colors(fastcls, trained, photos, tmp_path):
    image = photos / "red" / "0.png"
    options = {
        "top": ("--top-k", 3),
        "class": ("--class", "blue", "--method", "grad-cam++"),
        "colors": ("--class", "blue", "--method", "grad-cam++", "--colormap", "inferno"),
        "layer": ("--layer", "conv", "--class", "red"),
    }
    for name, more in options.items():
        assert fastcls("explain", trained.run, image, *more, "--out", tmp_path / name).code == 0
    rows = {name: rows_of(tmp_path / name) for name in options}
    assert [(row["rank"], row["path"]) for row in rows["top"]] == [(rank, "0.png") for rank in "123"]
    assert {row["class"] for row in rows["top"]} == {"red", "green", "blue"}
    assert [row["class"] for row in rows["class"]] == ["blue"]
    pictures = {name: (tmp_path / name / "0.png").read_bytes() for name in options}
    assert len(set(pictures.values())) == len(options)


def test_explain__names_that_would_meet_are_kept_apart(fastcls, trained, photos, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(photos / folder.replace("a", "red").replace("b", "blue") / "0.png", tmp_path / folder)
    shutil.copy(photos / "red" / "1.png", tmp_path / "explained.csv")
    cv2.imwrite(str(tmp_path / "contact_sheet.jpg"), cv2.imread(str(photos / "red" / "2.png")))
    given = [tmp_path / name for name in ("a/0.png", "b", "a", "contact_sheet.jpg", "explained.csv")]
    out = tmp_path / "out"
    assert fastcls("explain", trained.run, *given, "--out", out).code == 0
    assert [row["file"] for row in rows_of(out)] == [
        *("a/0.png", "b/0.png", "contact_sheet-2.jpg", "explained.csv.png")
    ]
    assert all((out / row["file"]).is_file() for row in rows_of(out))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["{run}"], 2, "Missing argument 'IMAGES...'"),
        (["{run}", "x.png"], 1, "None of the images could be read. The first: x.png: cannot be read"),
        (["{run}", "{tmp}"], 1, "There is no image in"),
        (["{tmp}", "{photo}"], 1, "There is no classifier at"),
        (["{run}", "{photo}", "--class", "rde"], 1, "no class 'rde'. The closest are red"),
        (["{run}", "{photo}", "--layer", "cnov"], 1, "no layer 'cnov'. The closest are conv"),
        (["{run}", "{photo}", "--layer", "pooled"], 1, "'pooled' gives an array of shape (8,)"),
        (["{run}", "{photo}", "--method", "lime"], 2, "grad-cam, grad-cam++"),
        (["{run}", "{photo}", "--class", "red", "--top-k", 2], 2, "--top-k has no effect with --class red"),
        (["{run}", "{photo}", "--threshold", 0.5], 1, "--threshold has no effect with one label per image"),
    ],
)
def test_explain__refuses_and_writes_nothing(fastcls, trained, photos, tmp_path, arguments, code, message):
    known = {"run": trained.run, "tmp": tmp_path, "photo": photos / "red" / "0.png"}
    filled = [str(argument).format(**known) for argument in arguments]
    done = fastcls("explain", *filled, "--out", tmp_path / "out")
    assert done.code == code and message in done.err and done.out == ""
    assert not list(tmp_path.iterdir())


def test_explain__never_writes_over_anything(fastcls, trained, photos, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("precious")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("precious")
    image = photos / "red" / "0.png"
    for name in ("full", "file"):
        done = fastcls("explain", trained.run, image, "--out", tmp_path / name)
        assert done.code == 1 and "already exists" in done.err
    assert fastcls("explain", trained.run, image, "--out", tmp_path / "empty").code == 0
    assert (tmp_path / "full" / "mine.txt").read_text() == (tmp_path / "file").read_text() == "precious"
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]


def test_explain_images__draws_each_small_in_order(trained, album, photos):
    classifier, paths = Classifier.load(trained.run), [album / "broken.jpg", photos / "red" / "0.png"]
    broken, drawn = explain_images(classifier, paths, size=40)
    assert broken.picture is None and broken.explanation.reason
    assert drawn.picture.shape == (32, 40, 3) and drawn.explanation.class_names == ("red",)
    np.testing.assert_array_equal(drawn.explanation.maps, explain(trained.run, paths[1])[0].maps)


def test_explain__of_a_class_name_that_no_font_has_writes_its_number(monkeypatch):
    plain = np.zeros((10, 200, 3), np.uint8)
    expected = captioned(plain, "class 3", " 97.3%")
    odd = "\N{OLD PERSIAN SIGN A}\U000e0041"  # the second one has no letter
    np.testing.assert_array_equal(captioned(plain, odd, " 97.3%", "class 3"), expected)
    for name in ("köпка", "a"):
        assert (captioned(plain, name, " 97.3%", "class 3") != expected).any()
    long = captioned(plain, "a long name " * 20, " 97.3%")
    assert long.shape == expected.shape and (long != captioned(plain, "a", " 97.3%")).any()
    features = {"raqm": False}
    monkeypatch.setattr("fastcls.inference.overlays.features.check", features.get)
    np.testing.assert_array_equal(captioned(plain, "قط", " 97.3%", "class 3"), expected)

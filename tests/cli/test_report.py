"""`fastcls report`: one page, whatever the classes are called, from what is left of a run."""

from __future__ import annotations

import base64
import contextlib
import csv
import json
import re
import shutil

import cv2
import numpy as np
import pytest
from browser_support import FOUND, Browser

from fastcls import files, pipeline
from fastcls.data.dataset import Dataset
from fastcls.report import reporter
from fastcls.report.selection import select
from fastcls.specs import BaseSpec, CutSpec, ExtractConfig, TrainConfig

NAMES = ("<script>alert(1)</script>", "red", "猫 & 'dog'")
SIZES = [(24, 30), (200, 90)]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Twenty pictures of each class, of which every fifth has the label of the next class."""
    root = tmp_path_factory.mktemp("photos")
    random, rows = np.random.default_rng(0), []
    for number in range(60):
        image = random.integers(0, 120, (*SIZES[number % 2], 3), np.uint8)
        image[..., number % 3] += 60
        cv2.imwrite(str(root / f"{number} <script>.png"), image)
        label = NAMES[(number % 3 + (number % 5 == 0)) % 3]
        rows.append((f"{number} <script>.png", label))
    with (root / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *rows])
    return root / "table.csv"


def make_run(table, base, folder, **read):
    pipeline.run(
        Dataset.open(table, **read),
        CutSpec(BaseSpec(str(base)), precision="float32"),
        folder / "run",
        config=TrainConfig(learning_rate=0.05),
        cache_root=folder / "caches",
        extraction=ExtractConfig(executor="inline"),
    )
    return folder


@pytest.fixture(scope="module")
def made(table, base, tmp_path_factory):
    return make_run(table, base, tmp_path_factory.mktemp("made"))


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "copy")


def data_of(page):
    """What the scripts of a page read."""
    (text,) = re.findall(
        r'<script type="application/json" id="page-data">(.*?)</script>', page.read_text(), re.S
    )
    return json.loads(text)


def test_report__shows_all_images_with_what_is_known_of_them(fastcls, folder):
    result = fastcls("report", folder / "run")
    assert result.code == 0, result.err
    assert f"{folder / 'run' / 'report.html'}" in result.out and "Report of 60 images" in result.out
    page = data_of(folder / "run" / "report.html")
    images = page["images"]
    assert all(images["thumbnail"]) and len({*images["path"]}) == 60
    tested = [place for place, said in enumerate(images["predicted"]) if said is not None]
    assert (len(tested), np.sum(page["confusion"]["counts"])) == (12, 12)
    correct = [images["predicted"][place] == images["label"][place] for place in tested]
    assert [images["correct"][place] for place in tested] == correct
    wrong = [images["confidence"][place] for place in tested if not images["correct"][place]]
    assert wrong == sorted(wrong, reverse=True) and wrong
    assert {page["splits"][images["split"][place]] for place in tested} == {"test"}
    for place in tested:
        near = images["near"][place]
        assert len(near) == 5 and [cosine for _, cosine in near] == sorted((c for _, c in near), reverse=True)
        assert {page["splits"][images["split"][other]] for other, _ in near} <= {"train", "val"}
    for points in page["points"].values():
        assert len(points) == 60 and np.min(points) >= 0 and np.max(points) <= 1


def test_report__shows_what_an_audit_doubts_beside_what_it_suggests(fastcls, folder):
    assert fastcls("report", folder / "run").code == 0
    page = data_of(folder / "run" / "report.html")
    found = page["suspects"]["labels"]
    flipped = {f"{number} <script>.png" for number in range(0, 60, 5)}
    assert len({page["images"]["path"][each["image"]] for each in found} & flipped) > len(flipped) / 2
    for each in found:
        assert [page["classes"][label] for label in page["images"]["label"][each["other"]]] == each[
            "suggested"
        ]
        assert each["suggested"] != each["given"]


def test_report__explains_mistakes_and_shows_a_part_of_many_images(fastcls, folder, monkeypatch):
    monkeypatch.setattr(reporter, "select", lambda material: select(material, 20))
    points = [{"images": 10, "mean": 0.5, "folds": [0.5]}, {"images": 20, "mean": 0.625, "folds": [0.625]}]
    curve = {"data": "table", "figure": "accuracy", "sentence": "Twice <the> images", "points": points}
    (folder / "curve.json").write_text(json.dumps(curve))
    result = fastcls("report", folder / "run", "--explain", 2, "--curve", folder / "curve.json")
    assert '<p class="hint">Twice &lt;the&gt; images</p>' in (folder / "run" / "report.html").read_text()
    assert result.code == 0 and "Of 60 images the page shows 20" in result.out
    page = data_of(folder / "run" / "report.html")
    assert len(page["images"]["path"]) == 20 and np.sum(page["confusion"]["counts"]) == 12
    mistakes = [place for place, right in enumerate(page["images"]["correct"]) if right is False]
    assert [each["image"] for each in page["explained"]] == mistakes[:2]
    assert page["curve"]["points"] == [[10, 0.5], [20, 0.625]]
    for each in page["explained"]:
        assert each["class"] == page["classes"][page["images"]["predicted"][each["image"]][0]]
        assert each["confidence"] == pytest.approx(page["images"]["confidence"][each["image"]], abs=0.02)
        assert base64.b64decode(each["picture"])[8:12] == b"WEBP"


def test_report__is_the_same_page_again_and_never_replaces_another_one(fastcls, folder):
    run = folder / "run"
    assert fastcls("report", run).code == 0
    first = (run / "report.html").read_bytes()
    assert fastcls("report", run).code == 0
    assert sorted(path.name for path in run.glob("*.html")) == ["report.html"]
    (run / "map.json").write_text("damaged")
    assert fastcls("report", run).code == 0 and (run / "report.html").read_bytes() == first
    (run / "report.html").write_text("mine")
    assert str(run / "report-2.html") in fastcls("report", run).out
    assert (run / "report.html").read_text() == "mine" and (run / "report-2.html").read_bytes() == first
    taken = fastcls("report", run, "--out", run / "report.html")
    assert taken.code == 1 and "already exists" in taken.err and "Traceback" not in taken.err


@contextlib.contextmanager
def away(place):
    """A folder is elsewhere for a while."""
    moved = place.rename(place.with_name("moved"))
    yield
    moved.rename(place)


def test_report__of_what_is_left(fastcls, made, folder, table):
    with away(table.parent):
        gone = fastcls("report", folder / "run", "--out", folder / "a.html")
    assert gone.code == 0 and "60 images could not be read where the data set was" in gone.out
    assert not any(data_of(folder / "a.html")["images"]["thumbnail"])
    shutil.rmtree(folder / "caches")
    with away(made / "caches"):
        without = fastcls("report", folder / "run", "--out", folder / "b.html")
    assert without.code == 0 and "is not where it was" in without.out
    assert len(data_of(folder / "b.html")["images"]["path"]) == 12
    shutil.rmtree(folder / "run" / "test")
    with away(made / "caches"):
        untested = fastcls("report", folder / "run", "--out", folder / "c.html")
    assert untested.code == 0 and "This run was never tested" in untested.out


def test_report__says_why_it_does_without_a_cache(fastcls, folder):
    for shard in (folder / "caches").rglob("*.h5"):
        shard.write_bytes(shard.read_bytes()[:-400])
    damaged = fastcls("report", folder / "run", "--out", folder / "a.html")
    assert damaged.code == 0 and "There is no map, no training image" in damaged.out
    assert (
        "Run the same `fastcls extract` again" in damaged.out
        and len(data_of(folder / "a.html")["images"]["path"]) == 12
    )
    record = files.read_checked_json(folder / "run" / "run.json")
    del record["files"]["head.keras"]  # as of a network that was finetuned
    files.write_checked_json(folder / "run" / "run.json", record)
    (folder / "run" / "head.keras").unlink()
    tuned = fastcls("report", folder / "run", "--out", folder / "b.html")
    assert tuned.code == 0 and "was finetuned: it was trained on images" in tuned.out


def test_report__takes_a_learning_curve_of_its_own_images_alone(fastcls, folder, photos, base):
    (cache,) = (folder / "caches").glob("tiny*")
    other = folder / "others"
    asked = ("extract", photos, "--base", base, "--precision", "float32", "--executor", "inline")
    assert fastcls(*asked, "--cache", other, "--name", "table").code == 0
    (other,) = other.glob("tiny*")
    for place, name in ((cache, "own"), (other, "other")):
        assert fastcls("curve", place, "--out", folder / f"{name}.png").code == 0
    shown = fastcls("report", folder / "run", "--curve", folder / "own.json")
    assert shown.code == 0 and data_of(folder / "run" / "report.html")["curve"]["points"]
    told = json.loads((folder / "own.json").read_text())
    (folder / "named.json").write_text(json.dumps({**told, "data": "another"}))
    (folder / "cached.json").write_text(json.dumps({**told, "fingerprint": "0" * 64}))
    for name, differs in (
        ("other", "other images"),
        ("named", "another data set"),
        ("cached", "another cache"),
    ):
        refused = fastcls("report", folder / "run", "--curve", folder / f"{name}.json")
        assert refused.code == 1 and f"of {differs} than" in refused.err and "fastcls curve" in refused.err


def test_report__says_what_is_wrong_in_a_line(fastcls, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(reporter, "select", None)  # all of it before the work
    for arguments, told in (
        ([folder / "run", "--out", "/proc/report.html"], "/proc is not writable"),
        ([folder / "run", "--out", folder / "run" / "run.json"], "already exists"),
        ([tmp_path], "Give a run or its run.json"),
        ([folder / "run", "--test", "another"], "has no test 'another'. It has: table"),
        ([folder / "run", "--curve", folder / "run" / "run.json"], "is not a learning curve"),
        ([folder / "run", "--out", tmp_path], "is a folder. Give --out the name of a file"),
    ):
        result = fastcls("report", *arguments)
        assert result.code == 1 and told in result.err and "Traceback" not in result.err
    for damaged in (folder / "run" / "test").glob("*/predictions.csv"):
        damaged.write_text("path,label,predicted\na.png,unknown,red\n")
    assert "cannot be read" in fastcls("report", folder / "run").err


@pytest.fixture(scope="module")
def several(base, table, tmp_path_factory):
    """A run of several labels per image."""
    rows = [
        (path.name, "dark;red" if place % 2 else "red")
        for place, path in enumerate(sorted(table.parent.glob("*.png")))
    ]
    rows[::7] = [(name, "blue") for name, _ in rows[::7]]
    folder = tmp_path_factory.mktemp("several")
    with (folder / "several.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("path", "labels"), *((str(table.parent / name), labels) for name, labels in rows)]
        )
    return make_run(folder / "several.csv", base, folder, label_separator=";")


def test_report__of_several_labels(several, fastcls, tmp_path):
    result = fastcls("report", several / "run", "--out", tmp_path / "page.html")
    assert result.code == 0, result.err
    page = data_of(tmp_path / "page.html")
    tested = [place for place, said in enumerate(page["images"]["predicted"]) if said is not None]
    for label, counts in enumerate(page["confusion"]["counts"]):
        pairs = [
            (label in page["images"]["label"][p], label in page["images"]["predicted"][p]) for p in tested
        ]
        assert counts == [
            pairs.count(pair) for pair in ((True, True), (True, False), (False, True), (False, False))
        ]
    # What the run itself answers is a point of the curve where its thresholds are one.
    metrics = json.loads(next((several / "run" / "test").glob("*/metrics.json")).read_text())
    assert page["own"]["precision"] == pytest.approx(metrics["micro_precision"], abs=1e-6)
    assert page["own"]["recall"] == pytest.approx(metrics["micro_recall"], abs=1e-6)
    covered = [bool(page["images"]["predicted"][place]) for place in tested]
    assert page["own"]["coverage"] == pytest.approx(np.mean(covered)) and len(page["own_thresholds"]) == 3


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A browser that has said nothing against any page, and asked for nothing else, by its end."""
    if FOUND is None:
        pytest.skip("no Chromium is installed")
    own = Browser(tmp_path_factory.mktemp("profile"))
    yield own
    own.close()


def title(browser):
    return browser.run(
        "document.getElementById('gallery').open && document.getElementById('gallery-title').textContent"
    )


def test_page__in_a_browser(browser, fastcls, folder):
    assert fastcls("report", folder / "run").code == 0
    path = folder / "run" / "report.html"
    browser.show(path)
    page = data_of(path)
    # Names are text, wherever they are.
    assert browser.run("document.querySelector('.sortable tbody button').textContent") == NAMES[0]
    assert browser.run("document.scripts.length") == 2
    # A cell opens as many images as it counts; Escape closes it.
    counts = np.array(page["confusion"]["counts"])
    row, column = next(zip(*np.nonzero(counts - np.diag(counts.diagonal())), strict=True))
    cell = f"document.querySelectorAll('.grid tbody tr')[{row}].querySelectorAll('button')[{column}]"
    browser.run(f"{cell}.click()")
    assert title(browser) == f"{NAMES[row]} predicted as {NAMES[column]} ({counts[row, column]})"
    assert browser.run("document.querySelectorAll('#gallery .tile img').length") == counts[row, column]
    browser.wait_for(
        "[...document.querySelectorAll('#gallery img')].every(i => i.complete && i.naturalWidth)"
    )
    # An image has its probabilities and neighbors, and arrows go on.
    browser.run("document.querySelector('#gallery .tile').click()")
    assert browser.run("document.querySelectorAll('#gallery .near img').length") == 5
    browser.press("Escape")
    assert title(browser) is False
    # Arrow keys move between the cells, Enter opens.
    browser.run("document.querySelector('.grid tbody button').focus()")
    browser.press("ArrowRight")
    browser.press("ArrowDown")
    browser.press("Enter")
    assert title(browser) == f"{NAMES[1]}, predicted right ({counts[1, 1]})"
    browser.press("Escape")
    # The whole map in a rectangle: with the mouse, then with keys.
    browser.run("document.getElementById('map-canvas').scrollIntoView()")
    box = browser.run("Object.values(map.canvas.getBoundingClientRect().toJSON())")
    box = [box[0], box[1], box[0] + box[2], box[1] + box[3]]
    browser.drag((box[0] + 8, box[1] + 8), (box[2] - 8, box[3] - 8))
    assert title(browser) == "Selected on the map (60)"
    browser.press("Escape")
    browser.run("document.getElementById('map-reset').click()")
    browser.run("document.getElementById('map-canvas').focus()")
    browser.press(" ")
    for _ in range(40):
        browser.press("ArrowRight")
        browser.press("ArrowDown")
    chosen = browser.run("inRectangle().length")
    assert 0 < chosen < 60 and browser.run("document.getElementById('status').textContent").startswith(
        f"{chosen} image"
    )
    browser.press("Enter")
    assert title(browser) == f"Selected on the map ({chosen})"
    browser.press("Escape")
    # The slider shows the row of the table that it stands at.
    browser.run("document.getElementById('threshold-slider').focus()")
    before = browser.run("document.getElementById('threshold-figures').textContent")
    for _ in range(5):
        browser.press("ArrowRight")
    assert browser.run("document.getElementById('threshold-figures').textContent") != before
    coverage = float(browser.run("document.getElementById('meter-coverage').textContent").split()[0])
    assert coverage == pytest.approx(100 * page["thresholds"]["coverage"][5], abs=0.06)
    # Nothing is wider than a phone, in either theme, and nothing was complained of or fetched.
    browser.show(path, width=400, dark=True)
    assert browser.run("document.documentElement.scrollWidth") == 400
    before = browser.run("getComputedStyle(document.body).backgroundColor")
    browser.run("document.getElementById('theme').click()")
    assert browser.run("getComputedStyle(document.body).backgroundColor") != before
    assert not browser.problems
    assert {url for url in browser.requests if not url.startswith("data:")} <= {path.as_uri(), "about:blank"}


def test_page__of_several_labels_in_a_browser(browser, several, fastcls, tmp_path):
    path = tmp_path / "page.html"
    assert fastcls("report", several / "run", "--out", path).code == 0
    browser.show(path)
    page = data_of(path)
    # The slider begins at the thresholds of the run, and comes back to them.
    figure = "document.getElementById('meter-recall').textContent"
    own = f"{100 * page['own']['recall']:.1f}\u00a0%"
    assert browser.run(figure) == own
    assert browser.run("document.getElementById('threshold-value').textContent").startswith("own threshold")
    slider = "document.getElementById('threshold-slider')"
    browser.run(f"{slider}.value = 0, {slider}.dispatchEvent(new Event('input'))")
    assert browser.run(figure) == f"{100 * page['thresholds']['recall'][0]:.1f}\u00a0%"
    browser.run("document.getElementById('threshold-own').click()")
    assert browser.run(figure) == own
    # The legend counts an image at each of its labels, and a class alone shows all that have it.
    labels = page["images"]["label"]
    counts = [sum(label in each for each in labels) for label in range(3)]
    told = browser.run("document.getElementById('map-legend').innerText")
    assert [f"{name} ({count})" in told for name, count in zip(page["classes"], counts, strict=True)] == [
        True
    ] * 3
    browser.run("document.querySelectorAll('#map-legend button')[1].click()")
    assert browser.run("onMap().length") == counts[1]
    # All sections that there are have a link, and no others.
    links = browser.run("[...document.querySelectorAll('.bar nav a')].map((a) => a.hash.slice(1))")
    there = "[...document.querySelectorAll('main > section')].filter((s) => !s.hidden).map((s) => s.id)"
    assert links == browser.run(there) and {"threshold", "reliability", "curves"} <= {*links}
    assert not browser.problems

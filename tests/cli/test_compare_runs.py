"""`fastcls compare RUN RUN`: finished runs on the same test images."""

import csv
import json
import shutil

import numpy as np
import pytest

from fastcls import compare_runs, files
from fastcls.errors import OptionError
from fastcls.runs import Run

CLASSES = ("blue", "green", "red")
TRUE = [CLASSES[place % 3] for place in range(40)]


def add_test(run, hits, *, name="photos", digest="same", paths=None, model=None):
    """A test of a run on 40 images, of which it has some right."""
    folder = run / "test" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with (folder / "predictions.csv").open("w") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "predicted", "confidence"])
        for place, (true, hit) in enumerate(zip(TRUE, hits, strict=True)):
            said = true if hit else CLASSES[(CLASSES.index(true) + 1) % 3]
            writer.writerow([paths[place] if paths else f"{place}.png", true, said, 0.5])
    model = model or Run.open(run).record["files"]["classifier.keras"]
    on = {"data": "/data/photos", "root": "/data/photos", "part": "test", "images": 40, "digest": digest}
    on |= {"model": model, "seen": {"train": 0, "val": 0}, "unreadable": 0}
    files.write_json(folder / "metrics.json", {"tested_on": on})


@pytest.fixture
def runs(trained, tmp_path):
    """Three runs; the second has twelve images right that the first has wrong, the first two of its own."""
    base = np.arange(40) < 20
    second = base.copy()
    second[18:20], second[25:37] = False, True
    folders = []
    for name, hits in (("first", base), ("second", second), ("third", np.arange(40) < 5)):
        folders.append(tmp_path / name)
        shutil.copytree(trained.run, folders[-1], ignore=shutil.ignore_patterns("test"))
        add_test(folders[-1], hits)
    return folders


def change_record(run, **changes):
    record = json.loads((run / "run.json").read_text())
    del record["checksum"]
    for name, value in changes.items():
        record["asked"]["training"][name] = value
    files.write_checked_json(run / "run.json", record)


def test_compare_runs__ranks_tests_and_tells_what_differs(runs, tmp_path):
    change_record(runs[0], epochs=7)
    result = compare_runs(runs, folder=tmp_path / "out")
    assert [own.name for own in result.candidates] == [str(runs[place]) for place in (1, 0, 2)]
    assert [own.chief.estimate.value for own in result.candidates] == [0.75, 0.5, 0.125]
    found = result.mcnemar
    assert (found.only_first, found.only_second) == (12, 2)
    # 2 (1 + 14 + 91) / 2^14, less 91 / 2^14
    assert found.p == pytest.approx((2 * (1 + 14 + 91) - 91) / 2**14)
    assert "is unlikely to be chance" in result.table()
    epochs = json.loads((runs[1] / "run.json").read_text())["asked"]["training"]["epochs"]
    assert result.differing == {"--epochs": (f"{epochs}", "7", f"{epochs}")}
    told = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert told["mcnemar"]["only_first"] == 12 and told["runs"][0]["figures"]["accuracy"][0] == 0.75
    rows = list(csv.DictReader((tmp_path / "out" / "comparison.csv").open()))
    assert [float(row["accuracy_to_best"]) for row in rows] == pytest.approx([0, -0.25, -0.625])
    assert [*result.to_frame()["run"]] == [row["run"] for row in rows]


def test_compare__prints_runs_side_by_side(runs, fastcls, tmp_path):
    result = fastcls("compare", *runs[:2], "--out", tmp_path / "out")
    assert result.code == 0 and result.err == ""
    assert "On the same 40 images of /data/photos" in result.out
    assert f"only {runs[1]} is right on 12 images, only {runs[0]} on 2; p = 0.0074" in result.out
    assert "They were asked for the same, of the same images" in result.out
    assert f"In {tmp_path / 'out'}: comparison.csv, comparison.json" in result.out
    assert f"Next: fastcls report {runs[1]} --test photos" in result.out
    assert "already exists" in fastcls("compare", *runs[:2], "--out", tmp_path / "out").err


def test_compare_runs__that_have_the_same_images_right_tie(runs, tmp_path):
    same = shutil.copytree(runs[1], tmp_path / "same")
    result = compare_runs([same, *runs], folder=tmp_path / "out")
    assert result.ranks == [1, 1, 3, 4]
    table = result.table()
    assert f"{same}, {runs[1]} tie: the accuracy is the same" in table
    assert f"{same} and {runs[1]} have the same images right: there is no difference to test" in table
    with (tmp_path / "out" / "comparison.csv").open(newline="") as file:
        assert [row["rank"] for row in csv.DictReader(file)] == ["1", "1", "3", "4"]


def test_compare_runs__different_images_are_never_mixed(runs):
    table = f"{runs[0] / 'test' / 'photos' / 'predictions.csv'} --image-root /data/photos --images all"
    add_test(runs[1], [True] * 40, digest="others")
    add_test(runs[1], [True] * 40, name="stale", model="of another classifier")
    with pytest.raises(OptionError, match="no test on the same images") as error:
        compare_runs(runs)
    assert str(error.value).endswith(f"Test the others on these, too:\n  fastcls test {runs[1]} {table}")
    shutil.rmtree(runs[1] / "test")
    shutil.rmtree(runs[0] / "test")
    with pytest.raises(OptionError, match="have no test yet"):
        compare_runs(runs[:2])


def test_compare_runs__images_of_other_names_cannot_be_paired(runs):
    add_test(runs[1], [True] * 40, paths=[f"renamed{place}.png" for place in range(40)])
    with pytest.raises(OptionError, match="of the same images, but named differently"):
        compare_runs(runs[:2])


def test_compare_runs__of_several_common_tests_the_largest_counts(runs):
    for run in runs[:2]:
        add_test(run, [True] * 40, name="more", digest="more")
        path = run / "test" / "more" / "metrics.json"
        path.write_text(path.read_text().replace('"images": 40', '"images": 41'))
    with pytest.raises(OptionError, match="named differently"):  # as one is said to be missing
        compare_runs(runs[:2])


def test_compare__what_is_no_comparison_is_refused(runs, fastcls, photos, tmp_path, caplog):
    mixed = fastcls("compare", runs[0], photos)
    assert mixed.code == 1 and f"{photos} is not a run, {runs[0]} is one" in mixed.err
    alone = fastcls("compare", runs[0])
    assert alone.code == 1 and "Two finished runs or more can be compared. Received: 1" in alone.err
    for option in (("--base", "lenet5"), ("--folds", "3"), ("--dry-run",)):
        result = fastcls("compare", *runs[:2], *option)
        assert result.code == 2 and f"{option[0]} has no effect with runs" in result.err
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "asked.json").write_text("{}")
    result = fastcls("compare", *runs[:2], begun)
    assert result.code == 0 and f"{begun} is left out: its training has not ended" in caplog.text
    (runs[0] / "test" / "photos" / "predictions.csv").write_text("path\nx\n")
    damaged = fastcls("compare", *runs[:2])
    assert damaged.code == 1 and "predictions.csv is damaged" in damaged.err


def test_compare_runs__images_seen_in_training_are_named(runs):
    path = runs[0] / "test" / "photos" / "metrics.json"
    path.write_text(path.read_text().replace('"train": 0', '"train": 4'))
    assert f"{runs[0]}: 4 images of these had a part in its training" in compare_runs(runs[:2]).table()

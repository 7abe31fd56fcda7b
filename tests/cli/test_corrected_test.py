"""`fastcls test --corrections`: figures with what a person has corrected, beside those without."""

import csv
import json
import re
import shutil

import pytest

from fastcls import files
from fastcls.cache.corrections import COLUMNS


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained.run, tmp_path / "run", ignore=lambda *_: ["test"])


@pytest.fixture
def predicted(fastcls, run, photos):
    """What was predicted for each photo, without corrections, by its path."""
    assert fastcls("test", run, photos).code == 0
    with (run / "test" / photos.name / "predictions.csv").open(newline="") as file:
        return {row["path"]: row for row in csv.DictReader(file)}


def write_issues(path, photos, actions):
    """Write a table of issues: (path of a photo, action, suggested class) each."""
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, restval="")
        table.writeheader()
        for image, action, suggested in actions:
            digest = files.file_digest(photos / image)
            table.writerow({"path": image, "action": action, "suggested": suggested, "digest": digest})
    return path


def test_test__corrections_are_told_in_a_line_of_their_own(fastcls, run, photos, predicted, tmp_path):
    first, second, third, *_ = sorted(predicted)
    other = next(row["label"] for row in predicted.values() if row["label"] != predicted[first]["predicted"])
    issues = write_issues(
        tmp_path / "issues.csv",
        photos,
        [(first, "relabel", other), (second, "drop", ""), (third, "split:train", "")],
    )
    asked = ("test", run, photos, "--corrections", issues, "--out", tmp_path / "out")
    done = fastcls(*asked)
    assert done.code == 0
    labels = {path: row["label"] for path, row in predicted.items()} | {first: other}
    kept = [path for path in predicted if path not in (second, third)]
    hits = sum(labels[path] == predicted[path]["predicted"] for path in kept)
    what = "1 image relabeled, 1 dropped, 1 moved to another split"
    assert f"With the corrections ({what}): accuracy {hits / len(kept):.3f}" in done.out
    told = json.loads((tmp_path / "out" / "metrics.json").read_text())
    plain = json.loads((run / "test" / photos.name / "metrics.json").read_text())
    assert told["accuracy"] == plain["accuracy"]
    assert told["tested_on"]["corrected"]["figures"]["accuracy"] == hits / len(kept)
    assert fastcls(*asked).code == 0  # the same result, which is there
    fastcls("test", run, photos, "--corrections", issues)
    assert (run / "test" / f"{photos.name}-2").is_dir()  # that without corrections stays


@pytest.mark.parametrize(
    ("action", "suggested", "message"),
    [
        (
            "relabel",
            "no such class",
            "relabels images to 'no such class', which is no known class",
        ),
        ("", "", "has no action"),
        ("fix", "", "line 2 .*unknown action 'fix'"),
    ],
)
def test_test__corrections_that_cannot_be_done(
    fastcls, run, photos, predicted, tmp_path, action, suggested, message
):
    issues = write_issues(tmp_path / "issues.csv", photos, [(min(predicted), action, suggested)])
    done = fastcls("test", run, photos, "--corrections", issues, "--out", tmp_path / "out")
    assert done.code == 1 and not (tmp_path / "out").exists()
    assert re.search(message, done.err), done.err

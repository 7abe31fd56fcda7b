"""`fastcls train-head --folds`: the classifier is the same, and a cross-validation is told of beside it."""

import csv
import json

import numpy as np
import pytest

from fastcls.backend import import_keras


def _weights(run):
    return import_keras().saving.load_model(run / "head.keras").get_weights()


@pytest.mark.parametrize(
    ("options", "repeats"), [((), 2), (("--layers", "8,0.4", "--epochs", 2), 1)], ids=["fitted", "epochs"]
)
def test_train_head__folds_change_nothing_but_tell_of_images_held_out(
    fastcls, trained, tmp_path, options, repeats
):
    asked = ("train-head", trained.cache.folder, *options)
    assert fastcls(*asked, "--out", tmp_path / "plain").code == 0
    run = tmp_path / "run"
    folds = ("--folds", 2, "--repeats", repeats)
    told_of = "2 folds of 48 images" + (", 2 times" if repeats > 1 else "")
    planned = fastcls(*asked, "--out", run, *folds, "--dry-run")
    assert f"Cross-validation: {told_of}\n" in planned.out and not run.exists()
    assert "folds.json, out_of_fold.csv" in planned.out
    result = fastcls(*asked, "--out", run, *folds)
    assert result.code == 0, result.err
    assert f"Cross-validation in {told_of}: accuracy " in result.out
    for one, other in zip(_weights(tmp_path / "plain"), _weights(run), strict=True):
        np.testing.assert_array_equal(one, other)
    told = json.loads((run / "folds.json").read_text())
    assert (told["folds"], told["repeats"], told["images"]) == (2, repeats, 48)
    with (run / "out_of_fold.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    folds = ["fold", "fold_2"][:repeats]
    names = ["path", "label", "predicted", "confidence", *folds, "p:blue", "p:green", "p:red"]
    assert [*rows[0]] == names and len(rows) == 48
    for row in rows:
        likely = {name: float(row[f"p:{name}"]) for name in ("blue", "green", "red")}
        assert row["predicted"] == max(likely, key=likely.get) and row["label"] == row["path"].split("/")[0]
    again = fastcls(*asked, "--out", run, "--folds", 4)
    assert again.code == 1 and "--folds was 2, is 4" in again.err


def test_train_head__options_of_folds_are_refused_where_they_have_no_effect(fastcls, trained, tmp_path):
    asked = ("train-head", trained.cache.folder, "--out", tmp_path / "run")
    for options, words in (
        (("--repeats", 2), "--repeats has no effect"),
        (("--folds", 3, "--from", trained.run), "--from has no effect with --folds 3"),
        (("--folds", 1), "folds must be 2 or more"),
        (("--folds", 3, "--group", "["), "--group is not a regular expression"),
    ):
        refused = fastcls(*asked, *options)
        assert refused.code in (1, 2)
        assert words in refused.err and "Traceback" not in refused.err
    few = fastcls(*asked, "--folds", 49)
    assert few.code == 1 and "48 images, 48 separable" in few.err and not (tmp_path / "run").exists()

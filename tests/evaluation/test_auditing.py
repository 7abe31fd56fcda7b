"""What an audit says of faults that were planted."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest
from cache_support import write_cache
from click.testing import CliRunner

from fastcls import files
from fastcls.cli.main import cli
from fastcls.errors import CacheError, OptionError
from fastcls.evaluation import auditing
from fastcls.evaluation.auditing import audit, describe
from fastcls.evaluation.issue_table import write_audit

CENTERS = np.abs(np.random.default_rng(5).normal(size=(3, 32))) * 2


def noise(*shape):
    """The same in each test, whichever ran before it."""
    random = np.random.default_rng(5)
    random.normal(size=CENTERS.shape)
    return random.normal(size=shape)


def make(count=240):
    """Rows of three kinds, their class names, digests."""
    kinds = np.arange(count) % 3
    rows = np.maximum(CENTERS[kinds] + noise(count, 32), 0)
    digests = [files.digest(f"{place}".encode()) for place in range(count)]
    return rows, [(f"c{kind}",) for kind in kinds], digests


@pytest.fixture
def faulty(tmp_path):
    """A cache with a fault of each kind."""
    rows, names, digests = make()
    names[10], names[33] = ("c2",), ("c1",)  # 1 and 0 in truth
    digests[50], digests[60] = digests[53], digests[62]  # one photo twice, of one class and of two
    rows[79] = rows[20] + 0.02 * noise(1, 32)[0]  # in the test part, and in train
    rows[90] = rows[58] = 0
    rows[90, :4], rows[58, 28:] = 9, 9  # unlike all: in train, and in val
    return write_cache(tmp_path, rows, names, digests=digests)


def by_kind(found):
    return {kind: [each for each in found.issues if each.kind == kind] for kind in found.counts}


def test_audit__finds_each_planted_fault(faulty):
    found = audit(faulty)
    issues = by_kind(found)
    assert {"0010.png", "0033.png"} <= {each.path for each in issues["label_error"]}
    first = {each.path: each for each in issues["label_error"]}
    assert (first["0010.png"].given, first["0010.png"].suggested) == (("c2",), ("c1",))
    assert [(each.path, each.other) for each in issues["duplicate"]] == [("0053.png", "0050.png")]
    (conflict,) = issues["conflict"]
    assert {conflict.path, conflict.other} == {"0060.png", "0062.png"}
    assert conflict.suggested in (("c0",), ("c2",))
    near = issues["near_duplicate"][0]
    assert (near.path, near.other, near.split, near.other_split) == ("0020.png", "0079.png", "train", "test")
    assert near.is_across
    assert "0090.png" in {each.path for each in issues["outlier"]}
    assert "0058.png" in {each.path for each in issues["unlike_training"]}
    assert np.nanargmax(found.label_scores) in (10, 33)
    assert all(0 <= each.score <= 1 for each in found.issues)


def test_audit__ranks_the_most_certain_first_and_tells_the_worst(faulty):
    found = audit(faulty)
    for own in by_kind(found).values():
        assert [each.score for each in own] == sorted((each.score for each in own), reverse=True)
    text = describe(found)
    assert "conflict: 1 (one photo under different labels)" in text
    assert re.search(r"near_duplicate: \d \(nearly the same photo; \d across splits\)", text)
    assert "'0020.png' and '0079.png'" in text


def test_audit__of_clean_data_lists_next_to_nothing(tmp_path):
    rows, names, digests = make()
    assert len(audit(write_cache(tmp_path, rows, names, digests=digests)).issues) < 10


def test_audit__of_several_labels_looks_at_each_class(tmp_path):
    rows, _, digests = make()
    has = rows[:, :3] > np.median(rows[:, :3], axis=0)
    rows[:, :3] += 6 * has
    names = [tuple(f"l{label}" for label in np.flatnonzero(own)) for own in has]
    right = names[17]
    names[17] = tuple({"l0", "l1", "l2"} - {*right})
    found = audit(write_cache(tmp_path, rows, names, digests=digests))
    (issue,) = [each for each in found.issues if each.path == "0017.png" and "label" in each.kind]
    assert issue.suggested == right


FEW = {"one class": [("a",)] * 3, "two": [("a",), ("b",), ("a",)], "none": [()] * 3, "one image": [("a",)]}


@pytest.mark.parametrize("names", FEW.values(), ids=FEW)
def test_audit__of_next_to_nothing_has_an_answer(tmp_path, names):
    rows = noise(len(names), 4)
    found = audit(write_cache(tmp_path, rows, names, splits=["train"] * len(names)))
    assert len(found.features) == len(names)


def test_command__writes_what_a_person_edits(faulty, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["audit", str(faulty.folder)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "In audits/data: issues.csv, audit.json" in done.output
    with (tmp_path / "audits/data/issues.csv").open(newline="") as file:
        lines = [*csv.DictReader(file)]
    kinds = json.loads((tmp_path / "audits/data/audit.json").read_text())["issues"]
    assert len(lines) == sum(kinds.values())
    assert {line["action"] for line in lines} == {""}
    samples = {row.path: row.digest for row in faulty.samples()}
    assert all(samples[line["path"]] == line["digest"] for line in lines)
    again = CliRunner().invoke(cli, ["audit", str(faulty.folder), "--json"], catch_exceptions=False)
    assert json.loads(again.stdout)["issues"] == kinds
    assert (tmp_path / "audits/data-2/issues.csv").is_file()


def test_audit__never_writes_over_a_folder(faulty, tmp_path):
    (tmp_path / "here").mkdir()
    with pytest.raises(OptionError, match="here already exists"):
        write_audit(audit(faulty), tmp_path / "here")
    with pytest.raises(OptionError, match="here already exists"):
        CliRunner().invoke(
            cli, ["audit", str(faulty.folder), "--out", str(tmp_path / "here")], catch_exceptions=False
        )
    with pytest.raises(CacheError, match="No bottleneck cache"):
        CliRunner().invoke(cli, ["audit", str(tmp_path / "none")], catch_exceptions=False)


def test_audit__of_very_many_classes_is_by_the_neighbors_alone(faulty, monkeypatch):
    def must_not_fit(*_, **__):
        raise AssertionError("a regression was fitted")

    monkeypatch.setattr(auditing, "_LARGEST_FIT", 238 * 32 * 3 - 1)
    monkeypatch.setattr(auditing, "out_of_fold", must_not_fit)
    found = audit(faulty)
    likely = {each.path: each.suggested for each in by_kind(found)["label_error"]}
    assert likely["0010.png"] == ("c1",) and likely["0033.png"] == ("c0",)
    assert not found.unjudged
    monkeypatch.setattr(auditing, "_LARGEST_FIT", 238 * 32 * 3)
    with pytest.raises(AssertionError, match="was fitted"):
        audit(faulty)


def test_audit__looks_for_all_but_label_errors_where_classes_do_not_fit_in_memory(faulty, monkeypatch):
    whole = audit(faulty)
    needed = 3 * (238 * 24 + 3 * 16)  # two of the 240 images are copies
    monkeypatch.setattr(auditing, "available_memory", lambda: 2 * needed - 2)
    found = audit(faulty)
    assert {kind: count for kind, count in whole.counts.items() if kind != "label_error"} == found.counts
    assert np.isnan(found.label_scores).all()
    told = "Likely label errors were not looked for: 238 images of 3 classes take"
    assert told in describe(found) and told in found.to_dict()["unjudged"]
    monkeypatch.setattr(auditing, "available_memory", lambda: 2 * needed)
    assert audit(faulty).counts == whole.counts and not whole.unjudged

"""A head is trained on a data set as a person has corrected it."""

from __future__ import annotations

import numpy as np
import pytest

from fastcls.cache.corrections import COLUMNS
from fastcls.data.csv_table import write_table
from fastcls.errors import DataError
from fastcls.plans.training import plan_training
from fastcls.specs import HeadSpec, TrainConfig
from fastcls.training.rows.selection import select


@pytest.fixture
def corrected(make_cache, tmp_path):
    """A cache, and a table that relabels, drops and moves one image of its train part each."""
    cache, _, _ = make_cache()
    digests = [row.digest for row in cache.samples()]
    actions = [(digests[0], "relabel", "class 2"), (digests[1], "drop", ""), (digests[2], "split:val", "")]
    lines = (
        [{"digest": d, "action": a, "suggested": s}.get(name, "") for name in COLUMNS] for d, a, s in actions
    )
    write_table(tmp_path / "issues.csv", COLUMNS, lines)
    return cache, tmp_path / "issues.csv"


def test_select__takes_the_corrected_data_set(corrected):
    cache, table = corrected
    plain, chosen = select(cache, TrainConfig()), select(cache, TrainConfig(), table)
    paths = {use: [row.path for row in chosen.images[use]] for use in ("train", "val")}
    assert (
        paths["train"]
        == [row.path for row in plain.images["train"]][:1] + [row.path for row in plain.images["train"]][3:]
    )
    assert "0002.png" in paths["val"] and len(paths["val"]) == len(plain.images["val"]) + 1
    assert (chosen.train.labels[0], plain.train.labels[0]) == (2, 0)
    np.testing.assert_array_equal(chosen.train.rows.read()[1:], plain.train.rows.read()[3:])
    assert "1 relabeled, 1 dropped, 1 moved" in chosen.corrected and plain.corrected == ""


def test_plan__another_correction_is_another_training(corrected, tmp_path, monkeypatch):
    cache, table = corrected
    monkeypatch.setattr("fastcls.plans.training.checked_files.require_whole", lambda _: None)
    plan = plan_training(cache, HeadSpec("logreg"), TrainConfig(), tmp_path / "run", corrections=table)
    assert plan.training.chosen.corrected in str(plan)
    plain = plan_training(cache, HeadSpec("logreg"), TrainConfig(), tmp_path / "run")
    assert plan.asked["corrections"] and plain.asked["corrections"] is None
    assert plan.training.identity != plain.training.identity
    table.write_text(",".join(COLUMNS) + "\n")
    with pytest.raises(DataError, match="has no action"):
        plan_training(cache, HeadSpec("logreg"), TrainConfig(), tmp_path / "run", corrections=table)

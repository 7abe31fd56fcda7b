"""Which parts `run` gives to data that lacks some."""

from collections import Counter, defaultdict

import pytest

from fastcls.data.dataset import Dataset
from fastcls.errors import OptionError
from fastcls.plans.parts import choose_shares, make_parts
from fastcls.specs import SplitSpec, TrainConfig


@pytest.fixture
def table(tmp_path):
    """Returns a function that makes a data set: a split per image of each class, from a CSV."""

    def make(splits):
        lines = ["path,label,split,group"]
        for name in ("red", "blue"):
            for place, split in enumerate(splits):
                path = f"{name}{place}.png"
                # Of ten images, the last two are identical, and the two before are of one group.
                (tmp_path / path).write_text(f"{name} {min(place, 8)}")
                group = f"{name}" if place in (6, 7) else ""
                lines.append(f"{path},{name},{split},{group}")
        (tmp_path / "data.csv").write_text("\n".join(lines))
        return Dataset.open(tmp_path / "data.csv")

    return make


def parts_of(dataset, val=None, test=None, seed=0):
    shares = choose_shares(dataset, TrainConfig(val=val, seed=seed), test)
    return make_parts(dataset, shares, tests=test != 0)


def count(parts):
    return Counter(sample.split for sample in parts.dataset.samples)


@pytest.mark.parametrize(
    ("splits", "val", "test", "expected", "untested"),
    [
        ([""] * 10, None, None, {"train": 12, "val": 4, "test": 4}, ""),
        ([""] * 10, None, 0, {"train": 16, "val": 4}, "--test 0"),
        ([""] * 10, 0, 0.3, {"train": 14, "test": 6}, ""),
        (["train"] * 10, None, None, {"train": 16, "val": 4}, "data.csv has no test part"),
        (["train"] * 10, 0.4, None, {"train": 12, "val": 8}, "data.csv has no test part"),
        (["train"] * 10, 0, 0, {"train": 20}, "--test 0"),
        (["train"] * 8 + ["test"] * 2, None, None, {"train": 12, "val": 4, "test": 4}, ""),
        (["train"] * 8 + ["test"] * 2, None, 0, {"train": 12, "val": 4, "test": 4}, "--test 0"),
        ([""] * 8 + ["test"] * 2, None, None, {"train": 12, "val": 4, "test": 4}, ""),
        (["train"] * 8 + ["val"] * 2, None, None, {"train": 16, "val": 4}, "data.csv has no test part"),
        (["train"] * 8 + ["val"] * 2, 0, None, {"train": 16, "val": 4}, "data.csv has no test part"),
    ],
)
def test_make_parts__adds_what_is_missing(table, splits, val, test, expected, untested):
    dataset = table(splits)
    parts = parts_of(dataset, val, test)
    assert count(parts) == expected and "data.csv: 20 images of 2 classes; " in str(parts)
    assert untested in parts.untested and bool(untested) == bool(parts.untested)
    kept = [(s.split, new.split) for s, new in zip(dataset.samples, parts.dataset.samples, strict=True)]
    assert all(split == new for split, new in kept if split in ("val", "test"))
    assert bool(parts.notes) == (bool(dataset.splits) and "val" not in dataset.splits and val != 0)


@pytest.mark.parametrize("seed", range(5))
def test_make_parts__keeps_groups_and_identical_images_together(table, seed):
    dataset = table(["train"] * 10)
    found = defaultdict(set)
    for sample in parts_of(dataset, seed=seed).dataset.samples:
        found[sample.group or (dataset.root / sample.path).read_text()].add(sample.split)
    assert all(len(splits) == 1 for splits in found.values()) and len(found) == 16


@pytest.mark.parametrize(
    ("splits", "val", "test", "complaint"),
    [
        (["train", "val"] * 5, 0.2, None, "data.csv is already split and has a val part. Remove --val"),
        (["train", "test"] * 5, None, 0.2, "has a test part. Remove --test"),
        (["train"] * 10, None, 0.2, "data.csv is already split, without a test part. Remove --test"),
        ([""] * 10, 0.5, 0.5, "leave images for train"),
    ],
)
def test_choose_shares__parts_that_are_there_stay(table, splits, val, test, complaint):
    with pytest.raises(OptionError, match=complaint):
        parts_of(table(splits), val, test)


def test_choose_shares__a_later_part_is_not_chosen_by_the_default(table):
    assert choose_shares(table(["train"] * 10), TrainConfig(seed=3)) == SplitSpec(0.2, 0, seed=3)

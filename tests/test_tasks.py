"""The contract of tasks, which each one inherits; and that no other module asks which task it is."""

from __future__ import annotations

import ast
import copy
import json
import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fastcls
from fastcls import files, runs
from fastcls.cache.listing import Listing, Report
from fastcls.cache.samples import SampleRow
from fastcls.data.dataset import Dataset
from fastcls.data.decoder import pixel_rule
from fastcls.data.writers.csv import write_csv
from fastcls.errors import CacheError, DataError, OptionError
from fastcls.inference.classifier import Classifier
from fastcls.specs import (
    CheckpointSpec,
    HeadSpec,
    LogSpec,
    LossSpec,
    TrainConfig,
    check_labels,
)
from fastcls.tasks import ONE_LABEL, SEVERAL_LABELS, TASKS, task_named, task_of
from fastcls.used_images import UsedImage, write_images

NAMES = ("a", 'b", "c', '["d"]', "new\nline", "日本 $|,;")
RECORD = {"asked": {}, "decided_by": {}, "images": {}, "figures": {}, "train_count": 1, "val_count": 0}
RECORD["thresholds"] = None
PACKAGE = Path(fastcls.__file__).parent


class TaskContract:
    """What every task promises."""

    task = None
    labels = ()  # Of some images, each class of NAMES among them.
    pointless = ()  # Specs of trainings that have no meaning.

    @pytest.fixture
    def rows(self):
        return [SampleRow(f"{place}.png", names, "train") for place, names in enumerate(self.labels)]

    def test_there_is_only_one(self):
        assert copy.deepcopy(self.task) is pickle.loads(pickle.dumps(self.task)) is self.task
        assert task_named(json.loads(json.dumps(self.task.name))) is self.task
        assert task_of(self.labels) is self.task

    def test_a_data_set_comes_back_from_a_csv(self, tmp_path):
        for place in range(len(self.labels)):
            (tmp_path / f"{place}.png").touch()
        given = "".join(
            f'{place}.png,"{"|".join(names)}"\n' for place, names in enumerate(self.plain_labels())
        )
        (tmp_path / "given.csv").write_text(f"path,label\n{given}", encoding="utf-8")
        separator = "|" if max(map(len, self.labels)) > 1 else None
        dataset = Dataset.open(tmp_path / "given.csv", label_separator=separator)
        write_csv(dataset, tmp_path / "written.csv")
        again = Dataset.open(tmp_path / "written.csv")
        assert dataset.task is again.task is self.task
        assert again.samples == dataset.samples and again.class_names == dataset.class_names
        assert [again.names_of(sample) for sample in again.samples] == self.plain_labels()

    def plain_labels(self):
        plain = {name: f"class {place}" for place, name in enumerate(NAMES)}
        return [tuple(plain[name] for name in names) for names in self.labels]

    def test_labels_come_back_from_a_listing_and_a_run(self, rows, tmp_path):
        listing = Listing(tmp_path, "data")
        listing.write(Report("/data", "/data", self.task), rows, [])
        assert listing.samples() == rows and listing.report().task is self.task
        used = [UsedImage(row.path, row.labels, "train", "0") for row in rows]
        write_images(tmp_path / runs.IMAGES, used, self.task)
        thresholds = self.task.default_thresholds(len(NAMES))
        known = {**RECORD, "class_names": NAMES, "task": self.task.name, "thresholds": thresholds}
        runs.write_record(tmp_path, known)
        assert runs.Run.open(tmp_path).used.images == tuple(used)

    def test_label_arrays_hold_what_was_put_in(self):
        labels = self.task.encode(self.labels, NAMES)
        assert len(labels) == len(self.labels)
        has = np.array([[name in names for name in NAMES] for names in self.labels])
        np.testing.assert_array_equal(self.task.count(labels, len(NAMES)), has.sum(axis=0))
        assert self.task.count(labels[:0], len(NAMES)).tolist() == [0] * len(NAMES)
        drawn = Counter(place for pool in self.task.pools(labels) for place in pool.tolist())
        assert [drawn[place] for place in range(len(labels))] == [max(1, len(names)) for names in self.labels]

    def test_the_monitor_prefers_the_better_row(self):
        name, sign = self.task.monitor.name, 1 if self.task.monitor.higher_is_better else -1
        rows = [{name: 0.5 + sign * 0.1}, {name: 0.5}, {name: np.nan}, {}]
        costs = [self.task.monitor.cost(row) for row in rows]
        assert costs == sorted(costs) and costs[0] < costs[1] < costs[2] == costs[3] == np.inf

    def test_thresholds_belong_to_it_or_do_not(self):
        default = self.task.default_thresholds(3)
        self.task.require_thresholds(default, 3)
        wrong = [(0.5, 0.5), (0.5,) * 3 if default is None else None]
        for thresholds in wrong:
            with pytest.raises(OptionError, match=f"{self.task} per image"):
                Classifier(None, ("a", "b", "c"), pixel_rule((8, 8)), {}, thresholds, self.task)

    def test_what_is_predicted_is_ranked(self):
        random = np.random.default_rng(0)
        for probabilities in random.uniform(size=(20, 5)).astype(np.float32):
            ranked = self.task.rank(probabilities, self.task.default_thresholds(5))
            expected = sorted(ranked, key=lambda label: -probabilities[label])
            assert ranked == expected and len(set(ranked)) == len(ranked)

    def test_losses_of_other_tasks_and_options_without_meaning_are_refused(self):
        config = TrainConfig()
        check_labels(HeadSpec(), config, self.task)
        for other in TASKS.values():
            for name in other.losses:
                given = replace(config, loss=LossSpec(name=name))
                if other is self.task:
                    check_labels(HeadSpec(), given, self.task)
                else:
                    with pytest.raises(OptionError, match=f"{name} does not fit data with {self.task}"):
                        check_labels(HeadSpec(), given, self.task)
        for given in self.pointless:
            with pytest.raises(OptionError, match=f"has no effect with {self.task} per image"):
                check_labels(HeadSpec(), given, self.task)
        assert len(self.pointless) == len(self.task.pointless)


class TestOneLabel(TaskContract):
    task = ONE_LABEL
    labels = tuple((name,) for name in (*NAMES, "a", "a"))
    pointless = (
        TrainConfig(threshold=0.4),
        TrainConfig(loss=LossSpec(class_weight="balanced", class_weight_multiplier=2.0)),
    )

    def test_all_classes_are_ranked_without_thresholds(self):
        assert self.task.rank(np.array([0.2, 0.5, 0.3]), None) == [1, 2, 0]

    def test_any_validation_rows_have_a_loss(self):
        self.task.require_measurable(np.array([0, 0]))


class TestSeveralLabels(TaskContract):
    task = SEVERAL_LABELS
    labels = ((), NAMES[:1], NAMES[:2], NAMES, NAMES[3:])
    pointless = (
        TrainConfig(checkpoints=CheckpointSpec(min_accuracy=0.5)),
        TrainConfig(logs=LogSpec(confusion_every=1)),
    )

    def test_classes_are_predicted_that_reach_their_threshold(self):
        assert self.task.rank(np.array([0.2, 0.5, 0.3]), (0.2, 0.6, 0.1)) == [2, 0]

    def test_some_class_needs_validation_rows_with_and_without_it(self):
        self.task.require_measurable(np.array([[1, 1], [1, 0]]))
        with pytest.raises(DataError, match="the best epoch cannot be told"):
            self.task.require_measurable(np.array([[1, 0], [1, 0]]))


def test_files_that_name_no_task_are_refused_by_name(tmp_path):
    listing = Listing(tmp_path, "data")
    listing.write(Report("/data", "/data"), [], [])
    old = {**files.read_checked_json(listing.report_path), "multi_label": False}
    del old["task"]
    files.write_checked_json(listing.report_path, {k: v for k, v in old.items() if k != "digest"})
    with pytest.raises(
        CacheError, match=r"its task must be 'one label' or .*another version.*extract. again"
    ):
        listing.report()
    (tmp_path / runs.IMAGES).touch()
    for given, fact in (({}, "it lacks task"), ({"task": "three labels"}, "its task is 'three labels'")):
        runs.write_record(tmp_path, {**RECORD, "class_names": ["a"], **given})
        with pytest.raises(OptionError, match=rf"{fact}.*\. Train again"):
            runs.Run.open(tmp_path)


# The source

KINDS = {"ONE_LABEL", "SEVERAL_LABELS", "OneLabel", "SeveralLabels", "Evaluation", "MultiLabelEvaluation"}


def branches(tree):
    """Everything that decides between two ways: the conditions of a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If | ast.IfExp | ast.While):
            yield node.test
        elif isinstance(node, ast.comprehension):
            yield from node.ifs
        elif isinstance(node, ast.BoolOp | ast.Compare):
            yield node
        elif isinstance(node, ast.match_case):
            yield node.pattern


def asks_for_the_task(condition):
    """Whether a condition names a task, or tells one from another by the shape of its label arrays."""
    names = {node.id for node in ast.walk(condition) if isinstance(node, ast.Name)}
    attributes = [node for node in ast.walk(condition) if isinstance(node, ast.Attribute)]
    of_labels = [
        node
        for node in attributes
        if node.attr == "label_shape" or (node.attr == "ndim" and ast.unparse(node.value).endswith("labels"))
    ]
    strings = {node.value for node in ast.walk(condition) if isinstance(node, ast.Constant)}
    return bool((names | {node.attr for node in attributes}) & KINDS or of_labels or strings & {*TASKS})


def test_no_module_but_that_of_tasks_asks_for_the_task():
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if path.relative_to(PACKAGE).as_posix() != "tasks.py":
            found += [f"{path}: {ast.unparse(c)}" for c in branches(tree) if asks_for_the_task(c)]
        named = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg | ast.keyword)}
        assert "multi_label" not in named, path
    assert not found


@pytest.mark.parametrize(
    "source",
    [
        "x = 1 if labels.ndim > 1 else 2",
        "def f(d):\n    if d.task is SEVERAL_LABELS:\n        pass",
        "y = [r for r in rows if isinstance(r, tasks.OneLabel)]",
        "ok = task.name == 'one label' or other",
    ],
)
def test_a_branch_on_the_task_is_seen(source):
    assert any(asks_for_the_task(condition) for condition in branches(ast.parse(source)))

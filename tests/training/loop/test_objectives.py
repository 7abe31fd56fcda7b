"""What every task promises of its training; and that a new one is a class with an entry per table."""

from __future__ import annotations

import numpy as np
import pytest
from training_support import write_listing

from fastcls import tasks
from fastcls.backend import import_keras
from fastcls.specs import HeadSpec, LossSpec, TrainConfig
from fastcls.tasks import ONE_LABEL, TASKS, Monitor, OneLabel
from fastcls.training.head_trainer import train_head
from fastcls.training.heads.network import build_head
from fastcls.training.loop.losses import categorical
from fastcls.training.loop.objectives import OBJECTIVES, Objective, build_loss
from fastcls.training.loop.thresholds import no_thresholds
from fastcls.training.loop.validation import plain_validator

NAMES = ("a", "b", "c")
EACH = pytest.mark.parametrize("task", TASKS.values(), ids=str)


@pytest.fixture
def labels(task):
    drawn = np.random.default_rng(0).integers(0, 3, (40, 2))
    given = [tuple(sorted({NAMES[place] for place in places})) for places in drawn]
    return task.encode([names[:1] if task is ONE_LABEL else names for names in given], NAMES)


@EACH
def test_head__ends_with_the_activation_that_the_task_recognizes(task):
    head = build_head(HeadSpec(), (16,), 3, task=task)
    assert head.layers[-1].activation.__name__ == task.activation
    given = head.predict(np.random.default_rng(0).normal(size=(20, 16)).astype(np.float32), verbose=0)
    assert [other for other in TASKS.values() if other.could_give(given)] == [task]


@EACH
def test_build_loss__is_that_of_keras_with_and_without_options(task, labels):
    keras = import_keras()
    head = build_head(HeadSpec(), (16,), 3, task=task)
    rows = np.random.default_rng(1).normal(size=(len(labels), 16)).astype(np.float32)
    probabilities = head.predict(rows, verbose=0)
    plain = keras.losses.get(build_loss(LossSpec(), head, labels, task))
    expected = np.asarray(plain(labels.astype(np.float32), probabilities))
    assert expected.shape == (len(labels),)
    own = build_loss(LossSpec(l2=1e-30), head, labels, task)  # another path, the same value
    np.testing.assert_allclose(own(labels, probabilities), expected, rtol=1e-5)


@EACH
def test_train_head__keeps_the_epoch_of_the_best_monitor(task, labels, make_cache, multi_label_cache):
    cache = make_cache(seed=3)[0] if task is ONE_LABEL else multi_label_cache[0]
    trained = train_head(cache, None, TrainConfig(epochs=6, learning_rate=0.05))
    assert trained.task is task
    assert trained.best == min(trained.history, key=task.monitor.cost)
    assert (trained.thresholds is None) == (task.default_thresholds(3) is None)
    assert {*task.metrics} == {*trained.history[0]} & {"accuracy"}


class Accurate(OneLabel):
    """A third task: the epoch of the highest accuracy is kept."""

    name = "accurate"
    monitor = Monitor("val_accuracy", higher_is_better=True)

    def __reduce__(self):
        return "ACCURATE"


ACCURATE = Accurate()


def test_a_new_task_is_a_class_and_an_entry_in_a_table(make_cache, monkeypatch):
    monkeypatch.setitem(tasks.TASKS, ACCURATE.name, ACCURATE)
    monkeypatch.setitem(OBJECTIVES, ACCURATE, Objective(categorical, plain_validator, no_thresholds))
    cache, _, _ = make_cache(spread=0.2)
    config = TrainConfig(epochs=25, learning_rate=0.02)
    plain = train_head(cache, None, config)
    write_listing(cache, cache.samples(), task=ACCURATE)
    trained = train_head(cache, None, config)
    assert trained.task is ACCURATE
    accuracies = [row["val_accuracy"] for row in trained.history]
    assert trained.best["val_accuracy"] == max(accuracies) > plain.best["val_accuracy"]

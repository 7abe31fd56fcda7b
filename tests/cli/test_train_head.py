"""`fastcls train-head`: heads of every kind make runs that serve, and go on from one another."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path

import pytest

from fastcls.pipeline import load_head
from fastcls.specs import HeadSpec, LossSpec, OptimizerSpec, ScheduleSpec


def test_train_head__needs_no_images_and_goes_on_from_a_run(fastcls, photos, base, tmp_path):
    copy = shutil.copytree(photos, tmp_path / "photos")
    caches = tmp_path / "caches"
    assert fastcls("extract", copy, "--base", base, "--cache", caches).code == 0
    shutil.rmtree(copy)
    first = fastcls("train-head", caches, "--out", tmp_path / "one", "--val", 0.2, "--epochs", 3)
    assert first.code == 0, first.err
    options = ("--val", 0.2, "--epochs", 2, "--from", tmp_path / "one")
    second = fastcls("train-head", caches, "--out", tmp_path / "two", *options)
    assert second.code == 0, second.err
    losses = [_history(tmp_path / name)[place]["val_loss"] for name, place in (("one", -1), ("two", 0))]
    assert float(losses[1]) < float(losses[0]) * 1.05


def test_train_head__by_logistic_regression_makes_a_run_like_any_other(fastcls, photos, trained, tmp_path):
    run = tmp_path / "run"
    result = fastcls("train-head", trained.cache.folder, "--out", run, "--head", "logreg")
    assert result.code == 0, result.err
    assert "values of C in" in result.out and "Kept C " in result.out
    assert {"c", "iterations", "val_loss"} <= set(_history(run)[0])
    assert (run / "curves.png").exists() and not (run / "tensorboard").exists()
    assert load_head(run).spec == HeadSpec("logreg")
    predicted = fastcls("predict", run, photos / "red" / "0.png")
    assert predicted.code == 0 and ": red " in predicted.out
    further = fastcls("train-head", trained.cache.folder, "--out", tmp_path / "two", "--from", run)
    assert further.code == 0, further.err


@pytest.mark.parametrize(("kind", "step"), [("prototype", "temperature"), ("knn", "k")])
def test_train_head__without_training_makes_a_run_like_any_other(
    fastcls, photos, trained, tmp_path, kind, step
):
    run = tmp_path / "run"
    result = fastcls("train-head", trained.cache.folder, "--out", run, "--head", kind)
    assert result.code == 0, result.err
    assert f"\nKept {step} " in result.out and "val_accuracy 1.0000" in result.out
    assert {step, "val_loss", "seconds"} <= set(_history(run)[0])
    assert (run / "curves.png").exists() and not (run / "tensorboard").exists()
    assert load_head(run).spec == HeadSpec(kind)
    predicted = fastcls("predict", run, photos / "red" / "0.png")
    assert predicted.code == 0 and ": red " in predicted.out
    alone = fastcls("train-head", trained.cache.folder, "--out", tmp_path / "two", "--head", kind, "--val", 0)
    assert alone.code == 0 and "validated on 0; 1 " in alone.out, alone.err


def test_train_head__normalizes_the_bottleneck(fastcls, trained, tmp_path):
    options = ("--bottleneck-norm", "batch", "--layers", "8", "--epochs", 3)
    result = fastcls("train-head", trained.cache.folder, "--out", tmp_path / "run", *options)
    assert result.code == 0, result.err
    assert load_head(tmp_path / "run").spec == HeadSpec("linear", layers=(8,), bottleneck_norm="batch")


def test_train_head__by_another_optimizer_goes_on_from_its_run(fastcls, trained, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    options = ("--optimizer", "sgd", "--momentum", 0.9, "--clip-norm", 1, "--learning-rate", 0.1)
    result = fastcls("train-head", trained.cache.folder, "--out", one, *options)
    assert result.code == 0, result.err
    assert load_head(one).config.optimizer == OptimizerSpec("SGD", momentum=0.9, clip_norm=1.0)
    further = fastcls("train-head", trained.cache.folder, "--out", two, "--from", one, *options)
    assert further.code == 0, further.err
    losses = [float(_history(run)[place]["val_loss"]) for run, place in ((one, 0), (two, 0))]
    assert losses[1] < losses[0]


def test_train_head__with_another_loss_goes_on_from_its_run(fastcls, trained, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    options = ("--label-smoothing", 0.1, "--l2", 0.001, "--class-weight", "balanced", "--epochs", 3)
    assert fastcls("train-head", trained.cache.folder, "--out", one, *options).code == 0
    assert load_head(one).config.loss == LossSpec(0.1, 0.001, "balanced")
    further = fastcls("train-head", trained.cache.folder, "--out", two, "--from", one, *options)
    assert further.code == 0, further.err
    assert float(_history(two)[0]["loss"]) < float(_history(one)[0]["loss"])


def test_train_head__by_a_schedule_goes_on_from_its_run(fastcls, trained, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    options = (
        "--schedule",
        "step",
        "--rate-interval",
        2,
        "--warmup",
        1,
        "--epochs",
        5,
        "--learning-rate",
        0.1,
    )
    assert fastcls("train-head", trained.cache.folder, "--out", one, *options).code == 0
    assert load_head(one).config.schedule == ScheduleSpec("step", warmup=1, rate_interval=2)
    further = fastcls("train-head", trained.cache.folder, "--out", two, "--from", one, *options)
    assert further.code == 0, further.err
    for run in (one, two):
        rates = [float(row["learning_rate"]) for row in _history(run)]
        assert rates[1:] == pytest.approx([0.1, 0.1, 0.01, 0.01]) and rates[0] < 0.1


def test_train_head__lists_several_caches(fastcls, photos, base, tmp_path):
    for cut in ("conv", "pooled"):
        assert fastcls("extract", photos, "--base", base, "--cut", cut, "--cache", tmp_path / "c").code == 0
    result = fastcls("train-head", tmp_path / "c", "--out", tmp_path / "run")
    assert result.code == 1
    assert "Several bottleneck caches" in result.err
    for cut, folder in zip(("conv", "pooled"), sorted((tmp_path / "c").iterdir()), strict=True):
        told = rf"{re.escape(str(folder))}: {re.escape(str(base))} cut at {cut}, b?float(16|32), of photos\n"
        assert re.search(told, f"{result.err}\n")


def test_train_head__finds_the_one_cache_that_holds_a_data_set(fastcls, photos, base, tmp_path):
    root, train = tmp_path / "c", ("train-head", tmp_path / "c", "--dry-run", "--val", 0.2, "--out")
    for cut, name in (("conv", "one"), ("pooled", "two"), ("pooled", "both"), ("conv", "both")):
        made = fastcls("extract", photos, "--base", base, "--cut", cut, "--cache", root, "--name", name)
        assert made.code == 0, made.err
    for name in ("one", "two"):
        found = fastcls(*train, tmp_path / name, "--name", name)
        assert found.code == 0 and "Images: 48 for training" in found.out, found.err
    both = fastcls(*train, tmp_path / "both", "--name", "both")
    assert both.code == 1 and f"Several bottleneck caches in {root} that hold both. Give one" in both.err
    none = fastcls(*train, tmp_path / "none", "--name", "three")
    assert none.code == 1 and f"caches in {root}, and none holds three. Give one" in none.err
    assert all(str(folder) in result.err for folder in root.iterdir() for result in (both, none))


def _history(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open() as file:
        return list(csv.DictReader(file))

"""`run --quality`: one name for a recipe, over which what is typed counts."""

from __future__ import annotations

import json

import pytest
from requests_support import parse, save

import fastcls as library
from fastcls.data.dataset import Dataset
from fastcls.errors import OptionError
from fastcls.specs import CutSpec, ExtractConfig, HeadSpec, TrainConfig, ViewSpec
from fastcls.specs.qualities import QUALITIES, spelled

ASKED = ["photos", "--out", "run", "--base", "lenet5"]
SPECS = ("cut", "views", "head", "training")


def made(typed: str) -> list:
    """The specs that decide the result."""
    specs = parse("run", [*ASKED, *typed.split()])
    return [specs[name] for name in SPECS]


@pytest.mark.parametrize("quality", QUALITIES)
def test_quality__is_what_its_options_are(quality):
    assert made(f"--quality {quality}") == made(spelled(quality))


def test_fast__is_the_default():
    assert made("--quality fast") == made("")


@pytest.mark.parametrize(
    ("typed", "changed"),
    [
        ("--epochs 20", "--epochs 20"),
        ("--views 1 --layers 256,0.2", "--views 1 --layers 256,0.2"),
        ("--cut c3 --pool none", "--cut c3 --pool none"),
        ("--schedule plateau --rate-patience 2", "--schedule plateau --rate-patience 2"),
        ("--train-batch-norm", "--train-batch-norm"),
    ],
)
def test_best__what_is_typed_counts_more(typed, changed):
    recipe = spelled("best").split()
    for flag in changed.split()[::2]:
        if flag in recipe:
            place = recipe.index(flag)
            del recipe[place : place + 2]
    assert made(f"--quality best {typed}") == made(" ".join([*recipe, *changed.split()]))


def test_best__a_head_without_epochs_takes_only_what_has_an_effect():
    typed = "--cut 80% --dtype float16 --views 8 --head logreg"
    assert made("--quality best --head logreg") == made(typed)


@pytest.mark.parametrize(
    ("saved", "typed", "expected"),
    [
        ("--quality best --epochs 20", "", "--quality best --epochs 20"),
        ("--quality best --seed 3", "--quality fast", "--seed 3"),
        ("--quality best --seed 3 --cut c3 --pool max", "--quality fast", "--seed 3"),
        ("--head logreg --seed 3", "--quality best", "--quality best --seed 3"),
        ("--schedule step --rate-interval 3", "--quality best", "--quality best"),
        ("--epochs 5", "--quality best --views 2", "--quality best --views 2"),
        ("--quality best", "--views 2", "--quality best --views 2"),
    ],
)
def test_quality__over_the_options_of_an_earlier_run(tmp_path, saved, typed, expected):
    path = save(tmp_path, "run", parse("run", [*ASKED, *saved.split()]))
    again = parse("run", [*ASKED[:3], *typed.split(), "--config", str(path)])
    assert [again[name] for name in SPECS] == made(expected)


def test_quality__in_a_file_written_by_hand(tmp_path):
    (tmp_path / "job.json").write_text(json.dumps({"quality": "best", "epochs": 20}))
    assert made(f"--config {tmp_path / 'job.json'}") == made("--quality best --epochs 20")


@pytest.fixture(scope="module")
def lenet(photos, tmp_path_factory):
    """What all runs here have in common: colors, LeNet-5 and one cache."""
    caches = tmp_path_factory.mktemp("quality") / "caches"
    base = ("--base", "lenet5", "--weights", "random", "--normalize", "torch", "--precision", "float32")
    return ("run", photos, *base, "--workers", 1, "--cache", caches, "--quality", "best", "--seed", 1)


def test_best__plan_and_run_say_the_same(fastcls, lenet, tmp_path):
    planned = fastcls(*lenet, "--out", tmp_path / "run", "--dry-run")
    assert planned.code == 0 and not (tmp_path / "run").exists()
    # 36 images to train on in 8 views, 24 in one; 5 x 5 x 16 numbers of two bytes
    assert "lenet5 cut at s4: bottlenecks of 5x5x16 float16" in planned.out
    assert "60 images to forward in 312 views, 243.8 KiB" in planned.out
    assert "head_dropout_1" in planned.out and "c5 (Conv2D)" in planned.out
    assert "Learning rate: 0.001, cosine" in planned.out and "label smoothing 0.1" in planned.out
    assert "at most 10 epochs" in planned.out
    done = fastcls(*lenet, "--out", tmp_path / "run")
    assert done.code == 0, done.err
    assert "lenet5 cut at s4, 5x5x16 float16" in done.out and "60 forwarded (312 views)" in done.out
    assert "trained on 36 images of 8 views each, validated on 12; 10 epochs" in done.out
    asked = json.loads((tmp_path / "run" / "run.json").read_text())["asked"]
    assert asked["recipe"] == {"quality": "best"} and asked["views"]["views"] == 8
    assert (asked["head"]["kind"], asked["training"]["epochs"], asked["cut"]["layer"]) == ("tail", 10, "80%")
    again = fastcls(*lenet, "--out", tmp_path / "again", "--config", tmp_path / "run", "--dry-run")
    assert again.code == 0 and ": 0 images to forward\n" in again.out


def test_best__with_several_labels_per_image(fastcls, lenet, photos, tmp_path):
    files = sorted(photos.rglob("*.png"))
    lines = [f"{path},{path.parent.name}{'|dark' if place % 3 else ''}" for place, path in enumerate(files)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,labels", *lines]))
    command = (
        "run",
        tmp_path / "labels.csv",
        *lenet[2:],
        "--label-separator",
        "|",
        "--out",
        tmp_path / "run",
    )
    planned, done = fastcls(*command, "--dry-run"), fastcls(*command)
    assert (planned.code, done.code) == (0, 0), planned.err + done.err
    assert "10 epochs" in done.out and "binary_crossentropy" in planned.out


def test_best__says_where_a_base_cannot_be_cut_so(fastcls, photos, base, tmp_path):
    command = ("run", photos, "--base", base, "--quality", "best", "--out", tmp_path / "run")
    planned, refused = fastcls(*command, "--dry-run"), fastcls(*command)
    assert planned.code == refused.code == 1 and planned.err == refused.err
    assert "cannot be cut at 80% of its multiply-adds" in refused.err and "fastcls layers" in refused.err
    assert not (tmp_path / "run").exists()


def test_library__takes_a_quality(photos, tmp_path):
    cut = CutSpec(library.BaseSpec("lenet5", "random", normalize="torch"), precision="float32")
    result = library.run(
        Dataset.open(photos),
        cut,
        tmp_path / "run",
        config=TrainConfig(epochs=2),
        quality="best",
        cache_root=tmp_path / "caches",
        extraction=ExtractConfig(executor="inline"),
    )
    cache, trained = result.cache.manifest, result.trained
    assert (cache.layer, cache.dtype, trained.spec) == ("s4", "float16", HeadSpec("tail", (0.4,)))
    assert (trained.config.epochs, trained.config.views) == (2, 8)
    assert trained.config.schedule.kind == "cosine" and trained.config.loss.label_smoothing == 0.1
    with pytest.raises(OptionError, match="Choose one of: fast, best"):
        library.run(Dataset.open(photos), cut, tmp_path / "other", quality="better", views=ViewSpec(2))
    assert not (tmp_path / "other").exists()

"""Augmented views as a user asks for them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from fastcls.backend import import_keras
from fastcls.cache.store import Cache
from fastcls.data.decoder import read_image
from fastcls.data.views import make_view, row_key
from fastcls.specs import ViewSpec

RECIPE = "flip,crop=0.6:1,rotate=15,contrast=0.8:1.2"


def test_run__trains_on_views_that_are_those_of_keras(fastcls, photos, base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = ("--base", base, "--cut", "conv", "--pool", "avg", "--precision", "float32", "--epochs", 3)
    views = ("--views", 3, "--augment", RECIPE)
    ran = fastcls("run", photos, *asked, *views, "--view-seed", 5, "--out", "runs/one")
    assert ran.code == 0, ran.err
    assert ": 60 forwarded (132 views), 0 reused, 0 unreadable" in ran.out  # 36 x 3 + 24
    spec = ViewSpec(3, RECIPE, 5)
    assert f"3 views of each image to train on: the plain one and 2 by {spec.augment} (seed 5)" in ran.out
    assert "trained on 36 images of 3 views each, validated on 12" in ran.out
    known = json.loads(Path("runs/one/run.json").read_text())
    assert (
        known["decided_by"]["training"]["views"] == 3 and known["asked"]["views"]["augment"] == spec.augment
    )
    again = fastcls("run", photos, "--config", "runs/one", "--dry-run", "--out", "runs/two")
    assert again.code == 0 and "-conv-16x16-" in again.out and " 0 images to forward" in again.out
    more = fastcls("run", photos, "--config", "runs/one", "--views", 4, "--dry-run", "--out", "runs/two")
    assert more.code == 0 and " 36 images to forward" in more.out
    cache = Cache.find(Path("bottlenecks"))
    samples = [row for row in cache.samples() if row.split == "train"][:4]
    keys = [row_key(row.digest, spec, number) for row in samples for number in range(3)]
    shown = [(read_image(photos / row.path, cache.manifest.size), row.digest) for row in samples]
    looks = [make_view(*each, spec, number) for each in shown for number in range(3)]
    trunk = import_keras().saving.load_model(cache.trunk_path, compile=False)
    direct = trunk.predict(np.stack(looks), verbose=0)
    np.testing.assert_allclose(cache.index().locate(keys).read(), direct, rtol=1e-4, atol=1e-5)

    fewer = fastcls("train-head", "bottlenecks", "--out", "runs/two", "--views", 2, "--epochs", 1)
    assert fewer.code == 0 and "36 images of 2 views each" in fewer.out
    plain = fastcls("train-head", "bottlenecks", "--out", "runs/three", "--views", 1, "--epochs", 1)
    assert plain.code == 0 and "trained on 36 images, validated" in plain.out
    more = fastcls("train-head", "bottlenecks", "--out", "runs/four", "--views", 9)
    assert more.code == 1 and f"--views 9 --augment {spec.augment} --view-seed 5" in more.err
    assert not Path("runs/four").exists()


def test_extract__draws_a_preview_and_stops(fastcls, photos, tmp_path):
    asked = ("extract", photos, "--base", "mobilenetv2", "--size", 32, "--cache", tmp_path / "c")
    drawn = fastcls(*asked, "--views", 4, "--preview", tmp_path / "views.png")
    assert drawn.code == 0, drawn.err
    assert "5 images, each with 4 views" in drawn.out and "Nothing was extracted" in drawn.out
    assert cv2.imread(str(tmp_path / "views.png")).shape == (5 * 36 - 4, 4 * 36 - 4, 3)
    assert not (tmp_path / "c").exists()
    again = fastcls(*asked, "--views", 4, "--preview", tmp_path / "views.png")
    assert again.code == 0, again.err
    other = fastcls(*asked, "--views", 2, "--preview", tmp_path / "views.png")
    assert other.code == 1 and "views.png already exists. Choose another --preview" in other.err
    assert cv2.imread(str(tmp_path / "views.png")).shape == (5 * 36 - 4, 4 * 36 - 4, 3)


@pytest.mark.parametrize(
    ("options", "code", "complaint"),
    [
        ("--views 3 --augment flip,blur=3", 1, "Unknown operation 'blur'"),
        ("--views 3 --augment rotate=500", 1, "rotate=-180:180"),
        ("--views 0", 1, "views must be 1 or more"),
        ("--augment flip", 2, "--augment has no effect with --views 1"),
        ("--views 1 --view-seed 3", 2, "--view-seed has no effect with --views 1"),
        ("--views 2 --preview a.png --workers 2", 2, "--workers has no effect with --preview"),
        ("--views 2 --preview a.png --dry-run", 2, "--dry-run has no effect with --preview"),
        ("--views 2 --preview a.jpg", 1, "ending in .png"),
    ],
)
def test_extract__refuses_views_that_cannot_be(fastcls, photos, base, tmp_path, options, code, complaint):
    result = fastcls("extract", photos, "--base", base, "--cache", tmp_path / "c", *options.split())
    assert result.code == code and complaint in result.err and "Traceback" not in result.err
    assert not (tmp_path / "c").exists()


def test_train_head__a_run_on_views_of_another_recipe_is_another_training(fastcls, photos, base, tmp_path):
    extract = ("extract", photos, "--base", base, "--cut", "conv", "--pool", "avg", "--cache", tmp_path / "c")
    train = ("train-head", tmp_path / "c", "--val", 0, "--epochs", 1, "--out", tmp_path / "run")
    assert fastcls(*extract, "--views", 2, "--augment", "flip=0.5").code == 0
    assert fastcls(*train).code == 0
    assert fastcls(*extract, "--views", 2, "--augment", "rotate=20").code == 0
    other = fastcls(*train)
    assert other.code == 1 and "--augment was flip=0.5, is rotate=-20:20" in other.err, other.err

"""Why a cache is a new one: each factor of the fingerprint is told, and no older cache is touched."""

import json
import logging
from dataclasses import asdict, replace

import cv2
import numpy as np
import pytest
from extraction_support import SHAPE, SIZE, save_model, write_images

from fastcls import files
from fastcls.cache.manifest import Manifest
from fastcls.cache.store import Cache
from fastcls.data.dataset import Dataset
from fastcls.data.decoder import pixel_rule
from fastcls.extraction.changes import describe_change
from fastcls.extraction.extractor import extract
from fastcls.extraction.fingerprint import DECIDING, fingerprint
from fastcls.specs import BaseSpec, CutSpec, ExtractConfig

MANIFEST = Manifest(
    fingerprint="",
    base="mobilenetv2",
    weights="imagenet",
    layer="pooled",
    pool="none",
    normalize="tf",
    **asdict(pixel_rule(SIZE)),
    dtype="float32",
    precision="float32",
    shape=SHAPE,
    architecture="graph",
    weights_digest="weights",
    policies=("float32",),
    tail_digest="tail",
)
CHANGED = {
    "size": ((16, 8), "size (8x8, now 16x8)"),
    "decode": ("full/9", f"decode ({MANIFEST.decode}, now full/9)"),
    "resize": ("crop/1", f"resize ({MANIFEST.resize}, now crop/1)"),
    "pool": ("avg", "pool (none, now avg)"),
    "dtype": ("float16", "dtype (float32, now float16)"),
    "precision": ("bfloat16", "precision (float32, now bfloat16)"),
    "policies": (("float32", "mixed_bfloat16"), "the dtype policies"),
    "float32_layers": (("add",), "the layers in float32"),
    "architecture": ("other", "the graph"),
    "weights_digest": ("other", "the weights"),
    "tail_digest": ("other", "what follows the cut"),
}


def create(root, manifest):
    return Cache.create(root, replace(manifest, fingerprint=fingerprint(manifest)))


def test_changes__cover_all_that_decides():
    assert set(CHANGED) | {"version"} == {*DECIDING, "tail_digest"}


@pytest.mark.parametrize("name", CHANGED)
def test_fingerprint__each_factor_makes_another_cache_and_is_told(name, tmp_path):
    old = create(tmp_path, MANIFEST)
    assert describe_change(old) == ""
    value, told = CHANGED[name]
    new = create(tmp_path, replace(MANIFEST, **{name: value}))
    assert new.folder != old.folder and old.folder.exists()
    assert describe_change(new) == f"It differs from {old.folder}, which is kept, in {told}"


def test_describe_change__names_what_the_graph_follows_from(tmp_path):
    old = create(tmp_path, MANIFEST)
    new = create(tmp_path, replace(MANIFEST, normalize="torch", architecture="other"))
    assert describe_change(new).endswith(f"{old.folder}, which is kept, in normalize (tf, now torch)")


def test_describe_change__names_the_cache_that_is_most_like_it(tmp_path):
    create(tmp_path, replace(MANIFEST, size=(9, 9), dtype="float16"))
    near = create(tmp_path, replace(MANIFEST, dtype="float16"))
    create(tmp_path, replace(MANIFEST, base="resnet50"))
    assert str(near.folder) in describe_change(create(tmp_path, MANIFEST))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (json.dumps({"version": 1, "base": "mobilenetv2", "layer": "pooled"}), "version 1, now 3"),
        (json.dumps({"version": 1}), ""),
        ("[]", ""),
        ("{", ""),
        ("\0", ""),
    ],
)
def test_describe_change__of_caches_that_cannot_be_read(text, told, tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "manifest.json").write_text(text)
    found = describe_change(create(tmp_path, MANIFEST))
    assert told in found and bool(found) == bool(told)
    assert (tmp_path / "old" / "manifest.json").read_text() == text


def test_extract__says_what_changed_and_how_many_images_are_forwarded(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    write_images(tmp_path / "data", 3)
    photo = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "data" / "a" / "photo.jpg"), photo)
    dataset = Dataset.open(tmp_path / "data")
    save_model(tmp_path / "tiny.keras")
    config = ExtractConfig(engine="tensorflow", executor="inline")
    spec = CutSpec(BaseSpec(str(tmp_path / "tiny.keras"), size=SIZE), layer="second", precision="float32")
    old, _ = extract(dataset, spec, tmp_path / "caches", config)
    assert not caplog.messages and (old.manifest.pool, old.manifest.policies) == ("none", ("float32",))
    before = {path: path.read_bytes() for path in old.folder.rglob("*") if path.is_file()}
    new, done = extract(dataset, replace(spec, full_decode=True), tmp_path / "caches", config)
    assert done.forwarded == 4 and new.folder != old.folder
    assert "Forwarding 4 images for the new cache" in caplog.text
    assert f"{old.folder}, which is kept, in decode (jpeg-reduced" in caplog.text
    assert before == {path: path.read_bytes() for path in old.folder.rglob("*") if path.is_file()}
    digest = files.digest((tmp_path / "data" / "a" / "photo.jpg").read_bytes())
    rows = [cache.index().locate([digest]).read() for cache in (old, new)]
    assert not np.array_equal(*rows)
    caplog.clear()
    again, done = extract(dataset, replace(spec, full_decode=True), tmp_path / "caches", config)
    assert (again.folder, done.reused) == (new.folder, 4) and not caplog.messages

"""Damaged files of a cache that a real base has made lead to the right rows, or to a clear word."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
from extraction_support import save_model, write_images

from fastcls.cache import checked_files
from fastcls.cache.store import Cache, cache_folders
from fastcls.errors import CacheError
from fastcls.extraction.extractor import extract, extract_several
from fastcls.plans.training import plan_training
from fastcls.specs import BaseSpec, CutSpec, ExtractConfig, HeadSpec, TrainConfig

INLINE = ExtractConfig(executor="inline", batch_size=2, engine="tensorflow")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A base, twelve images, and a cache of ten of them, with a tail."""
    folder = tmp_path_factory.mktemp("work")
    save_model(folder / "base.keras")
    dataset = write_images(folder / "data", 12)
    some = dataclasses.replace(dataset, samples=dataset.samples[:10])
    extract(some, cut_of(folder), folder / "caches", INLINE)
    return folder, dataset, some


@pytest.fixture
def copied(work, tmp_path):
    """A copy of that cache: (its folder, a function that extracts all images, or those that are there)."""
    folder, dataset, some = work
    root = shutil.copytree(folder / "caches", tmp_path / "caches")

    def run(*, more=True, config=INLINE):
        return extract(dataset if more else some, cut_of(folder), root, config)

    return cache_folders(root)[0], run


def cut_of(folder, layer="first", precision="float32"):
    return CutSpec(BaseSpec(str(folder / "base.keras"), size=(8, 8)), layer, precision=precision)


def rows_of(cache):
    return cache.index().locate([sample.digest for sample in cache.samples()]).read()


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0x10
    path.write_bytes(data)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


DAMAGES = [flip, truncate, empty]
TRAIN = TrainConfig(val=0.25, epochs=1)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["trunk.keras", "tail.keras", "digests.json", "manifest.json"])
def test_extract__makes_models_and_what_describes_them_anew(copied, caplog, name, damage):
    folder, run = copied
    damage(folder / name)
    cache, done = run()
    assert (done.forwarded, done.reused) == (2, 10) and cache.folder == folder
    assert str(folder) in caplog.text and re.search("recreated", caplog.text)
    assert not checked_files.damage(*cache.models) and len(Cache(folder).manifest.cuts) == 1
    again = run()[1]
    assert (again.forwarded, again.reused) == (0, 12)


@pytest.mark.parametrize("name", ["trunk.keras", "tail.keras", "digests.json", "manifest.json"])
def test_extract__files_of_another_cache_are_not_taken(work, copied, tmp_path, name):
    other, _ = extract(work[2], cut_of(work[0], "second"), tmp_path / "caches", INLINE)
    whole = rows_of(other).copy()
    expected = rows_of(Cache(copied[0]))
    copies = shutil.copytree(copied[0], tmp_path / "copy")
    for theirs, ours in ((other.folder, copied[0]), (copies, other.folder)):
        shutil.copy(theirs / name, ours / name)
    for cut, rows in ((cut_of(work[0]), expected), (cut_of(work[0], "second"), whole)):
        cache, _ = extract(work[1], cut, tmp_path / "caches", INLINE)
        np.testing.assert_array_equal(rows_of(cache)[: len(rows)], rows)
        assert not checked_files.damage(*cache.models) and len(cache.index()) == 12 == len(rows_of(cache))


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("trunk.keras", HeadSpec()),
        ("tail.keras", HeadSpec("tail")),
        ("manifest.json", HeadSpec()),
        ("samples/data.csv", HeadSpec()),
        ("samples/data.json", HeadSpec()),
    ],
)
def test_plan_training__says_what_is_damaged_before_it_trains(
    copied, tmp_path, monkeypatch, name, head, damage
):
    folder, run = copied
    damage(folder / name)
    monkeypatch.setattr("fastcls.training.head_trainer._train", None)  # whoever comes so far, fails
    with pytest.raises(CacheError, match=r"run the same `fastcls extract` again|Run the same") as raised:
        plan_training(Cache.find(folder), head, TRAIN, tmp_path / "run")
    assert str(folder / name) in str(raised.value) and "\n" not in str(raised.value)
    assert not list(tmp_path.glob("run*"))
    if "Delete this file" in str(raised.value):
        (folder / name).unlink()
    monkeypatch.undo()
    run(more=False)
    assert "Images:" in str(plan_training(Cache.find(folder), head, TRAIN, tmp_path / "run"))


def test_extract__a_damaged_conversion_makes_no_rows(work, copied):
    pytest.importorskip("openvino")
    folder, run = copied
    config = ExtractConfig(engine="openvino", executor="inline", batch_size=2)
    expected = rows_of(run(config=config)[0])
    shutil.rmtree(folder / "shards")
    flip(folder / "openvino" / "trunk.bin")
    cache, done = run(config=config)
    assert done.forwarded == 12
    np.testing.assert_allclose(rows_of(cache), expected, rtol=1e-4, atol=1e-6)


def test_extract__a_damaged_trunk_of_several_cuts_is_made_anew(work, tmp_path):
    _, dataset, some = work
    cuts = [cut_of(work[0], layer) for layer in ("first", "second")]
    extract_several(some, cuts, tmp_path, INLINE)
    (shared,) = tmp_path.glob("shared-trunk-*/trunk.keras")
    flip(shared)
    results = extract_several(dataset, cuts, tmp_path, INLINE)
    assert [done.forwarded for _, done in results] == [2, 2] and not checked_files.damage(shared)


def test_extract__a_damaged_quantization_is_refused_beside_its_rows(work, tmp_path):
    pytest.importorskip("nncf")
    folder, dataset, some = work
    cut = cut_of(folder, "pooled", "int8")
    cache, _ = extract(some, cut, tmp_path, ExtractConfig(executor="inline"))
    flip(cache.folder / "openvino-int8" / "trunk.bin")
    rows = rows_of(cache)
    with pytest.raises(CacheError, match=r"restore it, or remove the cache folder"):
        extract(dataset, cut, tmp_path, ExtractConfig(executor="inline"))
    np.testing.assert_array_equal(rows_of(Cache.find(tmp_path)), rows)


def test_manifest__of_the_first_version_is_left_alone(copied, caplog):
    folder, run = copied
    other = shutil.copytree(folder, folder.with_name("of-before"))
    (other / "manifest.json").write_text(json.dumps({"version": 1, "cuts": ["x"]}))
    before = {path: path.read_bytes() for path in other.rglob("*") if path.is_file()}
    assert run()[1].reused == 10
    assert {path: path.read_bytes() for path in other.rglob("*") if path.is_file()} == before
    with pytest.raises(CacheError, match=r"has version 1, this fastcls reads version 3\. Give another cache"):
        Cache(other)
    assert caplog.messages == []

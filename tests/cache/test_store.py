import dataclasses
import random
from pathlib import Path

import numpy as np
import pytest

from fastcls import files
from fastcls.cache import checked_files
from fastcls.cache.manifest import Manifest
from fastcls.cache.shard import ShardWriter
from fastcls.cache.store import Cache, find_cut
from fastcls.errors import CacheError

MANIFEST = Manifest(
    fingerprint="f" * 32,
    base="resnet50",
    weights="imagenet",
    layer="block/3:add",
    pool="avg",
    normalize="tf",
    size=(8, 6),
    decode="decode",
    resize="resize",
    dtype="float32",
    precision="float32",
    shape=(4,),
    architecture="a",
    weights_digest="w",
    cuts=("asked",),
)
FIGURES = {
    "images": 8,
    "median_error": 0.003,
    "largest_error": 0.01,
    "median_cosine": 0.9999,
    "smallest_cosine": 0.999,
}
DIGESTS = [files.digest(bytes([number])) for number in range(30)]
ROWS = np.arange(120, dtype=np.float32).reshape(30, 4)


@pytest.fixture
def cache(tmp_path):
    cache = Cache.create(tmp_path, MANIFEST)
    checked_files.keep(cache.trunk_path, Path.touch, of=MANIFEST.fingerprint)
    for start in (0, 10, 20):
        described = {"fingerprint": MANIFEST.fingerprint}
        with ShardWriter(cache.shards_folder, (4,), "float32", described) as writer:
            writer.append(DIGESTS[start : start + 10], ROWS[start : start + 10])
            writer.finish()
    return cache


def test_cache__is_found_again(cache, tmp_path):
    assert cache.folder.name == "resnet50-block_3_add-8x6-ffffffffffff"
    assert Cache(cache.folder).manifest == MANIFEST
    assert Cache.find(tmp_path).folder == Cache.find(cache.folder).folder == cache.folder
    assert find_cut(tmp_path, "asked").folder == cache.folder
    assert find_cut(tmp_path, "never asked") is None
    cache._note(lambda manifest: {"tail_digest": "t"})
    assert find_cut(tmp_path, "asked") is None  # its tail is gone
    cache.tail_path.touch()
    assert find_cut(tmp_path, "asked") is None  # nobody knows whose it is
    checked_files.keep(cache.tail_path, Path.touch, of=MANIFEST.fingerprint)
    assert find_cut(tmp_path, "asked").folder == cache.folder
    cache.trunk_path.unlink()
    assert find_cut(tmp_path, "asked") is None


def test_cache__notes_requests_and_figures(cache, tmp_path):
    cache.add_cut("asked")
    cache.add_cut("asked again")
    cache.note_fidelity("openvino", {**FIGURES, "images": 32, "median_error": 0.003})
    cache.note_fidelity("tensorflow", {**FIGURES, "images": 31, "median_error": 0.004})
    cache.remove_cut("asked")
    assert (
        Cache(cache.folder).manifest
        == cache.manifest
        == dataclasses.replace(
            MANIFEST,
            cuts=("asked again",),
            fidelity={
                "openvino": {**FIGURES, "images": 32, "median_error": 0.003},
                "tensorflow": {**FIGURES, "images": 31, "median_error": 0.004},
            },
        )
    )
    assert find_cut(tmp_path, "asked") is None
    assert find_cut(tmp_path, "asked again").folder == cache.folder


def test_cache__none_and_several(cache, tmp_path):
    with pytest.raises(CacheError, match=r"No bottleneck cache in .*fastcls extract DATA"):
        Cache.find(tmp_path / "nowhere")
    other = Cache.create(tmp_path, dataclasses.replace(MANIFEST, fingerprint="e" * 32))
    with pytest.raises(CacheError, match="several") as several:
        Cache.find(tmp_path)
    assert str(cache.folder) in str(several.value) and str(other.folder) in str(several.value)


def test_cache__another_version_is_refused(cache, tmp_path):
    path = cache.folder / "manifest.json"
    files.write_checked_json(path, {**files.read_checked_json(path), "version": 1})
    with pytest.raises(CacheError, match="has version 1, this fastcls reads version 3"):
        Cache(cache.folder)
    assert find_cut(tmp_path, "asked") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"version": 3}', "\0\0\0"])
def test_cache__a_damaged_manifest_is_refused(cache, text):
    (cache.folder / "manifest.json").write_text(text)
    with pytest.raises(CacheError, match=r"manifest\.json is damaged"):
        Cache(cache.folder)


def test_index__finds_rows_in_any_order(cache):
    wanted = [DIGESTS[25], files.digest(b"unknown"), DIGESTS[3], "", DIGESTS[25], DIGESTS[14]]
    rows = cache.index().locate(wanted)
    assert rows.present.tolist() == [True, False, True, False, True, True]
    found = rows.take(np.flatnonzero(rows.present))
    assert np.array_equal(found.read(), ROWS[[25, 3, 25, 14]])
    with pytest.raises(CacheError, match="not in the cache"):
        rows.read()


def test_index__leaves_out_damaged_and_foreign_shards(cache, caplog):
    first, second = sorted(cache.shards_folder.iterdir())[:2]
    first.write_bytes(first.read_bytes()[:1000])
    second.write_bytes(b"")
    with ShardWriter(cache.shards_folder, (4,), "float32", {"fingerprint": "other"}) as writer:
        writer.append([files.digest(b"foreign")], ROWS[:1])
        writer.finish()
    index = cache.index()
    assert len(index) == 10 and len(caplog.messages) == 3
    assert any(str(first) in message for message in caplog.messages)


def test_index__of_an_empty_cache(tmp_path):
    rows = Cache.create(tmp_path, MANIFEST).index().locate(DIGESTS[:2])
    assert not rows.present.any() and len(rows) == 2


def test_rows__are_read_in_any_order_and_into_an_array(cache):
    rows = cache.index().locate(DIGESTS)
    random = np.random.default_rng(2)
    for size in (1, 5, 100):
        places = random.integers(0, 30, size)
        np.testing.assert_array_equal(rows.take(places).read(), ROWS[places])
        into = np.full((101, 4), -1, np.float32)
        assert np.shares_memory(rows.take(places).read(into), into)
        np.testing.assert_array_equal(into[:size], ROWS[places])
        assert (into[size:] == -1).all()


# What several processes note


def test_cache__what_two_have_noted_is_kept(cache):
    one, other = Cache(cache.folder), Cache(cache.folder)
    one.note_fidelity("openvino", FIGURES)
    other.add_cut("of the other")
    one.note_fidelity("tensorflow", FIGURES)
    other.remove_cut("asked")
    noted = Cache(cache.folder).manifest
    assert noted == other.manifest and set(noted.fidelity) == {"openvino", "tensorflow"}
    assert noted.cuts == ("of the other",)


def test_cache__every_bit_of_a_manifest_counts(cache):
    path, chance = cache.folder / "manifest.json", random.Random(3)
    whole = path.read_bytes()
    refused = 0
    for _ in range(500):
        place = chance.randrange(len(whole))
        path.write_bytes(
            whole[:place] + bytes([whole[place] ^ 1 << chance.randrange(8)]) + whole[place + 1 :]
        )
        try:
            assert Cache(cache.folder).manifest == MANIFEST  # white space
        except CacheError as error:
            refused += 1
            assert "damaged" in str(error) or "has version" in str(error)
        path.write_bytes(whole[: place // 2])
        with pytest.raises(CacheError):
            Cache(cache.folder)
    assert refused > 300

import dataclasses
import json

import numpy as np
import pytest

from fastcls import files
from fastcls.cache.samples import FileState, SampleRow
from fastcls.cache.shard import ShardWriter
from fastcls.cache.store import Cache, Failure, Manifest, find_request
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
    requests=("asked",),
)
DIGESTS = [files.digest(bytes([number])) for number in range(30)]
ROWS = np.arange(120, dtype=np.float32).reshape(30, 4)


@pytest.fixture
def cache(tmp_path):
    cache = Cache.create(tmp_path, MANIFEST)
    cache.trunk_path.touch()
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
    assert find_request(tmp_path, "asked").folder == cache.folder
    assert find_request(tmp_path, "never asked") is None
    cache._note(tail_digest="t")
    assert find_request(tmp_path, "asked") is None  # its tail is gone
    cache.tail_path.touch()
    assert find_request(tmp_path, "asked").folder == cache.folder
    cache.trunk_path.unlink()
    assert find_request(tmp_path, "asked") is None


def test_cache__notes_requests_and_figures(cache, tmp_path):
    cache.add_request("asked")
    cache.add_request("asked again")
    cache.note_fidelity("openvino", {"images": 32, "median_error": 0.003})
    cache.note_fidelity("tensorflow", {"images": 31, "median_error": 0.004})
    cache.remove_request("asked")
    assert (
        Cache(cache.folder).manifest
        == cache.manifest
        == dataclasses.replace(
            MANIFEST,
            requests=("asked again",),
            fidelity={
                "openvino": {"images": 32, "median_error": 0.003},
                "tensorflow": {"images": 31, "median_error": 0.004},
            },
        )
    )
    assert find_request(tmp_path, "asked") is None
    assert find_request(tmp_path, "asked again").folder == cache.folder


def test_cache__none_and_several(cache, tmp_path):
    with pytest.raises(CacheError, match=r"no bottleneck cache in .*fastcls extract DATA"):
        Cache.find(tmp_path / "nowhere")
    other = Cache.create(tmp_path, dataclasses.replace(MANIFEST, fingerprint="e" * 32))
    with pytest.raises(CacheError, match="several") as several:
        Cache.find(tmp_path)
    assert str(cache.folder) in str(several.value) and str(other.folder) in str(several.value)


def test_cache__another_version_is_refused(cache, tmp_path):
    path = cache.folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 1}))
    with pytest.raises(CacheError, match="has version 1, this fastcls reads version 2"):
        Cache(cache.folder)
    assert find_request(tmp_path, "asked") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"version": 2}', "\0\0\0"])
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


# Tables

SAMPLES = [
    SampleRow("a/1.png", ("a",), "train", "", DIGESTS[0], FileState(1, 2, 3)),
    SampleRow('b/quo"te,\nnew line\r.png', ("b",), "", "group 1", "", FileState()),
    SampleRow("b/\udcff.png", ("žluťoučký",), "val"),
]
FAILURES = [
    Failure("a/1.png", "", "cannot be read: no such file"),
    Failure("b/\udcff.png", DIGESTS[1], "x\ny"),
]


def test_tables__give_back_what_was_put_in(cache):
    assert cache.samples() == [] and cache.failures() == []
    cache.write_samples(SAMPLES)
    cache.write_failures(FAILURES)
    assert cache.samples() == SAMPLES and cache.failures() == FAILURES
    cache.write_failures([])
    assert not (cache.folder / "failures.csv").exists()


def test_samples__several_labels_come_back_whatever_their_names(cache):
    names = ("a", 'b", "c', "d$e|f;g,h", '["i"]', "new\nline", "日本", "")
    counts = zip(SAMPLES, (0, 1, 8), strict=True)
    several = [dataclasses.replace(row, labels=names[:count]) for row, count in counts]
    assert not cache.multi_label
    cache.write_samples(several, multi_label=True)
    assert cache.samples() == several and cache.multi_label
    cache.write_samples(SAMPLES)
    assert cache.samples() == SAMPLES and not cache.multi_label


@pytest.mark.parametrize("name", ["samples", "failures"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: data.index(b"a/1") + 5],
        lambda data: data.replace(b",", b";"),
        lambda data: data.replace(b"digest", b"digset"),
        lambda data: b"\x89HDF\0\0\0" + data,
        lambda data: data + b'"',
        lambda data: b"x" * 200_000,
    ],
)
def test_tables__damaged_ones_are_refused(cache, name, damage):
    cache.write_samples(SAMPLES[:1])
    cache.write_failures(FAILURES[:1])
    path = cache.folder / f"{name}.csv"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CacheError, match=f"{name}.csv is damaged.*fastcls extract"):
        getattr(cache, name)()


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

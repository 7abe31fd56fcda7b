"""What is exported is what is read; what is told of a cache is what is there."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from caching_support import MANIFEST, is_killed, make_cache, make_run, make_sets, rows_in

from fastcls.cache.store import Cache
from fastcls.caching.describer import cache_info, list_caches
from fastcls.caching.exporter import export_cache
from fastcls.errors import OptionError


@pytest.fixture
def sets():
    return make_sets(0)


@pytest.fixture
def cache(tmp_path, sets):
    return make_cache(tmp_path / "caches", 0, sets)


@pytest.mark.parametrize("split", [None, "train"])
@pytest.mark.parametrize("to", ["npy", "parquet"])
def test_export__is_what_is_read(cache, sets, tmp_path, to, split, monkeypatch):
    monkeypatch.setattr("fastcls.caching.exporter._BLOCK_BYTES", 100)  # several blocks
    out = tmp_path / "out"
    done = export_cache(cache.folder, out, to, name="c", split=split)
    rows, samples = Cache(cache.folder, "c").read(split)
    assert (done.images, done.left_out) == (len(rows), 1 if split in (None, "train") else 0)
    facts = [[r.path, r.label, r.split, r.group, r.digest] for r in samples]
    if to == "npy":
        found = np.load(out / "features.npy", mmap_mode="r")
        lines = [line.split(",") for line in (out / "samples.csv").read_text().splitlines()]
        assert lines == [["path", "label", "split", "group", "digest"], *facts]
    else:
        table = pytest.importorskip("pyarrow.parquet").read_table(out)
        shape = json.loads(table.schema.field("features").metadata[b"shape"])
        found = np.array(table["features"].to_pylist(), np.float32).reshape(-1, *shape)
        assert [list(row.values())[:5] for row in table.to_pylist()] == facts
    assert found.dtype == rows.dtype and np.array_equal(found, rows)
    with pytest.raises(OptionError, match="already exists"):
        export_cache(cache.folder, out, to, name="c")


def test_export__killed_leaves_nothing(tmp_path):
    cache = make_cache(tmp_path / "caches", 0, make_sets(0)[:1])
    for number in itertools.count(1):
        out = tmp_path / f"out{number}"
        if not is_killed(number, lambda out=out: export_cache(cache, out)):
            break
        assert not out.exists() or len(np.load(out / "features.npy")) == len(cache.read()[0])
    assert out.exists() and number > 3


def test_info__counts_what_is_there(cache, sets, tmp_path):
    make_run(tmp_path / "run", [])
    (cache.folder / "notes.txt").write_text("mine")
    found = cache_info(cache, runs=[tmp_path])
    assert [each.name for each in found.data_sets] == ["a", "b", "c"]
    assert [each.rows for each in found.data_sets] == [len(each.images) for each in sets]
    listed = {key for each in sets for key in each.images.values()}
    assert (found.rows, found.unlisted) == (len(rows_in(cache)), len(rows_in(cache).keys() - listed))
    assert found.runs == (tmp_path / "run",) and found.others == (cache.folder / "notes.txt",)
    (summary,) = list_caches(tmp_path)
    assert summary.rows == found.rows and summary.manifest == MANIFEST

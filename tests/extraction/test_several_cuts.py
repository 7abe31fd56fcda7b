"""Several cuts of a base in one forward pass: each cache is as it would be alone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from extraction_support import (
    ABORT,
    ENGINE,
    OVERFLOW,
    RAISE,
    encoded,
    keep_no_model,
    leftovers,
    prepare,
    requested,
    save_model,
    write_images,
)

from fastcls.backend import import_keras
from fastcls.cache.store import cache_folders, find_cut
from fastcls.data.dataset import Dataset
from fastcls.data.decoder import read_image
from fastcls.data.views import make_view, row_key
from fastcls.errors import OptionError, WorkerError
from fastcls.extraction.extractor import extract, extract_several
from fastcls.extraction.fingerprint import cut_token
from fastcls.extraction.shared_trunk import shared_folder
from fastcls.specs import BaseSpec, CutSpec, ExtractConfig, ViewSpec

COUNT = 9
LAYERS = ("first", "second", "pooled")
SINGLY = ExtractConfig(engine="tensorflow", executor="inline", batch_size=1, shard_size=4)
COUNTING = "extraction_support:CountingEngine"


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.keras"
    save_model(path)
    return path


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    dataset = write_images(tmp_path_factory.mktemp("data"), COUNT)
    time.sleep(2.1)  # so that the state of the files is relied on
    return dataset


def cuts_of(model_path, layers=LAYERS, pool=None, **options):
    base = BaseSpec(str(model_path), size=(8, 8))
    return [CutSpec(base, layer, pool, precision="float32", **options) for layer in layers]


def rows_of(cache):
    return cache.index().locate([sample.digest for sample in cache.samples()]).read()


def passes(root):
    log = root / "passes.log"
    return len(log.read_text().splitlines()) if log.exists() else 0


@pytest.mark.parametrize("pool", [None, "avg"])
def test_extract__makes_the_caches_of_single_extractions_in_one_pass(dataset, model_path, tmp_path, pool):
    cuts = cuts_of(model_path, LAYERS if pool is None else LAYERS[:2], pool)
    alone = [extract(dataset, cut, tmp_path / "alone", SINGLY) for cut in cuts]
    root = tmp_path / "together"
    together = extract_several(dataset, cuts, root, replace(SINGLY, engine=COUNTING))
    assert passes(root) == COUNT
    assert [path.name for path in cache_folders(root)] == [
        path.name for path in cache_folders(tmp_path / "alone")
    ]
    images = np.stack([read_image(dataset.locate(sample), (8, 8)) for sample in dataset.samples])
    for (cache, done), (single, _) in zip(together, alone, strict=True):
        assert cache.folder.name == single.folder.name and cache.manifest == single.manifest
        assert cache.samples() == single.samples() and (done.forwarded, done.reused) == (COUNT, 0)
        np.testing.assert_allclose(rows_of(cache), rows_of(single), rtol=1e-5, atol=1e-6)
        trunk = import_keras().saving.load_model(cache.trunk_path, compile=False)
        np.testing.assert_allclose(rows_of(cache), trunk.predict(images, verbose=0), rtol=1e-4, atol=1e-5)
        assert cache.tail_path.exists() == single.tail_path.exists()
    again = extract_several(dataset, cuts, root, replace(SINGLY, engine="extraction_support:BrokenEngine"))
    assert [done.reused for _, done in again] == [COUNT] * len(cuts) and leftovers(root) == []


def test_extract__a_cache_that_is_full_is_left_alone(dataset, model_path, tmp_path):
    cuts = cuts_of(model_path, ("first", "second"))
    extract(dataset, cuts[0], tmp_path, SINGLY)
    (_, first), (second, done) = extract_several(dataset, cuts, tmp_path, replace(SINGLY, engine=COUNTING))
    assert (first.forwarded, first.reused, first.engine, first.resources) == (0, COUNT, "", "")
    assert (done.forwarded, done.reused, passes(tmp_path)) == (COUNT, 0, COUNT)
    assert not list(tmp_path.glob("shared-trunk-*"))
    assert len(second.index()) == COUNT


def test_extract__each_cache_gets_only_what_it_lacks(dataset, model_path, tmp_path):
    cuts = cuts_of(model_path, ("first", "second"))
    some = replace(dataset, samples=dataset.samples[:4])
    extract(some, cuts[0], tmp_path, SINGLY)
    (first, one), (second, other) = extract_several(dataset, cuts, tmp_path, replace(SINGLY, engine=COUNTING))
    assert (one.forwarded, one.reused, one.rows) == (COUNT - 4, 4, COUNT - 4)
    assert (other.forwarded, other.reused, other.rows) == (COUNT, 0, COUNT)
    assert passes(tmp_path) == COUNT
    assert len(first.index()) == len(second.index()) == COUNT


def test_extract__views_of_several_cuts(dataset, model_path, tmp_path):
    cuts, views = cuts_of(model_path, ("first", "second"), "avg"), ViewSpec(3)
    results = extract_several(dataset, cuts, tmp_path, replace(SINGLY, engine=COUNTING), views=views)
    assert passes(tmp_path) == 3 * COUNT and [done.rows for _, done in results] == [3 * COUNT] * 2
    (sample, *_) = results[0][0].samples()
    image = read_image(dataset.root / sample.path, (8, 8))
    looks = np.stack([make_view(image, sample.digest, views, number) for number in range(3)])
    for cache, _ in results:
        assert cache.listing.report().views == views
        trunk = import_keras().saving.load_model(cache.trunk_path, compile=False)
        rows = cache.index().locate([row_key(sample.digest, views, number) for number in range(3)]).read()
        np.testing.assert_allclose(rows, trunk.predict(looks, verbose=0), rtol=1e-4, atol=1e-5)


def test_extract__another_engine_is_compared_for_each_cache(dataset, model_path, tmp_path):
    pytest.importorskip("openvino")
    config = ExtractConfig(engine="openvino", workers=1, batch_size=4)
    cuts = cuts_of(model_path, LAYERS[:2], "avg")
    results = extract_several(dataset, cuts, tmp_path, config)
    for cache, done in results:
        assert done.engine == "openvino" and done.fidelity["images"] == COUNT
        assert cache.manifest.fidelity == {"openvino": done.fidelity}
    assert len({done.fidelity["median_error"] for _, done in results}) > 1
    alone = [extract(dataset, cut, tmp_path / "alone", SINGLY)[0] for cut in cuts]
    for (cache, _), single in zip(results, alone, strict=True):
        np.testing.assert_allclose(rows_of(cache), rows_of(single), rtol=1e-3, atol=1e-5)
    assert [path.parent.name[:13] for path in tmp_path.glob("*/openvino")] == ["shared-trunk-"]


@pytest.mark.parametrize(
    ("layers", "options", "complaint"),
    [
        (("first", "first"), {}, "given twice"),
        (("first", "second"), {"precision": "int8"}, "one --cut at a time"),
    ],
)
def test_extract__refuses_cuts_that_cannot_share_a_pass(
    dataset, model_path, tmp_path, layers, options, complaint
):
    cuts = [replace(cut, **options) for cut in cuts_of(model_path, layers)]
    with pytest.raises(OptionError, match=complaint):
        extract_several(dataset, cuts, tmp_path, SINGLY)
    same = [cut for pool in ("avg", "max") for cut in cuts_of(model_path, ("pooled",), pool)]
    with pytest.raises(OptionError, match="same bottlenecks"):  # a vector is not pooled
        extract_several(dataset, same, tmp_path, SINGLY)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


# Two caches of arithmetic, of which one stores float16


DOUBLE = "extraction_support:DoubleEngine"


@pytest.fixture
def root(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


def fill(data, root, config, engine=DOUBLE):
    cuts = [requested(root, dtype) for dtype in ("float32", "float16")]
    return extract_several(Dataset.open(data), cuts, root, replace(config, engine=engine))


def prepare_both(root):
    """Two caches, float32 and float16, and a trunk of both."""
    requests = [prepare(root, dtype) for dtype in ("float32", "float16")]
    caches = [find_cut(root, cut_token(request)) for request in requests]
    shared = shared_folder(caches, root)
    keep_no_model(shared / "trunk.keras", shared.name)
    return caches, shared


def forwarded(folder):
    return list(map(int, (folder / "forwarded.log").read_text().split()))


def test_extract__a_row_that_fits_one_cache_fails_in_the_other(data, root):
    write_images(data, 8, {3: OVERFLOW})
    prepare_both(root)
    config = ExtractConfig(executor="inline", batch_size=3, shard_size=5)
    (wide, one), (narrow, other) = fill(data, root, config)
    assert (one.forwarded, one.failures, other.forwarded, other.failures) == (8, 0, 7, 1)
    assert wide.failures() == [] and "float16 ends at 65504" in narrow.failures()[0].reason
    assert (len(wide.index()), len(narrow.index())) == (8, 7)


def test_extract__the_image_that_crashes_a_worker_fails_in_both(data, root):
    write_images(data, 12, {5: ABORT})
    prepare_both(root)
    results = fill(data, root, ExtractConfig(workers=2, batch_size=1, shard_size=4))
    for cache, done in results:
        assert (done.forwarded, done.failures, done.missing) == (11, 1, 0)
        assert [failure.path for failure in cache.failures()] == ["b/000005.png"]


def test_extract__goes_on_where_it_was_stopped(data, root):
    write_images(data, 12, {9: RAISE})
    caches, shared = prepare_both(root)
    config = ExtractConfig(workers=1, batch_size=1, shard_size=4)
    with pytest.raises(WorkerError, match="the engine does not like it"):
        fill(data, root, config)
    kept = [len(cache.index()) for cache in caches]
    assert kept[0] == kept[1] and 0 < kept[0] < 12
    (data / "b" / "000009.png").write_bytes(encoded(9))
    time.sleep(2.1)  # so that the state of the files is relied on
    before = len(forwarded(shared))
    results = fill(data, root, config)
    assert len(forwarded(shared)) - before == 12 - kept[0]
    assert [(done.forwarded, done.reused) for _, done in results] == [(12 - kept[0], kept[0])] * 2
    # A shard that is lost in one cache is made for that one, by its own trunk.
    next(caches[1].shards_folder.glob("*.h5")).unlink()
    (_, one), (_, other) = fill(data, root, config, engine=ENGINE)
    assert (one.forwarded, one.reused, other.forwarded, other.reused) == (0, 12, 4, 8)
    np.testing.assert_array_equal(rows_of(caches[0]).astype(np.float16), rows_of(caches[1]))
    code = (
        "import sys; from pathlib import Path; from fastcls.data.dataset import Dataset\n"
        "from fastcls.extraction.extractor import extract_several; from fastcls.specs import *\n"
        f"root = Path({str(root)!r}); base = BaseSpec(str(root / 'base.keras'))\n"
        "cuts = [CutSpec(base, dtype=dtype) for dtype in ('float32', 'float16')]\n"
        f"results = extract_several(Dataset.open(Path({str(data)!r})), cuts, root)\n"
        "print([done.reused for _, done in results], 'tensorflow' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert told.stdout == "[12, 12] False\n", told.stderr

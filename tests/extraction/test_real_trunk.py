"""Extraction through TensorFlow: which rows it makes, and what makes it make others."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from extraction_support import EXECUTORS_HERE, by, save_model, write_images

from fastcls.backend import import_keras
from fastcls.cache.store import Cache, cache_folders
from fastcls.data.decoder import read_image
from fastcls.engines.trunk import Trunk
from fastcls.errors import WorkerError
from fastcls.extraction.extractor import extract, extract_several
from fastcls.specs import BaseSpec, CutSpec, ExtractConfig

COUNT = 9


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.keras"
    save_model(path)
    return path


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("data"), COUNT)


def requested(model_path, **options):
    """In float32 by TensorFlow: the reference."""
    base = BaseSpec(str(model_path), size=options.pop("size", (8, 8)))
    return CutSpec(base, layer="second", precision="float32", **options)


def by_tensorflow(**options):
    return ExtractConfig(engine="tensorflow", **options)


def rows_of(cache):
    return cache.index().locate([sample.digest for sample in cache.samples()]).read()


def test_rows__are_those_of_the_trunk(dataset, model_path, tmp_path):
    config = by_tensorflow(executor="inline", batch_size=4, shard_size=5)
    cache, done = extract(dataset, requested(model_path, size=(16, 12)), tmp_path, config)
    assert (done.forwarded, done.fidelity) == (COUNT, None)
    keras = import_keras()
    trunk = keras.saving.load_model(cache.trunk_path, compile=False)
    images = np.stack([read_image(dataset.locate(sample), (16, 12)) for sample in dataset.samples])
    assert np.allclose(rows_of(cache), trunk.predict(images, verbose=0), atol=1e-6)


def test_rows__are_the_same_bits_by_every_executor(dataset, model_path, tmp_path):
    request = requested(model_path, size=(16, 12), pool="none")
    found = []
    for executor in EXECUTORS_HERE:
        config = by(executor, engine="tensorflow", batch_size=4, shard_size=3)
        found.append(rows_of(extract(dataset, request, tmp_path / executor, config)[0]))
    assert all(np.array_equal(rows, found[0]) for rows in found)


def test_more_images__go_through_openvino_without_tensorflow(model_path, tmp_path):
    pytest.importorskip("openvino")
    request = requested(model_path)
    config = ExtractConfig(engine="openvino", executor="inline")
    cache, done = extract(write_images(tmp_path / "data", COUNT), request, tmp_path / "caches", config)
    assert done.engine == "openvino" and done.fidelity["median_error"] < 1e-5
    images = np.stack([read_image(path, (8, 8)) for path in sorted((tmp_path / "data").rglob("*.png"))])
    assert np.allclose(rows_of(cache), Trunk(cache.trunk_path).run(images), atol=1e-6)
    write_images(tmp_path / "data", COUNT + 2)
    code = f"""
import sys
from pathlib import Path
from fastcls import BaseSpec, CutSpec, Dataset, ExtractConfig, extract
root = Path({str(tmp_path)!r})
done = extract(Dataset.open(root / "data"), {request!r}, root / "caches", {config!r})[1]
print(done.engine, done.forwarded, done.reused, "tensorflow" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == f"openvino 2 {COUNT} False\n", done.stderr


def test_float16__rounds_rows_and_leaves_out_those_beyond_it(dataset, tmp_path):
    keras = import_keras()
    image = keras.Input((8, 8, 3))
    tokens = keras.layers.Reshape((16, 12), name="tokens")(keras.layers.Rescaling(1 / 255)(image))
    dense = keras.layers.Dense(4, name="massive")
    model = keras.Model(image, dense(tokens))
    kernel = np.random.default_rng(0).normal(size=(12, 4))
    kernel[:, 2] = np.eye(12)[3] * 66_000  # of one channel: beyond float16 where that pixel is above 253
    dense.set_weights([kernel, np.zeros(4)])
    model.save(tmp_path / "massive.keras")
    base = BaseSpec(str(tmp_path / "massive.keras"), normalize="none")
    request = CutSpec(base, "massive", pool="none", precision="float32")
    cuts = [request, dataclasses.replace(request, dtype="float16")]
    config = by_tensorflow(executor="inline", batch_size=4)
    (wide, one), (narrow, other) = extract_several(dataset, cuts, tmp_path, config)
    rows = rows_of(wide)
    fits = np.abs(rows).max(axis=(1, 2)) < 65_520  # rounds to 65,504 at most
    assert 0 < fits.sum() < COUNT and (one.failures, other.failures) == (0, COUNT - fits.sum())
    samples = list(wide.samples())
    lost = [sample.path for sample, is_kept in zip(samples, fits, strict=True) if not is_kept]
    assert [failure.path for failure in narrow.failures()] == lost
    kept = [sample.digest for sample, is_kept in zip(samples, fits, strict=True) if is_kept]
    assert np.array_equal(narrow.index().locate(kept).read(), rows[fits].astype(np.float16))


def test_each_factor__makes_another_cache_and_only_then(dataset, model_path, tmp_path):
    keras = import_keras()
    retrained = tmp_path / "retrained.keras"
    model = keras.saving.load_model(model_path)
    kernel = model.get_layer("first").kernel
    kernel.assign(kernel.numpy() + np.eye(3, 1)[:, :, None, None] * 1e-3)
    model.save(retrained)
    renamed = tmp_path / "renamed.keras"
    renamed.write_bytes(model_path.read_bytes())
    mixed = tmp_path / "mixed.keras"
    save_model(mixed, dtype="mixed_bfloat16")  # the same weights
    plain = requested(model_path)
    base = plain.base
    requests = {
        "plain": (plain, COUNT),
        "again": (plain, 0),
        "layer": (dataclasses.replace(plain, layer="first"), COUNT),
        "pool": (dataclasses.replace(plain, pool="max"), COUNT),
        "dtype": (dataclasses.replace(plain, dtype="float16"), COUNT),
        "size": (dataclasses.replace(plain, base=dataclasses.replace(base, size=(8, 9))), COUNT),
        "normalize": (dataclasses.replace(plain, base=dataclasses.replace(base, normalize="tf")), COUNT),
        "weights": (dataclasses.replace(plain, base=dataclasses.replace(base, name=str(retrained))), COUNT),
        "dtype policy": (dataclasses.replace(plain, base=dataclasses.replace(base, name=str(mixed))), COUNT),
        "file name": (dataclasses.replace(plain, base=dataclasses.replace(base, name=str(renamed))), 0),
        "back": (plain, 0),
    }
    log = tmp_path / "root" / "passes.log"
    config = ExtractConfig("extraction_support:CountingEngine", executor="inline", batch_size=1)
    folders = set()
    for name, (request, expected) in requests.items():
        before = log.read_text().count("x") if log.exists() else 0
        cache, done = extract(dataset, request, log.parent, config)
        assert (name, log.read_text().count("x") - before) == (name, expected)
        assert (name, done.forwarded, done.reused) == (name, expected, COUNT - expected)
        assert (name, cache.folder in folders) == (name, not expected)
        folders.add(cache.folder)
    assert set(cache_folders(log.parent)) == folders and len(folders) == 8


def test_a_damaged_trunk__is_named_and_made_anew(dataset, model_path, tmp_path):
    request, config = requested(model_path), by_tensorflow(executor="inline", batch_size=4)
    cache, _ = extract(dataset, request, tmp_path, config)
    rows = rows_of(cache)
    data = bytearray(cache.trunk_path.read_bytes())
    for path in cache.shards_folder.iterdir():
        path.unlink()
    for place in range(len(data) // 20, len(data), len(data) // 10):
        damaged = bytearray(data)
        damaged[place] ^= 0x40
        cache.trunk_path.write_bytes(damaged)
        try:
            extract(dataset, request, tmp_path, config)
        except WorkerError as error:
            assert f"cannot load {cache.trunk_path}" in str(error)
        else:
            assert np.array_equal(rows_of(cache), rows)  # a byte that nobody reads
            for path in cache.shards_folder.iterdir():
                path.unlink()
    cache.trunk_path.unlink()
    assert extract(dataset, request, tmp_path, config)[1].forwarded == COUNT
    assert np.array_equal(rows_of(Cache(cache.folder)), rows)

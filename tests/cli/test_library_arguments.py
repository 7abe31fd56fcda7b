"""What the functions of the package take: paths that stand for something, and nothing of a wrong type."""

import os
from dataclasses import replace

import numpy as np
import pytest

import fastcls as library
from fastcls.extraction.extractor import extract

INLINE = library.ExtractConfig(executor="inline")
QUICK = library.TrainConfig(epochs=1)


class Lazy(os.PathLike):
    """A path of another library."""

    def __init__(self, path):
        self._path = str(path)

    def __fspath__(self):
        return self._path


@pytest.fixture(scope="module")
def world(photos, base, tmp_path_factory):
    """One of each kind of thing."""
    folder = tmp_path_factory.mktemp("world")
    data = library.split(photos)
    cut = library.CutSpec(base, precision="float32")
    cache, _ = library.extract(data, cut, folder / "caches", INLINE)
    trained = library.train_head(cache, config=QUICK)
    classifier = library.Classifier.join(cache, trained)
    classifier.save(folder / "classifier.keras")
    return {"folder": folder, "data": data, "cut": cut, "cache": cache, "trained": trained, "it": classifier}


@pytest.mark.parametrize("kind", [str, Lazy])
def test_a_path_stands_for_data_caches_and_bases(world, photos, base, kind, tmp_path):
    root = kind(world["folder"] / "caches")
    opened = library.Dataset.open(photos)
    assert library.split(kind(photos)) == library.split(opened) == world["data"]
    for cut in (replace(world["cut"], base=kind(base)), {"base": kind(base), "precision": "float32"}):
        cache, done = library.extract(kind(photos), cut, root, {"executor": "inline"})
        assert cache.folder == world["cache"].folder and done.reused == 60
    ((cache, _),) = library.extract_several(world["data"], world["cut"], root)  # a single one, too
    trained = library.train_head(kind(cache.folder), "linear", {"epochs": 1})
    for before, now in zip(trained.model.get_weights(), world["trained"].model.get_weights(), strict=True):
        assert np.array_equal(before, now)
    tested = library.Classifier.join(root, trained).test(kind(photos))
    assert tested.on.images == 60
    assert len(library.write_split(kind(photos), kind(tmp_path / "split")).dataset.samples) == 60
    spec = library.FinetuneSpec(train="none", augment="none")
    tuned = library.finetune(kind(tmp_path / "split"), kind(base), spec, QUICK, head="linear")
    assert tuned.class_names == opened.class_names
    run = library.run(kind(photos), kind(base), kind(tmp_path / "run"), cache_root=kind(tmp_path / "caches"))
    assert run.test is not None
    file = library.BaseSpec(kind(base), weights=kind(base))
    assert (file.name, file.weights) == (str(base), str(base))


def calls(world, out):
    """Each function that a user may call, with arguments that do."""
    data, cut, cache, trained, it = (world[name] for name in ("data", "cut", "cache", "trained", "it"))
    file = world["folder"] / "classifier.keras"
    extracted = {"dataset": data, "root": cache.folder.parent, "config": INLINE, "views": None, "name": "a"}
    network = library.load_base("lenet5", weights="random")
    parts = {"trunk": library.cut(network).trunk, "head": trained.model}
    tested = {"dataset": data, "out": out, "batch_size": 16, "max_pixels": None}
    settings = {"head": "linear", "config": QUICK, "views": None, "name": "a", "extraction": INLINE}
    tuning = {"start": it, "spec": None, "config": QUICK, "head": None, "folder": None, "max_pixels": None}
    return [
        (library.load_base, {"base": "lenet5", "weights": "random", "size": None, "normalize": None}),
        (library.cut, {"base": network, "layer": None, "pool": None, "dtype": "float32"}),
        (library.split, {"dataset": data, "spec": None}),
        (library.write_split, {"dataset": data, "out": out, "spec": None, "mode": "link"}),
        (library.extract, {"cut": cut, **extracted}),
        (library.extract_several, {"cuts": [cut], **extracted}),
        (library.train_head, {"cache": cache, "head": None, "config": QUICK, "start": None, "folder": None}),
        (library.run, {"dataset": data, "cut": cut, "out": out, "cache_root": cache.folder, **settings}),
        (library.finetune, {"dataset": data, **tuning}),
        (library.stitch, parts),
        (library.Classifier.join, {"cache": cache, "trained": trained}),
        (library.Classifier.load, {"path": file}),
        (it.save, {"path": file}),
        (it.predict, {"images": np.zeros((8, 8, 3), np.uint8), "batch_size": 1, "max_pixels": None}),
        (it.test, tested),
        (library.Dataset.open, {"path": data.root, "spec": None, "image_root": None}),
        (library.Dataset.from_folder, {"root": data.root}),
        (library.Dataset.from_csv, {"path": data.root, "label_separator": None, "image_root": None}),
        (library.Dataset.from_tfrecords, {"files": [data.root]}),
        (library.Cache, {"folder": cache.folder, "name": None}),
        (library.Cache.find, {"path": cache.folder, "name": None}),
        (library.BaseSpec, {"name": "lenet5", "weights": None, "size": None, "normalize": None}),
        (library.CutSpec, {"base": "lenet5", "layer": None}),
        (library.TrainConfig, {"optimizer": "Adam", "schedule": "cosine", "loss": library.LossSpec()}),
    ]


def refusal(function, given):
    """The message with which it refuses its arguments; "" where it does not."""
    try:
        function(**given)
    except library.FastclsError as error:
        return str(error)
    return ""


def test_what_is_of_a_wrong_type_is_refused_in_one_line(world, tmp_path):
    taken = {("size", int), ("batch_size", int), ("max_pixels", int), ("images", bytes)}  # not wrong
    wrong = (3, object(), b"x", np.zeros(3), {"no": "field"}, [object()], extract)
    for function, given in calls(world, tmp_path / "out"):
        for name in given:
            for value in wrong:
                if (name, type(value)) in taken:
                    continue
                message = refusal(function, {**given, name: value})
                assert message and "\n" not in message, (function, name, value, message)
    assert not (tmp_path / "out").exists()

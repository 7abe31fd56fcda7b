"""The functions of the package, typed one after the other, come to what the command line comes to."""

import json
from dataclasses import replace

import numpy as np
import pytest

import fastcls as library
from fastcls.backend import import_keras
from fastcls.data.decoder import read_image
from fastcls.used_images import UNKNOWN

SIZE = (16, 16)


@pytest.fixture(scope="module")
def made(photos, base, tmp_path_factory):
    """What the functions make of the photos, given paths as text."""
    folder = tmp_path_factory.mktemp("library")
    data = library.split(library.Dataset.open(str(photos)))
    cut = library.CutSpec(str(base), precision="float32")
    config = library.ExtractConfig(workers=1)
    cache, _ = library.extract(data, cut, str(folder / "caches"), config)
    trained = library.train_head(cache)
    return folder, data, library.Classifier.join(cache, trained), trained


def seen(**counts):
    """How many images a test has met before, by their use."""
    return {"train": 0, "val": 0, "refit": 0, "earlier": 0, **counts}


def test_library__gives_what_the_command_gives(made, fastcls, photos, base, tmp_path):
    folder, data, classifier, trained = made
    options = ("--base", base, "--precision", "float32", "--workers", 1, "--cache", tmp_path / "caches")
    assert fastcls("run", photos, *options, "--out", tmp_path / "run").code == 0
    commanded = library.Classifier.load(tmp_path / "run")
    expected = commanded.predict(photos).probabilities
    assert np.ptp(expected, axis=0).min() > 0.01
    assert np.array_equal(classifier.predict(photos).probabilities, expected)
    figures = {**commanded.provenance["figures"], "seconds": trained.best["seconds"]}
    assert trained.best == figures

    tested = classifier.test(data, str(folder / "test"))
    result = tmp_path / "run" / "test" / "photos"
    for file in result.iterdir():
        if file.suffix == ".csv":
            assert (folder / "test" / file.name).read_bytes() == file.read_bytes()
    assert {file.name for file in tested.folder.iterdir()} == {file.name for file in result.iterdir()}
    metrics = json.loads((result / "metrics.json").read_text())
    found = tested.evaluation.to_dict()
    assert [*metrics] == [*found, "tested_on"] and metrics["accuracy"] == found["accuracy"]
    assert metrics["log_loss"] == pytest.approx(found["log_loss"], rel=1e-4)


def test_library__a_saved_classifier_says_the_same(made, photos, tmp_path):
    _, data, classifier, _ = made
    classifier.save(str(tmp_path / "mine.keras"))
    loaded = library.Classifier.load(str(tmp_path / "mine.keras"))
    assert loaded.model is not classifier.model
    assert np.array_equal(loaded.predict(photos).probabilities, classifier.predict(photos).probabilities)
    assert loaded.test(data).evaluation.to_dict() == classifier.test(data).evaluation.to_dict()


def test_save__refuses_what_keras_would_not_load(made, tmp_path):
    with pytest.raises(library.OptionError, match=r"ends in .keras. Received: .*mine.h5"):
        made[2].save(tmp_path / "mine.h5")


def test_test__writes_nothing_unasked_and_over_no_other_result(made, photos, tmp_path):
    _, data, classifier, _ = made
    before = sorted(tmp_path.rglob("*"))
    tested = classifier.test(data)
    assert tested.folder is None and sorted(tmp_path.rglob("*")) == before
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(library.OptionError, match="already exists"):
        classifier.test(data, tmp_path / "out")
    out = tmp_path / "new"
    classifier.test(data, out)
    written = (out / "metrics.json").read_bytes()
    classifier.test(data, out)  # the same one stays
    assert (out / "metrics.json").read_bytes() == written
    with pytest.raises(library.OptionError, match="not a result of this classifier"):
        classifier.test(library.Dataset.open(photos), out)


def test_test__knows_the_images_of_the_run_that_a_classifier_was_loaded_from(trained, photos, caplog):
    tested = library.Classifier.load(trained.run).test(library.Dataset.open(photos), images="all")
    assert tested.on.seen == seen(train=36, val=12)
    assert "48 of the 60 images are not new to the classifier" in caplog.text


def test_test__knows_the_images_of_a_classifier_that_was_never_saved(made, photos, base, caplog):
    folder, data, classifier, trained = made
    photos = library.Dataset.open(photos)
    assert classifier.test(data).on.seen == seen()
    assert classifier.test(photos).on.seen == seen(train=36, refit=12)
    assert "48 of the 60 images are not new to the classifier" in caplog.text
    cache = library.Cache.find(folder / "caches")
    further = library.train_head(cache, None, library.TrainConfig(epochs=1, val=0), start=trained)
    assert library.Classifier.join(cache, further).test(photos).on.seen["earlier"] == 12
    spec, config = library.FinetuneSpec(train="none", augment="none"), library.TrainConfig(epochs=1)
    tuned = library.finetune(photos, classifier, spec, library.TrainConfig(epochs=1, val=0.2)).classifier
    assert sum(tuned.test(photos).on.seen.values()) == 60
    begun = replace(trained, used=UNKNOWN)  # as one that was unpickled may be
    further = library.train_head(cache, None, config, start=begun)
    unknown = library.Classifier.join(cache, further)
    assert unknown.test(data).on.seen is None and unknown.test(photos).on.seen["train"] == 36


def test_cache__is_read_as_arrays_and_samples(made):
    folder, data, _, _ = made
    cache = library.Cache.find(folder / "caches")
    features, samples = cache.read("val")
    assert [row.path for row in samples] == [s.path for s in data.samples if s.split == "val"]
    trunk = import_keras().saving.load_model(cache.trunk_path, compile=False)
    images = np.stack([read_image(data.root / row.path, SIZE) for row in samples])
    np.testing.assert_allclose(features, trunk.predict(images, verbose=0), rtol=1e-4, atol=1e-5)
    assert len(cache.read()[0]) == 60
    message = r"no image of split 'trian'. Its splits are \['test', 'train', 'val'\]"
    with pytest.raises(library.CacheError, match=message):
        cache.read("trian")


def test_to_frame__has_the_rows_of_each_table(made):
    pandas = pytest.importorskip("pandas")
    folder, data, classifier, trained = made
    frame = data.to_frame()
    assert list(frame.columns) == ["path", "label", "split", "group"]
    assert frame.groupby(["label", "split"]).size().to_dict() == {
        (name, split): {"train": 12, "val": 4, "test": 4}[split]
        for name in data.class_names
        for split in ("train", "val", "test")
    }
    cached = library.Cache.find(folder / "caches").to_frame()
    assert cached.drop(columns="digest").equals(frame) and cached.digest.str.len().eq(32).all()
    tested = classifier.test(data)
    rows = tested.to_frame()
    assert (rows.class_name == rows.predicted).mean() == pytest.approx(tested.evaluation.accuracy)
    assert tested.evaluation.to_frame().class_name.tolist() == list(classifier.class_names)
    assert len(pandas.DataFrame(trained.history)) == len({row["c"] for row in trained.history})


def test_to_frame__of_several_labels(tmp_path, photos):
    pytest.importorskip("pandas")
    table = tmp_path / "table.csv"
    table.write_text("path,label\nred/0.png,a|b\nred/1.png,b\nred/2.png,\n")
    data = library.Dataset.open(table, label_separator="|", image_root=str(photos))
    assert data.to_frame().labels.tolist() == [("a", "b"), ("b",), ()]


def test_repr__is_a_line_that_tells(made, photos):
    folder, data, classifier, trained = made
    assert repr(library.Dataset.open(photos)) == "<Dataset photos: 60 images of 3 classes>"
    assert repr(data) == "<Dataset photos: 60 images of 3 classes (36 train, 12 val, 12 test)>"
    cache = library.Cache.find(folder / "caches")
    assert repr(cache) == f"<Cache {cache.folder}: {cache.manifest.base} cut at pooled, 8 float32, of photos>"
    assert repr(trained).startswith("<TrainedHead logreg: 3 classes, c ")
    tested = classifier.test(data)
    assert "12 images)" in repr(tested.evaluation) and repr(tested).startswith("<Tested on ")
    assert all("\n" not in repr(thing) for thing in (data, cache, trained, tested, classifier))


def test_finetune__ends_at_a_classifier_too(made, photos, tmp_path):
    _, data, classifier, _ = made
    spec, config = library.FinetuneSpec(train="none", augment="none"), library.TrainConfig(epochs=1)
    trained = library.finetune(data, classifier, spec, config)
    assert repr(trained).startswith("<FinetunedNetwork: 3 classes, epoch 1, ")
    tuned = trained.classifier
    tuned.save(tmp_path / "tuned.keras")
    loaded = library.Classifier.load(tmp_path / "tuned.keras")
    assert np.array_equal(loaded.predict(photos).probabilities, tuned.predict(photos).probabilities)
    assert loaded.provenance["training"]["epochs"] == 1


def test_load_base_and_cut__take_options_in_place_of_specs(base):
    by_name = library.cut(base, "conv", pool="avg")
    by_spec = library.cut(library.load_base(library.BaseSpec(str(base))), "conv", pool="avg")
    assert by_name.trunk.output_shape == by_spec.trunk.output_shape == (None, 7, 7, 8)
    assert library.load_base("lenet5", weights="random", size=(40, 48)).size == (40, 48)
    with pytest.raises(library.OptionError, match="are fields of its BaseSpec"):
        library.load_base(library.BaseSpec("lenet5"), weights="random")

"""The functions of the package, typed one after the other, come to what the command line comes to."""

import json

import numpy as np
import pytest

import fastcls as library

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
    assert metrics.items() >= tested.evaluation.to_dict().items()


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
    with pytest.raises(library.OptionError, match="exists already"):
        classifier.test(data, tmp_path / "out")
    out = tmp_path / "new"
    classifier.test(data, out)
    written = (out / "metrics.json").read_bytes()
    classifier.test(data, out)  # the same one stays
    assert (out / "metrics.json").read_bytes() == written
    with pytest.raises(library.OptionError, match="no result of this classifier"):
        classifier.test(library.Dataset.open(photos), out)


def test_test__knows_the_images_of_the_run_that_a_classifier_was_loaded_from(trained, photos, caplog):
    tested = library.Classifier.load(trained.run).test(library.Dataset.open(photos))
    assert tested.on.seen == {"train": 36, "val": 12, "earlier": 0}
    assert "48 of the 60 images had a part in the training" in caplog.text

"""Whatever an image is given as, a classifier sees the same pixels of it."""

import io
import itertools
import os
import tracemalloc

import cv2
import numpy as np
import PIL.Image
import pytest

from fastcls.backend import import_keras
from fastcls.data.decoder import pixel_rule
from fastcls.errors import DataError, MissingExtraError, OptionError
from fastcls.inference.classifier import Classifier
from fastcls.tasks import ONE_LABEL, SEVERAL_LABELS

keras = import_keras()
layers = keras.layers
SIZE = (8, 12)


def make(*, full_decode=False, thresholds=None):
    keras.utils.set_random_seed(0)
    image = keras.Input((*SIZE, 3), dtype="uint8")
    x = layers.Conv2D(8, 3, activation="relu")(layers.Rescaling(1 / 255)(image))
    ending = "sigmoid" if thresholds else "softmax"
    model = keras.Model(image, layers.Dense(4, activation=ending)(layers.Flatten()(x)))
    rule = pixel_rule(SIZE, full_decode=full_decode)
    task = SEVERAL_LABELS if thresholds else ONE_LABEL
    return Classifier(model, ("d", "b", "a", "c"), rule, {}, thresholds, task)


@pytest.fixture(scope="module")
def classifier():
    return make()


def photo(seed, size=(50, 70)):
    """(h, w, 3) uint8 RGB, smooth enough for a JPEG."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), np.uint8)
    return cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def folder(tmp_path):
    """Three PNG files; inside a folder too."""
    for number, place in enumerate(["a.png", "b.png", "inner/c.png"]):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        PIL.Image.fromarray(photo(number)).save(tmp_path / place)
    return tmp_path


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "LA", "1"])
def test_predict__a_png_is_the_same_in_each_form(mode, classifier, tmp_path):
    path = tmp_path / "a.png"
    PIL.Image.fromarray(photo(1)).convert(mode).save(path)
    opened = PIL.Image.open(path)
    data = path.read_bytes()
    forms = [path, str(path), data, bytearray(data), memoryview(data), opened]
    forms.append(np.asarray(PIL.Image.open(path).convert("RGB")))
    results = classifier.predict([classifier.predict(form)[0] and form for form in forms])
    assert [result.path for result in results] == [path, path, *[None] * 5]
    assert [result.index for result in results] == list(range(7))
    for result in results[1:]:
        assert np.array_equal(result.probabilities, results[0].probabilities)


@pytest.mark.parametrize("full_decode", [True, False])
def test_predict__a_jpeg_of_pillow_is_that_of_full_decoding(full_decode, tmp_path):
    path = tmp_path / "a.jpg"
    PIL.Image.fromarray(photo(2)).save(path, quality=95, exif=_turned())
    classifier = make(full_decode=full_decode)
    from_file, from_bytes, from_pillow = classifier.predict([path, path.read_bytes(), PIL.Image.open(path)])
    assert np.array_equal(from_file.probabilities, from_bytes.probabilities)
    # Files are scaled down while they are decoded, an opened image has all its pixels.
    is_same = np.array_equal(from_file.probabilities, from_pillow.probabilities)
    assert is_same == full_decode
    np.testing.assert_allclose(from_file.probabilities, from_pillow.probabilities, atol=0.02)


def _turned():
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # by a right angle
    return exif


def test_predict__arrays_one_or_several(classifier):
    batch = np.stack([photo(number) for number in range(5)])
    results = classifier.predict(batch)
    assert len(results) == 5 and len(classifier.predict(batch[0])) == 1
    lists = classifier.predict([batch[0], batch[1:3], [batch[3], batch[4]]])
    assert np.array_equal(results.probabilities, lists.probabilities)
    assert np.ptp(results.probabilities, axis=0).min() > 0
    mirrored = classifier.predict(batch[:, :, ::-1])  # not contiguous
    copied = classifier.predict(batch[:, :, ::-1].copy())
    assert np.array_equal(mirrored.probabilities, copied.probabilities)


def test_predict__folders_are_listed_also_inside_of_a_list(classifier, folder):
    paths = [folder / "a.png", folder / "b.png", folder / "inner" / "c.png"]
    assert [result.path for result in classifier.predict(folder)] == paths
    found = classifier.predict([folder / "inner", os.fspath(folder)])
    assert [result.path for result in found] == [paths[2], *paths]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), r"shape \(H, W, 3\) .*Received: \(4, 4, 3\) float32"),
        (np.zeros((4, 4), np.uint8), r"Received: \(4, 4\) uint8"),
        (np.zeros((4, 4, 4), np.uint8), r"Received: \(4, 4, 4\) uint8"),
        (np.zeros((0, 4, 3), np.uint8), r"Received: \(0, 4, 3\) uint8"),
        (7, "paths, bytes, arrays or Pillow images. Received: int"),
        ([None], "Received: NoneType"),
        (io.BytesIO(b"line\nline"), "Received: BytesIO"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_predict__explains_what_is_no_image(image, message, classifier):
    with pytest.raises(DataError, match=message):
        classifier.predict(image)


def test_predict__an_image_without_pixels_is_unreadable(classifier):
    (result,) = classifier.predict(PIL.Image.new("RGB", (0, 5)))
    assert result.reason == "it has no pixels: 0x5"


@pytest.mark.parametrize("option", ["batch_size", "max_pixels"])
def test_predict__refuses_numbers_below_one(option, classifier):
    with pytest.raises(OptionError, match=f"{option} must be a whole number, 1 or more. Received: 0"):
        classifier.predict(photo(1), **{option: 0})


def test_predict__patterns_go_around_links_that_lead_back(classifier, folder):
    pattern = f"{folder}/**/*.png"
    before = [each.path for each in classifier.predict(pattern)]
    (folder / "loop").symlink_to(folder)
    assert before and [each.path for each in classifier.predict(pattern)] == before


def test_predict__of_a_folder_without_images(classifier, tmp_path):
    with pytest.raises(DataError, match="There is no image in"):
        classifier.predict(tmp_path)


def test_predict__what_cannot_be_decoded_is_a_result(classifier, folder, tmp_path):
    whole = (folder / "a.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    floats = PIL.Image.fromarray(np.zeros((4, 4), np.float32))
    forms = [whole[:-40], b"", b"text", floats, PIL.Image.open(tmp_path / "half.png"), tmp_path / "none.png"]
    results = classifier.predict([*forms, whole])
    assert [bool(result.reason) for result in results] == [True] * 6 + [False]
    assert results.unreadable == results[:6]
    assert "text that begins" in results[2].reason and "mode F" in results[3].reason
    bad = results[0]
    assert (bad.class_name, bad.confidence, bad.class_names, bad.top()) == (None, None, (), [])
    assert np.isnan(results.probabilities[:6]).all() and np.isfinite(results.probabilities[6]).all()


def test_predict__bounds_the_pixels_of_arrays_too(classifier):
    (result,) = classifier.predict(photo(0), max_pixels=3000)
    assert "50x70 (3,500) pixels" in result.reason
    (result,) = classifier.predict(np.zeros((1, 3000, 3), np.uint8), max_pixels=10_000)
    assert "while resizing" in result.reason


def test_stream__takes_images_as_they_are_needed(classifier):
    taken = itertools.count()
    endless = (photo(0) for _ in iter(lambda: next(taken), None))
    stream = classifier.stream(endless, batch_size=4)
    results = list(itertools.islice(stream, 9))
    assert [result.index for result in results] == list(range(9))
    assert next(taken) <= 9 + 4 * 4


def test_stream__holds_a_few_batches_only(classifier):
    images = (np.zeros((500, 500, 3), np.uint8) for _ in range(100))  # 75 MB in all
    next(classifier.stream(photo(0)))
    tracemalloc.start()
    try:
        assert sum(1 for _ in classifier.stream(images, batch_size=2)) == 100
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


def test_results__name_their_classes(classifier):
    results = classifier.predict([photo(0), photo(1)])
    for result in results:
        assert result.class_name == classifier.class_names[result.probabilities.argmax()]
        assert result.confidence == result.probabilities.max()
        assert result.class_names == (result.class_name,)
        assert result.top(2) == result.top()[:2] and len(result.top()) == 4
        assert sum(share for _, share in result.top()) == pytest.approx(1)


def test_results__of_several_labels_are_those_that_reach_their_threshold():
    results = make(thresholds=(1.0, 0.0, 1.0, 0.0)).predict(photo(0))
    assert results[0].class_names == ("b", "c") and len(results[0].top()) == 2
    (nothing,) = make(thresholds=(1.0,) * 4).predict(photo(0))
    assert (nothing.class_name, nothing.class_names, nothing.reason) == (None, (), "")


def test_results__as_a_frame(classifier, folder):
    pandas = pytest.importorskip("pandas")
    results = classifier.predict([folder, b"text"])
    frame = results.to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == ["path", "predicted", "confidence", "reason"]
    assert frame.path[:3].tolist() == [str(result.path) for result in results[:3]]
    assert frame.predicted[:3].tolist() == [result.class_name for result in results[:3]]
    assert frame[frame.reason != ""].index.tolist() == [3]
    several = make(thresholds=(1.0, 0.0, 1.0, 0.0)).predict(folder).to_frame()
    assert several.predicted.tolist() == [("b", "c")] * 3
    assert list(classifier.predict([]).to_frame().columns) == list(frame.columns)


def test_results__without_pandas(classifier, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(MissingExtraError, match=r"to_frame\(\) needs .*pip install pandas"):
        classifier.predict(photo(0)).to_frame()


def test_repr__is_a_line(classifier, folder):
    results = classifier.predict([folder / "a.png", photo(1), b""])
    assert repr(classifier) == "<Classifier of 4 classes (d, b, a, c), images of 8x12>"
    assert repr(results) == "<Predictions of 3 images, 1 unreadable>"
    assert repr(results[0]).startswith(f"<{folder / 'a.png'}: {results[0].class_name} ")
    assert repr(results[1]).startswith("<image 1: ") and repr(results[2]) == "<image 2: empty file>"

"""Views in the cache: made once, found again, extended, and only of images to train on."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from extraction_support import (
    ENGINE,
    EXECUTORS_HERE,
    NAN,
    SHAPE,
    SIZE,
    by,
    cached_rows,
    encoded,
    extract_arguments,
    forwarded,
    leftovers,
    only_cache,
    pixels,
    prepare,
    requested,
    run_command,
    start_command,
    wait_until,
    write_images,
)

from fastcls import files
from fastcls.data.dataset import Dataset
from fastcls.data.views import make_view, row_key
from fastcls.errors import DataError, OptionError
from fastcls.extraction.contact_sheet import draw_contact_sheet
from fastcls.extraction.extractor import extract
from fastcls.specs import ExtractConfig, ViewSpec

RECIPE = "flip,crop=0.5,rotate=20,brightness=1:1.5"
INLINE = ExtractConfig(executor="inline", batch_size=1, shard_size=6)
NOWHERE = "extraction_support:BrokenEngine"


@pytest.fixture
def root(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


def fill(data, root, views=1, config=INLINE, *, engine=ENGINE, dtype="float32", recipe=RECIPE):
    request = requested(root, dtype) if root.exists() else prepare(root, dtype)
    spec = ViewSpec(views, recipe)
    return extract(Dataset.open(data), request, root, replace(config, engine=engine), views=spec)[1]


def split(data):
    """Put images of each class into train, val and test folders."""
    for path in sorted(data.glob("?/*.png")):
        part = ("train", "train", "val", "test")[int(path.stem) // 2 % 4]
        place = data / part / path.parent.name / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        path.rename(place)
    for name in "ab":
        (data / name).rmdir()


def view_rows(root, number, count, recipe=RECIPE):
    """The cached rows of an image's views, and those of a direct forward pass."""
    image, digest, views = pixels(number), files.digest(encoded(number)), ViewSpec(count, recipe)
    keys = [row_key(digest, views, place) for place in range(count)]
    looks = [make_view(image, digest, views, place) for place in range(count)]
    direct = np.stack([look.reshape(-1)[: SHAPE[0]] for look in looks]).astype(np.float32) * 0.375
    return only_cache(root).index().locate(keys).read(), direct


def counts(done):
    return done.images, done.forwarded, done.rows, done.reused, done.failures, done.missing


def test_extract__each_view_is_forwarded_as_it_is_made(data, root):
    write_images(data, 10)
    done = fill(data, root, 3)
    assert counts(done) == (10, 10, 30, 0, 0, 0) and done.views == 3 and done.shards == 5
    for number in range(10):
        np.testing.assert_array_equal(*view_rows(root, number, 3))
    assert len(cached_rows(root)) == 10 and only_cache(root).listing.report().views == ViewSpec(3, RECIPE)


@pytest.mark.parametrize("executor", EXECUTORS_HERE)
def test_extract__more_views_forward_only_those(data, root, tmp_path, executor):
    write_images(data, 12)
    config = by(executor, batch_size=5, shard_size=10)
    assert counts(fill(data, root, 2, config)) == (12, 12, 24, 0, 0, 0)
    assert counts(fill(data, root, 4, config)) == (12, 12, 24, 0, 0, 0)
    at_once = tmp_path / "at-once"
    assert counts(fill(data, at_once, 4, config)) == (12, 12, 48, 0, 0, 0)
    both = only_cache(root).index(), only_cache(at_once).index()
    assert both[0].digests.tolist() == both[1].digests.tolist()
    rows = [index.locate(both[0].digests.astype(str).tolist()).read() for index in both]
    np.testing.assert_array_equal(*rows)
    for views in (4, 3, 1, 4):
        again = fill(data, root, views, engine=NOWHERE)
        assert counts(again) == (12, 0, 0, 12, 0, 0)
        assert only_cache(root).listing.report().views == ViewSpec(views, RECIPE)
    assert counts(fill(data, root, 3, recipe="flip=1")) == (12, 12, 24, 0, 0, 0)


def test_extract__only_images_to_train_on_have_views(data, root):
    write_images(data, 16)
    split(data)
    assert counts(fill(data, root, 3)) == (16, 16, 8 * 3 + 8, 0, 0, 0)
    views = ViewSpec(3, RECIPE)
    for row in only_cache(root).samples():
        keys = [row_key(row.digest, views, number) for number in range(3)]
        present = only_cache(root).index().locate(keys).present.tolist()
        assert present == [True, row.split == "train", row.split == "train"]
    # An image that moves to train lacks its views, and nothing else.
    (data / "val" / "a" / "000004.png").rename(data / "train" / "a" / "000004.png")
    assert counts(fill(data, root, 3)) == (16, 1, 2, 15, 0, 0)


def test_extract__copies_in_two_splits_are_forwarded_once_per_task(data, root):
    write_images(data, 16)
    split(data)
    for part in ("val", "train"):
        (data / part / "a" / "copy.png").write_bytes(encoded(500))
    done = fill(data, root, 4, ExtractConfig(executor="inline", batch_size=1, shard_size=999))
    assert counts(done) == (18, 17, 8 * 4 + 8 + 4, 1, 0, 0)
    assert len(forwarded(root)) == done.rows == len(only_cache(root).index())


@pytest.mark.parametrize("batch_size", [1, 4, 7])
def test_extract__a_view_that_does_not_fit_makes_the_image_a_failure(data, root, batch_size):
    write_images(data, 6)
    image = pixels(3)
    image[0, -1, 2] = NAN  # the first pixel once it is flipped
    (data / "b" / "000003.png").write_bytes(cv2.imencode(".png", image[..., ::-1])[1].tobytes())
    config = ExtractConfig(executor="inline", batch_size=batch_size, shard_size=99)
    done = fill(data, root, 2, config, dtype="float16", recipe="flip=1")
    assert counts(done) == (6, 5, 11, 0, 1, 0)
    (failure,) = only_cache(root).failures()
    assert failure.path == "b/000003.png" and "not finite" in failure.reason
    assert counts(fill(data, root, 2, dtype="float16", recipe="flip=1"))[1:] == (0, 0, 5, 1, 0)
    # The plain image has its row.
    assert counts(fill(data, root, 1, dtype="float16"))[1:] == (0, 0, 6, 0, 0)


def test_extract__goes_on_after_a_kill(data, root):
    count, views = 60, ViewSpec(3, RECIPE)
    write_images(data, count)
    prepare(root)
    asked = ("--views", 3, "--augment", RECIPE, "--workers", 2, "--batch-size", 4, "--shard-size", 12)
    process = start_command(*extract_arguments(data, root, *asked), TEST_DELAY_S="0.01")
    cache = only_cache(root)
    assert wait_until(lambda: cache.shards_folder.exists() and len(cache.index()) >= 36)
    process.kill()
    process.communicate()
    kept = len(only_cache(root).index())
    assert 36 <= kept < 3 * count and only_cache(root).listing.report().views == views
    code, out, error = run_command(*extract_arguments(data, root, *asked))
    assert code == 0, error
    done = cache.listing.report().extraction
    assert done["rows"] >= 3 * count - kept - 24  # the killed workers may have finished a shard each
    assert (done["images"], done["forwarded"] + done["reused"], done["missing"]) == (count, count, 0)
    assert f"s: {done['forwarded']} forwarded ({done['rows']} views)" in out
    assert "3 views of each image to train on: the plain one and 2 by flip=0.5,crop=0.5:1" in out
    assert len(only_cache(root).index()) == 3 * count and leftovers(root) == []
    for number in range(count):
        np.testing.assert_array_equal(*view_rows(root, number, 3))
    code, out, error = run_command(*extract_arguments(data, root, *asked))
    assert (code, error) == (0, "tensorflow=False\n") and "0 forwarded (0 views), 60 reused" in out


def test_preview__shows_the_pixels_that_would_be_forwarded(data, root, tmp_path):
    write_images(data, 5)
    request, views, out = prepare(root), ViewSpec(4, RECIPE), tmp_path / "views.png"
    assert draw_contact_sheet(Dataset.open(data), request, root, views, out) == 5
    sheet = cv2.imread(str(out))[..., ::-1]
    step = SIZE[0] + 4
    assert sheet.shape == (5 * step - 4, 4 * step - 4, 3)
    for down, path in enumerate(sample.path for sample in Dataset.open(data).samples):
        image, digest = pixels(int(Path(path).stem)), files.file_digest(data / path)
        for number in range(4):
            shown = sheet[down * step :, number * step :][: SIZE[0], : SIZE[1]]
            np.testing.assert_array_equal(shown, make_view(image, digest, views, number))
    assert not only_cache(root).shards_folder.exists()
    with pytest.raises(OptionError, match=r"ending in \.png"):
        draw_contact_sheet(Dataset.open(data), request, root, views, tmp_path / "views.jpg")
    for path in data.rglob("*.png"):
        os.truncate(path, 10)
    with pytest.raises(DataError, match="no readable image to train on"):
        draw_contact_sheet(Dataset.open(data), request, root, views, out)

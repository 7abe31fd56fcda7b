"""Images that take more memory than there is: named, left out, and tried again."""

import shutil

import cv2
import numpy as np
import pytest
from extraction_support import EXECUTORS_HERE, cached_rows, fill, forwarded, only_cache, write_images

from fastcls.data import decoder
from fastcls.data.dataset import Dataset
from fastcls.errors import DataError
from fastcls.extraction.contact_sheet import draw_contact_sheet
from fastcls.specs import BaseSpec, CutSpec, ExtractConfig, ViewSpec


@pytest.fixture
def data(tmp_path):
    """Six small images, and one of 1.5 million pixels."""
    write_images(tmp_path / "data", 6)
    cv2.imwrite(str(tmp_path / "data" / "a" / "large.png"), np.zeros((1000, 1500, 3), np.uint8))
    return tmp_path / "data"


def bounded(most, executor):
    return ExtractConfig(executor=executor, batch_size=1, shard_size=4, max_pixels=most)


@pytest.mark.parametrize("executor", EXECUTORS_HERE)
def test_extract__an_image_above_the_bound_is_named_and_tried_again(data, tmp_path, executor):
    root = tmp_path / "cache"
    done = fill(data, root, bounded(1_000_000, executor))
    assert (done.forwarded, done.failures) == (6, 1)
    (failure,) = only_cache(root).failures()
    assert failure.path == "a/large.png" and failure.digest == ""
    for words in ("1000x1500 (1,500,000) pixels", "exceed the limit of 1,000,000", "--max-pixels"):
        assert words in failure.reason
    assert fill(data, root, bounded(1_499_999, executor)).failures == 1
    done = fill(data, root, bounded(1_500_000, executor))
    assert (done.forwarded, done.reused, done.failures) == (1, 6, 0)
    assert "a/large.png" in cached_rows(root) and only_cache(root).failures() == []


def test_extract__memory_and_threads_set_the_bound(data, tmp_path, monkeypatch):
    root = tmp_path / "cache"
    monkeypatch.setattr("fastcls.extraction.extractor.cores", lambda: 4)
    monkeypatch.setattr(decoder, "available_memory", lambda: 4 * 24 * 1_499_999)
    assert fill(data, root).failures == 1
    monkeypatch.setattr(decoder, "available_memory", lambda: 4 * 24 * 1_500_000)
    assert fill(data, root, ExtractConfig(executor="inline", batch_size=1)).failures == 0
    assert len(forwarded(root)) == 7


def test_preview__shows_no_image_above_the_bound(data, tmp_path):
    shutil.rmtree(data / "b")
    (data / "b").mkdir()
    for path in (data / "a").glob("0*.png"):
        path.unlink()
    cv2.imwrite(str(data / "b" / "large.png"), np.zeros((1500, 1000, 3), np.uint8))
    asked = (Dataset.open(data), CutSpec(BaseSpec("mobilenetv2", size=(8, 8))), tmp_path, ViewSpec(2))
    with pytest.raises(DataError, match="no readable image"):
        draw_contact_sheet(*asked, tmp_path / "views.png", max_pixels=1_499_999)
    assert draw_contact_sheet(*asked, tmp_path / "views.png", max_pixels=1_500_000) == 2

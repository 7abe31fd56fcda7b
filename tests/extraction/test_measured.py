"""The quality of pixels, measured while images are decoded, and kept in the shards."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from extraction_support import (
    ENGINE,
    EXECUTORS_HERE,
    SIZE,
    by,
    check_complete,
    encoded,
    only_cache,
    pixels,
    prepare,
    requested,
    write_images,
)

from fastcls import files
from fastcls.data.dataset import Dataset
from fastcls.data.pixel_quality import COLUMNS, measure
from fastcls.data.views import row_key
from fastcls.evaluation.auditing import audit, describe
from fastcls.evaluation.features import Features
from fastcls.extraction.extractor import extract
from fastcls.specs import ViewSpec

RECIPE = "flip,brightness=1:1.5"


def fill(data, root, views=1, executor="inline", **options):
    request = requested(root) if root.exists() else prepare(root)
    config = by(executor, engine=ENGINE, batch_size=1, shard_size=4, **options)
    return extract(Dataset.open(data), request, root, config, views=ViewSpec(views, RECIPE))[1]


def forget(root):
    """Make the shards those of a version that measured nothing."""
    for path in only_cache(root).shards_folder.glob("*.h5"):
        with h5py.File(path, "a") as file:
            del file["quality"]


@pytest.mark.parametrize("executor", EXECUTORS_HERE)
def test_quality__is_of_the_images_and_not_of_their_views(tmp_path, executor):
    data, root = tmp_path / "data", tmp_path / "cache"
    write_images(data, 6)
    fill(data, root, views=3, executor=executor)
    index, views = only_cache(root).index(), ViewSpec(3, RECIPE)
    for number in range(6):
        digest = files.digest(encoded(number))
        found = index.locate([row_key(digest, views, view) for view in range(3)]).read_quality()
        np.testing.assert_array_equal(found[0], measure(pixels(number), SIZE))
        assert np.isnan(found[1:]).all()


def test_rows_of_an_earlier_version__are_used_and_their_quality_is_said_to_be_unknown(tmp_path):
    data, root = tmp_path / "data", tmp_path / "cache"
    write_images(data, 8)
    fill(data, root)
    assert "not known" not in describe(audit(only_cache(root)))
    forget(root)
    found = audit(only_cache(root))
    assert (found.unmeasured, found.to_dict()["unmeasured"]) == (8, 8)
    assert "not known of 8 images" in describe(found) and "Extract into a new cache" in describe(found)
    write_images(data, 13)
    assert fill(data, root).forwarded == 5
    assert "not known of 8 images" in describe(audit(only_cache(root)))
    check_complete(root, 13, measured=range(8, 13))
    quality = Features.of(only_cache(root)).take([0, 12]).quality
    assert quality.shape == (2, len(COLUMNS)) and np.isnan(quality[0]).all()


def test_views_added_to_rows_of_an_earlier_version__leave_them_as_they_are(tmp_path):
    data, root = tmp_path / "data", tmp_path / "cache"
    write_images(data, 4)
    fill(data, root)
    forget(root)
    assert fill(data, root, views=2).rows == 4
    assert audit(only_cache(root)).unmeasured == 4

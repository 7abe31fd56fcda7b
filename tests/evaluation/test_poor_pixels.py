"""Which images are called poor, of what was measured of a data set."""

from __future__ import annotations

import csv
from types import SimpleNamespace

import numpy as np
import pytest
from cache_support import write_cache
from click.testing import CliRunner

from fastcls.cache.corrections import Corrections
from fastcls.cache.store import Cache
from fastcls.cli.main import cli
from fastcls.data.pixel_quality import COLUMNS
from fastcls.evaluation.features import Features
from fastcls.evaluation.poor_pixels import find_poor
from fastcls.report.collection import collect
from fastcls.report.pixel_facts import distributions, poor_kinds, unmeasured
from fastcls.report.suspects import find_suspects
from fastcls.tasks import ONE_LABEL

SIZE = (224, 224)
USUAL = {"height": 300, "width": 400, "mean": 110, "deviation": 50, "darkest": 30, "brightest": 220} | {
    "detail": 30
}
# What makes an image poor among photos, by kind.
FAULTS = {
    "one_color": {"deviation": 1, "darkest": 0, "brightest": 1, "detail": 0.2},
    "dark": {"darkest": 2, "brightest": 40, "detail": 3},
    "bright": {"darkest": 230, "brightest": 255, "detail": 4},
    "blurred": {"detail": 2},
    "tiny": {"height": 20, "width": 24, "detail": 1},
    "odd_shape": {"height": 90, "width": 600},
}


def measured(count, **changed):
    """What was measured of photos that differ a little, (count, Q) float32; the first is changed."""
    random = np.random.default_rng(3)
    values = np.array([USUAL[name] for name in COLUMNS]) * random.uniform(0.8, 1.2, (count, len(COLUMNS)))
    for name, value in changed.items():
        values[0, COLUMNS.index(name)] = value
    return values.astype(np.float32)


def by_kind(quality, size=SIZE):
    return {poor.kind: poor.places.tolist() for poor in find_poor(quality, size) if len(poor.places)}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_among_photos_is_found_and_is_the_only_one(kind):
    assert by_kind(measured(100, **FAULTS[kind])) == {kind: [0]}
    assert by_kind(measured(100)) == {}


@pytest.mark.parametrize("kind", sorted(FAULTS.keys() - {"one_color"}))
def test_what_all_images_are_like_is_no_fault(kind):
    values = measured(100)
    for name, value in FAULTS[kind].items():
        values[:, COLUMNS.index(name)] *= value / USUAL[name]
    assert by_kind(values) == {}


def test_images_of_one_color_are_listed_however_many_there_are():
    values = measured(100)
    values[:60] = measured(1, **FAULTS["one_color"])
    assert by_kind(values) == {"one_color": [*range(60)]}


def test_scores__are_shares_and_the_worst_is_first():
    values = measured(100, **FAULTS["dark"])
    values[1] = measured(1, **FAULTS["dark"] | {"brightest": 5})
    (dark,) = [poor for poor in find_poor(values, SIZE) if poor.kind == "dark"]
    assert dark.places.tolist() == [0, 1]
    assert 0 < dark.scores[0] < dark.scores[1] < 1


def test_unknown_images_are_left_out_and_count_for_nothing():
    values = measured(100, **FAULTS["blurred"])
    mixed = np.full((250, len(COLUMNS)), np.nan, np.float32)
    mixed[100:200] = values
    assert by_kind(mixed) == {"blurred": [100]}
    assert by_kind(mixed[:50]) == {} == by_kind(mixed[:0])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_of_a_few_images_nothing_is_unusual(count):
    assert by_kind(measured(count, **FAULTS["dark"])) == {}


@pytest.fixture
def cache(tmp_path):
    """Of forty images the first is dark, of the last ten nothing is known."""
    rows = np.random.default_rng(0).normal(size=(40, 6))
    quality = measured(40, **FAULTS["dark"])
    quality[30:] = np.nan
    return write_cache(tmp_path, rows, [("a",), ("b",)] * 20, quality=quality, shard=7)


def test_a_poor_image_is_audited_and_dropped_like_any_other(cache, tmp_path):
    out = tmp_path / "audit"
    done = CliRunner().invoke(cli, ["audit", str(cache.folder), "--out", str(out)], catch_exceptions=False)
    assert "dark: 1 (nothing in it is bright)" in done.output
    assert "not known of 10 images" in done.output
    with (out / "issues.csv").open(newline="") as file:
        lines = [*csv.DictReader(file)]
    (dark,) = [line for line in lines if line["kind"] == "dark"]
    assert (dark["path"], dark["given"], dark["suggested"], dark["split"]) == ("0000.png", "a", "", "train")
    dark["action"] = "drop"
    with (out / "edited.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, dark)
        writer.writeheader()
        writer.writerow(dark)
    samples = Cache.find(tmp_path).listing.samples()
    kept = Corrections.read(out / "edited.csv", ONE_LABEL).apply(samples)
    assert [*kept.paths] == [*samples.paths[1:]]


def test_a_report_shows_the_poor_images_and_how_sizes_are_distributed(cache):
    features = Features.of(cache)
    images = collect(features.class_names, None, features)
    suspects = find_suspects(features, images)
    assert [(each.kind, images.paths[each.place]) for each in suspects.poor] == [("dark", "0000.png")]
    material = SimpleNamespace(features=features, suspects=suspects)
    assert poor_kinds(material) == [("dark", "Dark", "1 image: nothing in it is bright.")]
    assert unmeasured(material) == 10
    size, brightness = distributions(material)
    sides = np.sqrt(features.quality[:30, 0] * features.quality[:30, 1])
    assert (size.low, size.high) == (f"{sides.min():,.0f}", f"{sides.max():,.0f}")
    counts = np.histogram(features.quality[:30, 2], len(brightness.heights), (0, 255))[0]
    np.testing.assert_allclose(brightness.heights, counts / counts.max(), atol=1e-3)
    assert distributions(SimpleNamespace(features=features.take(range(30, 40)))) == []
    assert distributions(SimpleNamespace(features=None)) == []

"""A test applies the head to cached bottlenecks, says so, and notices where that is not the classifier."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from fastcls import files, pipeline
from fastcls.backend import import_keras
from fastcls.data.dataset import Dataset
from fastcls.evaluation.parity import IMAGES
from fastcls.extraction.extractor import extract
from fastcls.inference.classifier import Classifier
from fastcls.plans.training import plan_training
from fastcls.specs import HEADS, BaseSpec, CutSpec, ExtractConfig, FinetuneSpec, HeadSpec, TrainConfig

INLINE = ExtractConfig(engine="tensorflow", executor="inline")
ALL = "--images", "all"
WARNED = "do not give what the classifier says"


@pytest.fixture
def home(trained, tmp_path):
    """A copy of a run and its caches, beside each other as they were."""
    root = tmp_path / "home"
    shutil.copytree(trained.run, root / "run", ignore=lambda *_: ["test"])
    shutil.copytree(trained.cache.folder.parent, root / "caches")
    return root


@pytest.fixture
def forwarded(monkeypatch):
    """The images that classifiers forward."""
    paths = []

    def stream(self, images, **how):
        images = list(images)
        paths.extend(images)
        return original(self, images, **how)

    original = Classifier.stream
    monkeypatch.setattr(Classifier, "stream", stream)
    return paths


def told(folder):
    return json.loads((folder / "metrics.json").read_text())["tested_on"]


def figures(folder):
    known = json.loads((folder / "metrics.json").read_text())
    return {name: value for name, value in known.items() if name != "tested_on"}


@pytest.fixture(scope="module")
def maps(photos, base, tmp_path_factory):
    """A cache of maps, which every kind of head takes."""
    cut = CutSpec(BaseSpec(str(base)), "conv", pool="none", precision="float32")
    split = Dataset.open(photos)
    return extract(split, cut, tmp_path_factory.mktemp("maps"), INLINE)[0]


# That of texts needs another base: `test_text_head.py` has it.
HEADS_WITH_NORMS = [
    (kind, norm) for kind in HEADS if kind not in ("auto", "text") for norm in HEADS[kind].norms
]


@pytest.mark.parametrize(("kind", "norm"), HEADS_WITH_NORMS)
def test_the_head_on_the_cache_is_the_classifier_on_images(maps, photos, tmp_path, forwarded, kind, norm):
    layers = {"layers": [8, 0.2]} if "layers" in HEADS[kind].takes else {}
    head = HeadSpec(kind, bottleneck_norm=norm, **layers)
    config = TrainConfig(val=0.25) if head.is_fitted else TrainConfig(val=0.25, epochs=2)
    pipeline.train_planned(plan_training(maps, head, config, tmp_path / "run"))
    classifier = Classifier.load(tmp_path / "run")
    cached = classifier.test(photos)
    assert (cached.on.features, cached.on.cached) == ("cache (float32)", 60)
    assert len(forwarded) == IMAGES and cached.on.parity.holds
    direct = classifier.test(photos, through_model=True)
    assert (direct.on.features, direct.on.cached, direct.on.parity) == ("images", 0, None)
    for ours, theirs in zip(cached.predictions, direct.predictions, strict=True):
        assert ours.predicted == theirs.predicted
        assert ours.confidence == pytest.approx(theirs.confidence, abs=1e-5)


def test_run__tests_on_the_cache_that_it_has_filled(trained):
    known = told(trained.run / "test" / "photos")
    assert (known["features"], known["cached"], known["images"]) == ("cache (float32)", 12, 12)
    parity = known["parity"]
    assert (parity["images"], parity["agreeing"], parity["overturned"]) == (12, 12, 0)
    assert parity["largest_difference"] < 1e-5


@pytest.mark.parametrize("moved", ["neither", "both", "cache", "gone"])
def test_the_cache_is_found_where_it_was_beside_the_run_or_where_it_is_said_to_be(
    fastcls, home, photos, tmp_path, forwarded, moved
):
    run, caches = home / "run", home / "caches"
    record = files.read_checked_json(run / "run.json")
    record["cache_folders"][1] = str(home / record["cache_folders"][0].removeprefix("../"))
    if moved == "neither":  # the absolute place alone
        record["cache_folders"][0] = "elsewhere"
    files.write_checked_json(run / "run.json", record)
    if moved == "both":
        home = home.rename(tmp_path / "other")
        run, caches = home / "run", home / "caches"
    if moved == "cache":
        caches = caches.rename(tmp_path / "moved")
    if moved == "gone":
        shutil.rmtree(caches)
    result = fastcls("test", run, photos, *ALL)
    assert result.code == 0, result.err
    is_found = moved in ("neither", "both")
    assert len(forwarded) == (IMAGES if is_found else 60)
    assert told(run / "test" / "photos")["features"] == ("cache (float32)" if is_found else "images")
    assert ("All from the cache (float32). Checked on 32 images" in result.out) is is_found
    if moved == "cache":
        for place in (caches, *caches.iterdir()):
            forwarded.clear()
            result = fastcls("test", run, photos, "--cache", place, *ALL)
            assert result.code == 0 and len(forwarded) == IMAGES, result.err


def test_a_cache_of_something_else_is_refused(fastcls, trained, home, maps, photos, tmp_path):
    for place in (maps.folder, tmp_path):
        result = fastcls("test", home / "run", photos, "--cache", place)
        assert result.code == 1 and f"{place} does not hold the cache" in result.err
        assert result.err.count("\n") == 1
    lone = shutil.copy(trained.run / "classifier.keras", tmp_path / "lone.keras")
    result = fastcls("test", lone, photos, "--cache", home / "caches")
    assert result.code == 1 and "only of use for a run" in result.err
    result = fastcls("test", home / "run", photos, "--cache", home / "caches", "--through-model")
    assert result.code == 2 and "--cache has no effect with --through-model" in result.err


def test_classifiers_without_a_head_on_a_cache_forward_all(
    fastcls, trained, home, photos, tmp_path, forwarded
):
    lone = shutil.copy(trained.run / "classifier.keras", tmp_path / "lone.keras")
    config = TrainConfig(epochs=1, val=0.2)
    from fastcls.plans.finetuning import plan_finetuning

    plan = plan_finetuning(Dataset.open(photos), home / "run", FinetuneSpec(), config, tmp_path / "tuned")
    pipeline.finetune_planned(plan)
    for place in (lone, tmp_path / "tuned"):
        forwarded.clear()
        assert fastcls("test", place, photos, "--out", tmp_path / place.stem / "test").code == 0
        assert len(forwarded) == 60 and told(tmp_path / place.stem / "test")["features"] == "images"


def test_images_that_the_cache_lacks_are_forwarded(fastcls, home, photos, tmp_path, forwarded):
    data = shutil.copytree(photos, tmp_path / "data")
    for path in sorted(data.rglob("*1.png")):  # 6 other files with the same pixels
        path.write_bytes(path.read_bytes() + b" ")
    (data / "red" / "0.png").write_bytes(b"no image")
    result = fastcls("test", home / "run", data, *ALL)
    assert result.code == 0, result.err
    known = told(home / "run" / "test" / "data")
    assert (known["features"], known["cached"], known["unreadable"]) == ("cache (float32)", 53, 1)
    assert "53 of them from the cache (float32), the others were forwarded" in result.out
    assert f"Unreadable: '{data / 'red' / '0.png'}'" in result.err
    assert len(forwarded) == IMAGES + 7
    assert fastcls("test", home / "run", data, "--through-model", *ALL).code == 0
    assert figures(home / "run" / "test" / "data") == figures(home / "run" / "test" / "data-2")


@pytest.mark.parametrize("name", ["*/shards/*.h5", "*/manifest.json", "../run/head.keras"])
def test_a_damaged_cache_or_head_changes_no_figure(fastcls, home, photos, name):
    assert fastcls("test", home / "run", photos, "--through-model").code == 0
    for path in (home / "caches").glob(name):
        whole = path.read_bytes()
        middle = len(whole) // 2
        path.write_bytes(whole[:middle] + bytes(byte ^ 255 for byte in whole[middle:]))
    result = fastcls("test", home / "run", photos)
    assert result.code == 0 and "Traceback" not in result.err
    assert [path.name for path in (home / "run" / "test").iterdir()] == ["photos"]  # the same result


def test_through_model__does_not_stop_at_a_result_from_the_cache(fastcls, home, photos, forwarded):
    run = home / "run"
    assert f"In {run / 'test' / 'photos'}: " in fastcls("test", run, photos, *ALL).out
    for _ in range(2):
        forwarded.clear()
        result = fastcls("test", run, photos, "--through-model", *ALL)
        assert f"In {run / 'test' / 'photos-2'}: " in result.out and len(forwarded) == 60
    assert [told(run / "test" / name)["features"] for name in ("photos", "photos-2")] == [
        "cache (float32)",
        "images",
    ]
    assert f"In {run / 'test' / 'photos'}: " in fastcls("test", run, photos, *ALL).out
    refused = fastcls("test", run, photos, "--through-model", "--out", run / "test" / "photos", *ALL)
    assert refused.code == 1 and "was not made with --through-model" in refused.err
    assert fastcls("test", run, photos, "--out", run / "test" / "photos-2", *ALL).code == 0


def _swap_classes(model):
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([kernel[:, [1, 0, 2]], bias[[1, 0, 2]]])


def _change_trunk(model):
    layer = model.get_layer("conv")
    kernel, bias = layer.get_weights()
    random = np.random.default_rng(0)
    layer.set_weights([random.permutation(kernel.ravel()).reshape(kernel.shape), bias])


def _change_normalization(model):
    layer = next(layer for layer in model.layers if hasattr(layer, "offset"))
    layer.offset, layer.scale = 0.0, 1 / 255


def _change_head(model):
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([-kernel, -bias])


FAULTS = {
    "classifier.keras": [_swap_classes, _change_trunk, _change_normalization],
    "head.keras": [_swap_classes, _change_head],
}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(("name", "fault"), [(name, fault) for name in FAULTS for fault in FAULTS[name]])
def test_a_fault_in_a_part_is_noticed(fastcls, home, photos, caplog, name, fault, precision):
    run = home / "run"
    spoil(run, name, fault)
    manifest = next((home / "caches").glob("*/manifest.json"))
    known = {**files.read_checked_json(manifest), "precision": precision}  # with the bounds of that
    files.write_checked_json(manifest, known)
    result = fastcls("test", run, photos)
    assert result.code == 0 and WARNED in caplog.text, result.err
    known = told(run / "test" / "photos")
    assert (known["features"], known["cached"]) == ("images", 0)
    assert known["parity"]["mean_difference"] > known["parity"]["allowed_difference"]
    assert "from the cache" not in result.out
    assert fastcls("test", run, photos, "--through-model").code == 0  # the same figures: kept
    assert [path.name for path in (run / "test").iterdir()] == ["photos"]


def spoil(run, name, fault):
    """Change a model of a run, whose record knows of it."""
    if name == "classifier.keras":
        classifier = Classifier.load(run)
        fault(classifier.model)
        replace(classifier).save(run / name)
    else:
        model = import_keras().saving.load_model(run / name)
        fault(model)
        model.save(run / name)
    record = files.read_checked_json(run / "run.json")
    record["files"][name] = files.file_digest(run / name)
    files.write_checked_json(run / "run.json", record)

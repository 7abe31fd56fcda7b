"""Tails of transformers, and transformers as a whole, trained as a user types it."""

import json
import re

import numpy as np
import pytest

from fastcls.backend import import_keras


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """A tiny DINOv2 in a folder, as a base."""
    import_keras()
    hub = pytest.importorskip("keras_hub").models
    backbone = hub.DINOV2Backbone(
        **{"patch_size": 7, "num_layers": 2, "num_heads": 2, "hidden_dim": 16, "intermediate_dim": 24},
        **{"image_shape": (14, 14, 3), "position_embedding_shape": (14, 14, 3)},
    )
    random = np.random.default_rng(0)
    for weight in backbone.weights:
        weight.assign(random.normal(0, 0.3, weight.shape))
    folder = tmp_path_factory.mktemp("presets") / "dinov2"
    backbone.save_to_preset(str(folder))
    return ["--base", f"keras_hub:{folder}", "--normalize", "torch"]


KEPT = "Not trained: positions, class tokens and the like, which are constants in embeddings"


def test_tail__of_tokens_is_trained_on_views_in_half_precision(fastcls, preset, photos, tmp_path):
    caches, run = tmp_path / "caches", tmp_path / "run"
    layers = fastcls("layers", *preset[1:])
    assert re.search(r"^block_0 +5x16 ", layers.out, re.MULTILINE)
    cuts = ["--cut", "block_0", "--cut", "block_1", "--dtype", "float16", "--views", 2, "--augment", "flip"]
    result = fastcls("extract", photos, *preset, *cuts, "--cache", caches, "--executor", "inline")
    assert result.code == 0 and result.out.count("5x16 float16") == 2, result.err
    (cache,) = caches.glob("*block_0*")
    options = ["--head", "tail", "--val", "0.2", "--epochs", 1, "--out", run]
    trained = fastcls("train-head", cache, *options)
    assert trained.code == 0 and KEPT not in trained.out, trained.err
    assert json.loads((run / "run.json").read_text())["asked"]["head"]["kind"] == "tail"
    tested = fastcls("test", run, photos)
    assert tested.code == 0 and "accuracy" in tested.out


def test_finetune__of_a_transformer_says_what_stays(fastcls, preset, photos, tmp_path):
    options = [*preset, "--val", "0.2", "--epochs", 1, "--augment", "none", "--out", tmp_path / "run"]
    planned = fastcls("finetune", photos, *options, "--dry-run")
    assert planned.code == 0 and KEPT in planned.out.splitlines(), planned.err
    result = fastcls("finetune", photos, *options)
    assert result.code == 0 and KEPT in result.out.splitlines(), result.err

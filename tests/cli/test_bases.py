import re
import sys

import pytest

from fastcls.backend import import_keras
from fastcls.bases.families import FAMILIES
from fastcls.bases.loader import load_base
from fastcls.bases.registry import ARCHITECTURES
from fastcls.cutter import cut_points
from fastcls.specs import BaseSpec


def test_bases__lists_every_one_with_its_figures(fastcls):
    result = fastcls("bases")
    lines = result.out.splitlines()
    assert result.code == 0 and lines.index("") == len(ARCHITECTURES) + 1
    (resnet,) = (line.split() for line in lines if line.startswith("resnet50 "))
    assert resnet[1:] == ["224x224", "23,587,712", "avg_pool", "2048", "caffe", "imagenet", "MIT"]
    (resnet,) = (line.split() for line in lines if line.startswith("resnet18 "))
    assert resnet[5:] == ["torch", "torchvision", "resnet18", "BSD-3-Clause"]


def test_bases__lists_the_families_of_keras_hub_without_it(fastcls, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    out = fastcls("bases").out
    table = out[out.index("\n\n") + 2 :].splitlines()
    assert len(table) == len(FAMILIES) + 1
    (dinov2,) = (line for line in table if "keras_hub:dinov2_small " in line)
    assert re.split(r"  +", dinov2.strip()) == [
        *("DINOv2", "keras_hub:dinov2_small", "224x224", "384", "cls+mean, --last 4", "Apache-2.0")
    ]
    (dinov3,) = (line for line in table if line.startswith("DINOv3 "))
    assert dinov3.endswith("DINOv3 License, to be accepted first")


def test_families__are_presets_of_keras_hub():
    presets = pytest.importorskip("keras_hub").models.Backbone.presets
    for family in FAMILIES:
        assert str(family.side) in family.preset or family.name.startswith(("CLIP", "DINO"))
        assert family.preset in presets


def test_layers__of_an_application_needs_no_weights(fastcls, monkeypatch):
    import_keras()  # as the commands do: imported by itself, TensorFlow prints notices from then on
    from keras.src.utils import file_utils

    monkeypatch.setattr(file_utils, "get_file", lambda *_, **__: pytest.fail("a download"))
    result = fastcls("layers", "mobilenet", "--size", 96)
    rows = [line.split() for line in result.out.splitlines()[1:-1]]
    points = cut_points(load_base(BaseSpec("mobilenet", weights="random", size=(96, 96))).model)
    assert result.code == 0
    assert [row[0] for row in rows] == [point.layer for point in points]
    assert rows[0][:3] == ["conv1", "48x48x32", "294,912"]
    assert rows[-1][:4] == ["global_average_pooling2d", "1024", "4,096", "3,228,864"]
    assert rows[-1][-2:] == ["100.0%", "*"]
    assert sum(row[-1] == "*" for row in rows) == 1


def test_layers__of_a_file(fastcls, base):
    result = fastcls("layers", base)
    rows = [line.split() for line in result.out.splitlines()[1:-1]]
    assert result.code == 0
    assert [row[0].split("_")[0] for row in rows] == ["rescaling", "conv", "pooled", "dense"]
    assert [row[0] for row in rows if row[-1] == "*"] == ["pooled"]
    # multiply-adds: 7 * 7 * 27 * 8 in the convolution, 80 in the dense layer
    assert rows[1][1:] == ["7x7x8", "1,568", "224", "0.0", "M", f"{10584 / 10664:.1%}"]


def test_layers__offers_tokens_but_no_volume(fastcls, tmp_path):
    keras = import_keras()
    image = keras.Input((16, 16, 3))
    x = keras.layers.Rescaling(1 / 255, name="scaled")(image)
    x = keras.layers.Conv2D(8, 4, strides=4, name="patches")(x)
    x = keras.layers.Conv1D(6, 1, name="tokens")(keras.layers.Reshape((16, 8), name="reshape")(x))
    keras.Model(image, keras.layers.Reshape((2, 8, 3, 2), name="end")(x)).save(tmp_path / "m.keras")
    lines = fastcls("layers", tmp_path / "m.keras").out.splitlines()
    assert [line.split()[0] for line in lines[1:-2]] == ["scaled", "patches", "reshape", "tokens"]
    assert lines[-1] == "Its output, 2x8x3x2, is not a vector, tokens or a map: cut it earlier, with --cut"


def test_layers__counts_resnet50(fastcls):
    """3.86 G multiply-adds at 224x224, of them 732.2 M in the last stage: 295.5 + 2 * 218.4."""
    lines = fastcls("layers", "resnet50").out.splitlines()
    (middle,) = (line.split() for line in lines if line.startswith("conv4_block6_out "))
    assert middle[1:] == ["14x14x1024", "802,816", "8,589,184", "3,123.8", "M", "81.0%"]
    assert lines[-1] == (
        "resnet50 at 224x224, normalize caffe: 23,587,712 parameters, 3.86 G multiply-adds (7.71 GFLOPs)"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["mobilnet"], 1, "The closest names are mobilenet, mobilenetv2"),
        (["missing.keras"], 1, "is not a Keras model file"),
        (["mobilenet", "--size", "8"], 1, "cannot be built for 8x8 pixels"),
        (["mobilenet", "--size", "big"], 2, "'big' is not a size"),
        (["mobilenet", "--size", "9" * 5000], 2, "HEIGHTxWIDTH, at most 8,192"),
        ([], 2, "Missing argument 'BASE'"),
    ],
)
def test_layers__explains_what_is_wrong(arguments, code, message, fastcls):
    result = fastcls("layers", *arguments)
    assert result.code == code and message in result.err

"""`fastcls compare DATA --base a,b`: which base tells the classes apart, and what it costs."""

import csv
import json

import pytest

from fastcls import compare_bases
from fastcls.backend import import_keras
from fastcls.comparison import bases as comparing
from fastcls.errors import DataError, WorkerError
from fastcls.specs import BaseSpec, CutSpec, ExtractConfig

# No conversion, no processes: as little as is needed.
PLAIN = ("--engine", "tensorflow", "--precision", "float32", "--executor", "inline")
CONFIG = ExtractConfig(engine="tensorflow", executor="inline")


@pytest.fixture(scope="module")
def blind(tmp_path_factory):
    """A base that sees the brightness of images and not their color, at ten times the cost."""
    keras = import_keras()
    image = keras.Input((16, 16, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(image)
    gray = keras.layers.Conv2D(1, 1, name="gray")
    x = keras.layers.Conv2D(64, 3, activation="relu")(gray(x))
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D(name="pooled")(x))
    gray.set_weights([gray.get_weights()[0] * 0 + 1 / 3, gray.get_weights()[1]])
    path = tmp_path_factory.mktemp("blind") / "blind.keras"
    model.save(path)
    return path


@pytest.fixture(scope="module")
def compared(photos, base, blind, tmp_path_factory):
    """The comparison of both, by the library."""
    folder = tmp_path_factory.mktemp("compared")
    cuts = [CutSpec(BaseSpec(path), precision="float32") for path in (blind, base)]
    result = compare_bases(photos, cuts, folder / "caches", CONFIG, folder=folder / "out")
    return result, folder


def test_compare_bases__ranks_the_base_that_sees_the_classes_first(compared):
    result, folder = compared
    best, last = result.candidates
    assert (best.name, last.name) == ("tiny", "blind") and result.images == 60
    assert best.chief.estimate.value > 0.9 > 0.6 > last.chief.estimate.value
    assert best.chief.behind.value == 0 and last.chief.behind.high < 0
    assert best.is_efficient and not last.is_efficient
    # 7 x 7 x 27 x 8 in the convolution; 8 numbers of 4 bytes.
    assert (best.cost.multiply_adds, best.cost.parameters, best.bytes_per_image) == (10584, 224, 32)
    assert best.rate.is_of_now and best.rate.images_per_second > 0
    assert "tiny is better than every other, beyond what chance explains" in result.table()
    told = json.loads((folder / "out" / "comparison.json").read_text())
    assert told == json.loads(json.dumps(result.to_dict())) and told["failed"] == {}
    rows = list(csv.DictReader((folder / "out" / "comparison.csv").open()))
    assert [row["name"] for row in rows] == ["tiny", "blind"]
    assert float(rows[1]["accuracy_to_best_high"]) == last.chief.behind.high
    assert list(result.to_frame()["rank"]) == [1, 2]
    assert {path.name for path in (folder / "out").iterdir()} == {
        f"comparison.{e}" for e in ("csv", "json", "png")
    }


def test_compare__goes_on_from_what_is_extracted(compared, fastcls, photos, base, blind, tmp_path):
    result, folder = compared
    asked = ("compare", photos, "--base", f"{blind},{base}", *PLAIN, "--cache", folder / "caches")
    planned = fastcls(*asked, "--dry-run", "--out", tmp_path / "out")
    assert planned.code == 0 and planned.out.count("0 images to forward") == 2
    assert planned.out.endswith("Nothing was written\n") and not (tmp_path / "out").exists()
    again = fastcls(*asked, "--out", tmp_path / "out")
    assert again.code == 0 and again.err == "" and again.out.count(": all 60 images from the cache: ") == 2
    table = result.table().splitlines()[1]
    assert table.split()[:5] == again.out[again.out.index(" 1 tiny") :].split()[:5]
    assert f"In {tmp_path / 'out'}: comparison.csv, comparison.json, comparison.png" in again.out
    following = again.out.partition("Next: fastcls ")[2].replace("runs/NAME", str(tmp_path / "run")).split()
    assert following[:2] == ["train-head", str(result.candidates[0].cache)]
    trained = fastcls(*following)
    assert trained.code == 0, trained.err
    taken = fastcls(*asked, "--out", tmp_path / "out")
    assert taken.code == 1 and "already exists" in taken.err


def test_compare__cuts_of_a_base_share_a_forward_pass_and_are_told_apart(fastcls, photos, base, tmp_path):
    cuts = ("--cut", "conv", "--cut", "default", "--cache", tmp_path)
    result = fastcls("compare", photos, "--base", base, *PLAIN, *cuts)
    assert result.code == 0, result.err
    # Maps are averaged: both have the same features.
    assert " 1 tiny conv " in result.out and " 1 tiny pooled " in result.out
    assert "tiny conv, tiny pooled tie: the accuracy is the same" in result.out


def test_compare__what_cannot_be_used_is_refused_before_anything_is_extracted(
    fastcls, photos, base, tmp_path
):
    caches = ("--cache", tmp_path / "caches", *PLAIN)
    refused = {
        f"{base},resnet5": "resnet50",
        f"{base},mobilenetv2={tmp_path / 'gone.h5'}": "gone.h5",
        f"{base},{base}": "is given twice",
        f"{base},": "--base takes BASE, BASE=WEIGHTS or BASE@NORMALIZATION",
    }
    for given, told in refused.items():
        result = fastcls("compare", photos, "--base", given, *caches)
        assert result.code == 1 and told in result.err and result.out == "", given
    result = fastcls("compare", photos, "--base", base, "--cut", "nowhere", *caches)
    assert result.code == 1 and "has no layer 'nowhere'" in result.err
    result = fastcls("compare", photos, "--base", base, "--group", "patient", *caches)
    assert result.code == 1 and "--group patient is found in no path" in result.err
    result = fastcls("compare", photos, "--base", "lenet5,squeezenet1_1", "--weights", "a.h5", *caches)
    assert result.code == 1 and "cannot be those of lenet5 and of squeezenet1_1" in result.err
    assert not (tmp_path / "caches").exists()
    for arguments in (("compare", photos), ("compare", photos, photos, "--base", base)):
        assert fastcls(*arguments).code == 2


def test_compare_bases__what_fails_later_is_named_and_the_others_are_ranked(
    compared, fastcls, photos, base, blind, monkeypatch, caplog
):
    _, folder = compared
    extract = comparing.extract_planned

    def fail(plan, **options):
        if plan.cuts[0].outline.base == str(blind):
            raise WorkerError("Workers keep crashing")
        return extract(plan, **options)

    monkeypatch.setattr(comparing, "extract_planned", fail)
    asked = ("compare", photos, *PLAIN, "--cache", folder / "caches", "--base")
    result = fastcls(*asked, f"{blind},{base}")
    assert result.code == 0 and "blind is left out: Workers keep crashing" in caplog.text
    assert " 1 tiny " in result.out and "left out: blind (Workers keep crashing)" in result.out
    result = fastcls(*asked, blind)
    assert result.code == 1 and "Error: Workers keep crashing" in result.err


def test_compare__a_base_that_memory_does_not_hold_is_refused(fastcls, photos, base, tmp_path, monkeypatch):
    monkeypatch.setattr(comparing, "available_memory", lambda: 1 << 28)
    result = fastcls("compare", photos, "--base", base, *PLAIN, "--cache", tmp_path / "caches")
    assert result.code == 1 and "of memory, and 256.0 MiB are free" in result.err
    assert not (tmp_path / "caches").exists()


def test_compare_bases__one_class_that_is_not_for_testing_is_refused(tmp_path, base):
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "b.png").write_bytes(b"")
    (tmp_path / "data.csv").write_text("path,label,split\na.png,a,train\nb.png,b,test\n")
    with pytest.raises(DataError, match="1 image of 1 class that are not for testing"):
        compare_bases(tmp_path / "data.csv", [base], tmp_path / "caches")


def test_compare_bases__several_labels_are_ranked_by_mean_auroc(photos, base, compared, tmp_path):
    rows = ["path,label,split"]
    for channel, color in enumerate(("blue", "green", "red")):
        for number in range(20):
            extra = "|red" if number % 2 and channel < 2 else ""
            split = "test" if number % 5 == 0 else "train"
            rows.append(f"{photos / color / str(number)}.png,{color}{extra},{split}")
    (tmp_path / "data.csv").write_text("\n".join(rows))
    from fastcls import Dataset

    data = Dataset.open(tmp_path / "data.csv", label_separator="|")
    cut = CutSpec(BaseSpec(base), precision="float32")
    result = compare_bases(data, [cut], compared[1] / "caches", CONFIG)
    (own,) = result.candidates
    assert [*own.measured] == [*own.test] == ["mean_auroc", "mean_average_precision", "exact_match"]
    assert result.images == 48 and result.test_images == 12
    assert "mean AUROC" in result.table() and "test: 12 test images" in result.table()

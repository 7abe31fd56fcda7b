"""Full fine-tuning as a user types it."""

import json
import re

import cv2
import pytest
from requests_support import require_each_fact_once


def test_finetune__goes_on_from_a_run_and_its_classifier_is_tested(fastcls, trained, photos, tmp_path):
    out = tmp_path / "runs" / "more"
    options = ["--val", "0.2", "--epochs", "2", "--train", "from conv", "--augment", "flip"]
    result = fastcls("finetune", photos, "--from", trained.run, "--out", out, *options)
    assert result.code == 0 and result.err == ""
    assert "trained on 48 images, validated on 12; 2 epochs" in result.out
    names = {path.name for path in out.iterdir()}
    written = {"classifier.keras", "run.json", "images.csv", "history.csv", "curves.png", "tensorboard"}
    assert names == written
    record = json.loads((out / "run.json").read_text())
    assert record["asked"]["finetuning"]["train"] == "from conv"
    require_each_fact_once(record)
    tested = fastcls("test", out, photos)
    assert tested.code == 0 and "accuracy" in tested.out


def test_finetune__from_scratch_behind_a_strided_convolution(fastcls, photos, tmp_path):
    options = ["--base", "lenet5", "--weights", "random", "--downscale", "2", "--val", "0.2", "--epochs", "1"]
    result = fastcls("finetune", photos, *options, "--out", tmp_path / "run")
    assert result.code == 0, result.err
    image = photos / "green" / "3.png"
    assert fastcls("predict", tmp_path / "run", image).out.startswith(f"{image}: ")


def test_finetune__dry_run_shows_what_is_trained_and_writes_nothing(fastcls, trained, photos, tmp_path):
    options = ["--from", trained.run, "--train", "none", "--val", "0.2", "--dry-run"]
    result = fastcls("finetune", photos, "--out", tmp_path / "run", *options)
    assert result.code == 0
    assert "Trainable params: 27 " in result.out and "48 for training, 12 for validation" in result.out
    assert list(tmp_path.iterdir()) == []


def test_finetune__a_kept_checkpoint_is_a_classifier(fastcls, photos, tmp_path):
    options = [
        "--base",
        "lenet5",
        "--weights",
        "random",
        "--val",
        "0.2",
        "--epochs",
        "2",
        "--augment",
        "none",
    ]
    result = fastcls("finetune", photos, *options, "--checkpoint-every", 1, "--out", tmp_path / "run")
    assert result.code == 0, result.err
    kept, image = tmp_path / "run" / "checkpoints" / "epoch-0002.keras", photos / "green" / "3.png"
    assert fastcls("predict", kept, image).out.startswith(f"{image}: ")
    further = [
        "--config",
        tmp_path / "run",
        "--from",
        kept,
        "--checkpoint-every",
        0,
        "--out",
        tmp_path / "two",
    ]
    assert fastcls("finetune", photos, *further, "--epochs", 1).code == 0
    losses = [(tmp_path / run / "history.csv").read_text().splitlines()[-1] for run in ("run", "two")]
    assert float(losses[1].split(",")[1]) < 1.05 * float(losses[0].split(",")[1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "Give either --base, or --from"),
        (["--base", "lenet5", "--from", "run"], "Give either --base, or --from"),
        (["--from", "nowhere"], "There is no classifier at nowhere"),
        (["--base", "lenet5", "--weights", "random", "--train", "some"], "Unknown layers to train: 'some'"),
        (["--base", "lenet5", "--weights", "random", "--train", "from top"], "no layer 'top'"),
        (["--base", "lenet5", "--weights", "random", "--train", "99"], "layers with weights"),
        (["--base", "lenet5", "--weights", "random", "--augment", "spin"], "Unknown operation 'spin'"),
        (["--base", "lenet5", "--weights", "random", "--head", "knn"], "is trained on a cache"),
        (["--from", "run", "--layers", "8"], "--layers has no effect with --from"),
        (["--base", "lenet5", "--weights", "random", "--learning-rate", "0"], "must be positive"),
        (
            ["--base", "lenet5", "--weights", "random", "--sparsity", "1"],
            "sparsity must be above 0 and below 1",
        ),
        (
            ["--base", "lenet5", "--weights", "random", "--sparsity", "0.5", "--train", "none"],
            "--sparsity has no effect with --train none",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_finetune__refuses_what_makes_no_sense(fastcls, photos, tmp_path, options, words):
    result = fastcls("finetune", photos, "--out", tmp_path / "run", "--val", "0.2", *options)
    assert result.code in (1, 2) and words in result.err and "Traceback" not in result.err
    assert list(tmp_path.iterdir()) == []


def test_finetune__the_plan_of_a_large_base_says_how_many_layers_are_trained(fastcls, photos, tmp_path):
    base = ("--base", "mobilenetv2", "--weights", "random", "--size", 32, "--train", 10, "--val", "0.2")
    planned = fastcls("finetune", photos, *base, "--out", tmp_path / "run", "--dry-run")
    assert planned.code == 0 and planned.err == "" and planned.out.count("\n") < 10
    model, trained = planned.out.splitlines()[:2]
    assert model == "Model: 156 layers, 2,261,827 parameters"
    assert trained.startswith("Trained: ") and " to head_probabilities, " in trained


@pytest.mark.parametrize("kind", ["knn", "prototype"])
def test_finetune__refuses_a_head_that_has_nothing_to_train(fastcls, trained, photos, tmp_path, kind):
    run, out = tmp_path / "run", tmp_path / "out"
    assert fastcls("train-head", trained.cache.folder, "--head", kind, "--out", run).code == 0
    for dry in (["--dry-run"], []):
        result = fastcls("finetune", photos, "--from", run, "--out", out, "--val", "0.2", *dry)
        assert result.code == 1 and f"A head of kind {kind} cannot be trained further" in result.err
    assert list(tmp_path.iterdir()) == [run]


def test_run__a_tail_needs_a_cut(fastcls, photos, tmp_path):
    options = ["--base", "lenet5", "--weights", "random", "--head", "tail", "--cache", tmp_path / "caches"]
    result = fastcls("run", photos, *options, "--out", tmp_path / "run")
    assert result.code == 1 and "none follow the default one" in result.err
    assert list(tmp_path.iterdir()) == []


def test_finetune__warns_of_validation_images_that_an_earlier_training_has_seen(
    fastcls, trained, photos, tmp_path, caplog
):
    """Also where it was not the one that it goes on from; the dry run says it too, and each says it once."""
    other, between, out = tmp_path / "other", tmp_path / "between", tmp_path / "run"
    for name in ("red", "blue", "green"):
        (other / name).mkdir(parents=True)
        for photo in sorted((photos / name).iterdir())[:6]:
            image = cv2.imread(str(photo))
            cv2.imwrite(str(other / name / photo.name), image[::-1])
    command = ("finetune", "--val", 0.25, "--epochs", 1)
    made = fastcls(*command, other, "--from", trained.run, "--out", between)
    assert made.code == 0 and "had a part" not in caplog.text, made.err
    for more in (["--dry-run"], []):
        caplog.clear()
        result = fastcls(*command, photos, "--from", between, "--out", out, *more)
        assert result.code == 0, result.err
        told = re.findall(r"(\d+) of the 15 images for validation had a part", caplog.text)
        assert len(told) == 1 and int(told[0]) > 0


def test_finetune__prunes_and_says_how_far(fastcls, photos, tmp_path):
    out, options = (
        tmp_path / "run",
        ["--base", "lenet5", "--weights", "random", "--val", "0.2", "--epochs", 2],
    )
    command = ("finetune", photos, *options, "--sparsity", 0.8, "--out", out)
    planned = fastcls(*command, "--dry-run")
    assert re.search(r"Pruning: \d+ kernels with [\d,]+ weights, to 0.8 zeros in the first half", planned.out)
    result = fastcls(*command)
    assert result.code == 0, result.err
    record = json.loads((out / "run.json").read_text())
    for name, counts in record["pruned"].items():
        assert counts["zeros"] == round(0.8 * counts["weights"])
        assert re.search(rf"^{name} +{counts['weights']:,} +80\.\d%$", result.out, re.MULTILINE)
    assert re.search(r"^all +[\d,]+ +80\.0%$", result.out, re.MULTILINE)
    assert record["asked"]["finetuning"]["sparsity"] == 0.8
    header, *rows = (out / "history.csv").read_text().splitlines()
    assert float(rows[-1].split(",")[header.split(",").index("sparsity")]) == pytest.approx(0.8, abs=1e-3)
    again = fastcls(*command)
    assert again.code == 0 and re.search(r"^all +[\d,]+ +80\.0%$", again.out, re.MULTILINE)

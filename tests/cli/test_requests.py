"""Requests that are saved, loaded, looked at, interrupted and gone on from, as a user types them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import pytest
from requests_support import parse, require_each_fact_once, save

from fastcls import files, unfinished
from fastcls.cli.main import cli
from fastcls.errors import OptionError
from fastcls.pipeline import load_head
from fastcls.training.loop.checkpoints import Checkpoints

# Together they use every option of the commands.
REQUESTS = {
    "train-head": [
        "cache --out run",
        "cache --out run --optimizer sgd --momentum 0.9 --clip-norm 1 --layers 8,0.25 --epochs 7 --seed 3 "
        "--learning-rate 0.0301 --schedule step --rate-factor 0.5 --rate-interval 3 --warmup 2 --l2 1e-05 "
        "--label-smoothing 0.1 --class-weight balanced --patience 4 --batch-size 16 --val 0.25 "
        "--allow-partial --allow-stale --checkpoint-every 2 --checkpoint-keep 3 --checkpoint-best-only "
        "--min-accuracy 0.5 --log-steps 10 --confusion-every 5 --name data",
        "cache --out run --optimizer AdamW --weight-decay 0.01 --schedule plateau --rate-patience 3 "
        "--rate-minimum 1e-6 --from other",
        "cache --out run --no-refit",
        "cache --out run --head text --prompts prompts.txt",
        "cache --out run --head head.py:head --val 0 --checkpoint-every 0",
        "cache --out run --head logreg",
        "cache --out run --head tail --train-batch-norm --views 2 --loss binary_crossentropy --threshold 0.4 "
        "--sampling balanced --class-weight log --class-weight-multiplier 2",
        "cache --out run --corrections issues.csv",
        "cache --out run --head logreg --bottleneck-norm l2 --folds 5 --repeats 3 --group patient[0-9]+",
    ],
    "finetune": [
        "photos --out run --base resnet18",
        "photos --out run --base resnet18 --weights w.h5 --size 64 --train 3 --augment flip,rotate=5 "
        "--downscale 2 --mixed-precision mixed_bfloat16 --train-batch-norm --layers 8 --optimizer sgd "
        "--learning-rate 0.01 --epochs 3 --batch-size 4 --val 0.2 --normalize tf --include-top "
        "--label-separator | --image-root images --full-decode --max-pixels 5000000",
        "photos --out run --from other --train all --augment none --image-key photo --label-key kind "
        "--sparsity 0.5 --resize crop",
        "a.csv --out run --base resnet18 --path-column 1 --label-column kind --split-column part "
        "--path-suffix .png --delimiter tab --folders-are-classes --conflicts drop",
    ],
    "run": [
        "photos --out run --base resnet18 --image-key photo --label-key kind",
        "a.csv --out run --base resnet18 --path-column 1 --label-column kind --split-column part "
        "--path-suffix .png --delimiter tab --folders-are-classes --conflicts drop",
        "photos --out run --base resnet18 --weights w.h5 --size 64x96 --normalize 0.5,0.5 --include-top "
        "--cut layer --pool max --dtype float16 --precision float32 --cache c --engine tensorflow "
        "--executor processes --workers 2 --batch-size 4 --shard-size 64 --max-failures 3 --compress "
        "--label-separator | --image-root images --views 3 --augment flip --view-seed 2 --val 0.3 --test 0.1 "
        "--train-batch-size 8 --epochs 3 --seed 5 --name data --full-decode --max-pixels 5000000",
        "photos --out run --base resnet18 --quality best --epochs 3 --dtype float32 --no-report",
        "photos --out run --base keras_hub:dinov2_small --last 4 --pool cls+mean --resize crop",
        "photos --out run --base keras_hub:siglip_base_patch16_224 --prompts {}",
        "photos --out run --base resnet18 --executor ray --address head:6379 --workers 64",
    ],
}
CASES = [(name, line) for name, lines in REQUESTS.items() for line in lines]


@pytest.mark.parametrize(("name", "line"), CASES)
def test_config__a_saved_request_is_the_request(tmp_path, name, line):
    typed = parse(name, line.split())
    path = save(tmp_path, name, typed)
    assert parse(name, [line.split()[0], "--out", "elsewhere", "--config", str(path)]) == {
        **typed,
        "out": "elsewhere",
    }


@pytest.mark.parametrize("name", REQUESTS)
def test_config__the_cases_use_every_option(name):
    used = {part for line in REQUESTS[name] for part in line.split() if part.startswith("--")}
    known = {
        parameter.opts[0] for parameter in cli.commands[name].params if isinstance(parameter, click.Option)
    }
    shared = {part for line in REQUESTS["train-head"] for part in line.split() if part.startswith("--")}
    assert known - used - shared == {"--config", "--dry-run", "--restart"}


@pytest.mark.parametrize(
    ("line", "typed", "expected"),
    [
        ("--epochs 7 --seed 3", "--epochs 9", "--epochs 9 --seed 3"),
        # What belongs to a choice goes with it.
        (
            "--optimizer sgd --momentum 0.9 --clip-norm 1",
            "--optimizer adam",
            "--clip-norm 1",
        ),
        ("--schedule step --rate-interval 3", "--schedule cosine", "--schedule cosine"),
        ("--layers 8,0.25", "--head h.py:h", "--head h.py:h"),
        ("--layers 8,0.25 --min-accuracy 0.5", "--from other --val 0", "--from other --val 0"),
        ("--checkpoint-every 2 --checkpoint-keep 3", "--checkpoint-every 0", "--checkpoint-every 0"),
        ("--from other --epochs 3", "--head knn", "--head knn"),
        ("--optimizer sgd --momentum 0.9", "--head knn", "--head knn"),
        ("--bottleneck-norm batch --epochs 3", "--head prototype", "--head prototype"),
        ("--epochs 7 --l2 0.1 --log-steps 2 --seed 4", "--head logreg", "--head logreg --seed 4"),
    ],
)
def test_config__what_is_typed_counts_more(tmp_path, line, typed, expected):
    asked = ["cache", "--out", "run"]
    path = save(tmp_path, "train-head", parse("train-head", [*asked, *line.split()]))
    made = parse("train-head", [*asked, "--config", str(path), *typed.split()])
    assert made == parse("train-head", [*asked, *expected.split()])


def test_config__another_cut_is_pooled_by_its_own_default(tmp_path):
    asked = ["photos", "--out", "run"]
    path = save(tmp_path, "run", parse("run", [*asked, "--base", "resnet18"]))
    made = parse("run", [*asked, "--config", str(path), "--cut", "conv4"])
    assert [(cut.layer, cut.pool) for cut in made["cut"]] == [("conv4", "none")]


def test_config__loaded_workers_go_where_another_executor_is_typed(tmp_path):
    asked = ["photos", "--out", "run", "--base", "resnet18"]
    path = save(tmp_path, "run", parse("run", [*asked, "--workers", "2"]))
    inline = ["--executor", "inline"]
    assert parse("run", [*asked, "--config", str(path), *inline]) == parse("run", [*asked, *inline])
    with pytest.raises(click.UsageError, match="--workers has no effect with --executor inline"):
        parse("run", [*asked, "--workers", "2", *inline])


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"head": "logreg", "seed": 5}, "--head logreg --seed 5"),
        ({"layers": [256, 0.4], "learning-rate": 1}, "--layers 256,0.4 --learning-rate 1"),
        ({"layers": "256,0.4", "optimizer": "adamw", "l2": 0}, "--layers 256,0.4 --optimizer adamw --l2 0"),
        (
            {"training": {"optimizer": {"name": "SGD", "momentum": 0.5}}, "patience": 3, "views": None},
            "--optimizer sgd --momentum 0.5 --patience 3",
        ),
        ({"loss": {"label_smoothing": 0.1}, "threshold": 0.4}, "--label-smoothing 0.1 --threshold 0.4"),
        ({"threshold": "per-class", "allow_stale": True}, "--threshold per-class --allow-stale"),
    ],
    ids=str,
)
def test_config__takes_a_file_that_is_written_by_hand(tmp_path, values, line):
    path = tmp_path / "mine.json"
    asked = ["cache", "--out", "run"]
    path.write_text(json.dumps(values), encoding="utf-8-sig")  # as editors on Windows save it
    loaded = parse("train-head", [*asked, "--config", str(path)])
    assert loaded == parse("train-head", [*asked, *line.split()])


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ({"asked": {"command": "run"}}, r"is a run of `fastcls run`. Use a run of `fastcls train-head`"),
        (
            {"asked": {"command": "train-head", "training": {"epoch": 3}}},
            "not know: training.epoch. .*epochs",
        ),
        ({"asked": 3}, "is a run of an unknown command"),
        ('{"epoch": 3}', "does not know: epoch. The closest are epochs"),
        (
            '{"training": {"optimizer": {"momentun": 0.5}}}',
            "not know: training.optimizer.momentun. .*momentum",
        ),
        ('{"out": "x"}', "does not know: out"),
        ('{"kind": "knn"}', "kind, which may be any of head, schedule. Name one of these"),
        ('{"epochs": 3, "training": {"epochs": 4}}', "gives --epochs twice: 3 and 4. Keep one"),
        ('{"epochs": 3, "epochs": 4}', "gives 'epochs' twice: 3 and 4. Keep one"),
        ('{"training": {"epochs": 3, "epochs": 4}}', "gives 'epochs' twice: 3 and 4. Keep one"),
        ('{"learning_rate": NaN}', "learning_rate must be .*Received: nan"),
        ('{"head": "knn", "epochs": 3}', "--epochs has no effect with --head knn"),
        ('{"epochs": 0}', "epochs must be 1 or more. Received: 0"),
        ("[1]", "contains no options"),
        ("nothing", "is damaged, or not a JSON file"),
        (None, "Cannot read .*mine.json: No such file"),
    ],
    ids=str,
)
def test_config__of_something_else_is_refused(fastcls, trained, tmp_path, written, complaint):
    path = tmp_path / "mine.json"
    if isinstance(written, str):
        path.write_text(written)
    elif written:
        files.write_checked_json(path, written)
    result = fastcls("train-head", trained.cache.folder, "--out", tmp_path / "run", "--config", path)
    assert result.code == 1 and not (tmp_path / "run").exists()
    assert re.search(complaint, result.err), result.err


def test_config__by_hand_sets_no_field_that_the_command_decides(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text('{"training": {"allow_stale": false, "val": null, "epochs": 3}}')  # copied, at defaults
    asked = ["photos", "--out", "run", "--base", "resnet18"]
    assert parse("run", [*asked, "--config", str(path)]) == parse("run", [*asked, "--epochs", "3"])
    path.write_text('{"training": {"val": 0.3}}')
    with pytest.raises(OptionError, match=r"does not know: training.val. The closest are val"):
        parse("run", [*asked, "--config", str(path)])


@pytest.mark.parametrize("value", [3.5, "many", "3", [1, 2], True])
def test_config__values_are_checked_as_if_typed(fastcls, trained, tmp_path, value):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"epochs": value}))
    result = fastcls("train-head", trained.cache.folder, "--out", tmp_path / "run", "--config", path)
    assert result.code == 2 and "--epochs" in result.err and str(path) in result.err


def test_config__makes_the_same_run_again(fastcls, trained, tmp_path):
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    asked = ("--layers", "8,0.25", "--epochs", 3, "--checkpoint-every", 1, "--schedule", "cosine")
    assert fastcls("train-head", trained.cache.folder, "--out", one, *asked).code == 0
    again = fastcls("train-head", trained.cache.folder, "--out", two, "--config", one / "run.json")
    assert again.code == 0, again.err
    _assert_equal(load_head(one).model.get_weights(), load_head(two).model.get_weights())
    records = [json.loads((run / "run.json").read_text()) for run in (one, two)]
    assert records[0]["asked"] == records[1]["asked"] and "request" not in records[0]
    require_each_fact_once(records[0])
    # The folder of a run does as well, and a kept checkpoint is a head to go on from.
    kept = one / "checkpoints" / "epoch-0003.keras"
    further = fastcls("train-head", trained.cache.folder, "--out", three, "--config", one, "--from", kept)
    assert further.code == 0, further.err
    assert load_head(three).spec == load_head(one).spec
    require_each_fact_once(files.read_checked_json(three / "run.json"))


def test_from__a_file_that_is_no_checkpoint_is_refused(fastcls, trained, tmp_path):
    asked = ("train-head", trained.cache.folder, "--out", tmp_path / "run", "--from")
    result = fastcls(*asked, trained.run / "head.keras")
    assert result.code == 1 and "head.keras is not a fastcls checkpoint, or damaged" in result.err
    assert not list(tmp_path.iterdir())


def test_dry_run__shows_what_would_be_and_writes_nothing(fastcls, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = _state(trained.cache.folder)
    asked = ("--layers", "8,0.25", "--checkpoint-every", 2, "--log-steps", 1, "--schedule", "cosine")
    result = fastcls("train-head", trained.cache.folder, "--out", "jobs/run", *asked, "--dry-run")
    assert result.code == 0, result.err
    for shown in (
        "head_dense_1",
        "(None, 8)",
        "head_dropout_2",
        "Trainable params: 99",
        "Optimizer: Adam",
        "Learning rate: 0.001, cosine",
        "36 for training, 12 for validation; 2 steps of 32",
        "Would write to jobs/run",
        "steps.csv",
        "checkpoints/",
    ):
        assert shown in result.out, shown
    assert not list(tmp_path.iterdir()) and _state(trained.cache.folder) == before
    refused = fastcls("train-head", trained.cache.folder, "--out", trained.run, "--dry-run")
    assert refused.code == 1 and "already exists" in refused.err


def test_dry_run__of_run_knows_what_is_cached(fastcls, photos, base, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = _state(trained.cache.folder)
    asked = ("run", photos, "--base", base, "--out", "run", "--precision", "float32", "--dry-run")
    asked = (*asked, "--head", "linear")
    fresh = fastcls(*asked)
    assert fresh.code == 0, fresh.err
    assert "60 images of 3 classes; train 36, val 12, test 12" in fresh.out
    assert "bottlenecks of 8 float32; no cache in bottlenecks yet, 60 images to forward" in fresh.out
    os.utime(photos / "red" / "0.png")  # touched, but with the bytes that were forwarded
    known = fastcls(*asked, "--cache", trained.cache.folder.parent)
    assert f"Cache {trained.cache.folder}: 0 images to forward" in known.out
    assert "Trainable params: 27" in fresh.out and "Trainable params: 27" in known.out
    assert not list(tmp_path.iterdir()) and _state(trained.cache.folder) == before


def test_train_head__interrupted_goes_on_by_the_same_command(fastcls, trained, tmp_path, monkeypatch, caplog):
    asked = ("train-head", trained.cache.folder, "--layers", "8,0.25", "--epochs", 4, "--checkpoint-every", 2)
    assert fastcls(*asked, "--out", tmp_path / "whole").code == 0
    run, unfinished = tmp_path / "job" / "product", tmp_path / "job" / "product.unfinished"
    with monkeypatch.context() as patch:
        _interrupt(patch)
        interrupted = fastcls(*asked, "--out", run)
    assert interrupted.code == 130 and "run the same command again" in interrupted.err
    assert not run.exists() and (unfinished / "history.csv").exists()
    other = fastcls(*asked, "--out", run, "--learning-rate", 0.5)
    assert other.code == 1 and "--learning-rate was 0.001, is 0.5" in other.err
    resumed = fastcls(*asked, "--out", run)
    assert resumed.code == 0 and "Resuming after epoch 2" in caplog.text
    heads = [load_head(folder).model.get_weights() for folder in (tmp_path / "whole", run)]
    _assert_equal(*heads)
    names = [sorted(path.name for path in folder.iterdir()) for folder in (tmp_path / "whole", run)]
    assert names[0] == names[1] and "checkpoints" in names[0] and "resume" not in names[0]
    assert not unfinished.exists()


def test_train_head__interrupted_can_be_given_up(fastcls, trained, tmp_path, monkeypatch):
    asked = ("train-head", trained.cache.folder, "--out", tmp_path / "run", "--epochs", 3)
    with monkeypatch.context() as patch:
        _interrupt(patch)
        assert fastcls(*asked, "--checkpoint-every", 1).code == 130
    result = fastcls(*asked, "--restart")
    assert result.code == 0 and "Resuming" not in result.err
    assert not (tmp_path / "run.unfinished").exists() and not (tmp_path / "run" / "checkpoints").exists()


def test_train_head__two_at_once_do_not_share_a_folder(fastcls, trained, tmp_path):
    with pytest.raises(KeyError), unfinished.resumable_folder(tmp_path / "run", lambda folder: False):
        result = fastcls("train-head", trained.cache.folder, "--out", tmp_path / "run")
        assert result.code == 1 and "Another process is writing to" in result.err
        raise KeyError
    assert not list(tmp_path.iterdir())


def test_train_head__killed_goes_on_by_the_same_command(fastcls, trained, tmp_path, caplog):
    asked = ["train-head", trained.cache.folder, "--layers", "8,0.25", "--epochs", 6, "--checkpoint-every", 1]
    # It halts after the third epoch, so that the signal does not come too late.
    code = (
        "import sys, time; from fastcls.training.loop import checkpoints as c; save = c.Checkpoints.save\n"
        "def slow(self, standing, trainee):\n"
        "    save(self, standing, trainee)\n"
        "    time.sleep(60 if len(standing.history) == 3 else 0)\n"
        "c.Checkpoints.save = slow\n"
        "from fastcls.cli.main import main; main()"
    )
    command = [sys.executable, "-c", code, *map(str, asked), "--out", str(tmp_path / "killed")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    third = tmp_path / "killed.unfinished" / "checkpoints" / "epoch-0003.keras"
    limit = time.monotonic() + 100
    while not third.exists() and time.monotonic() < limit and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert third.exists() and not (tmp_path / "killed").exists()
    resumed = fastcls(*asked, "--out", tmp_path / "killed")
    assert resumed.code == 0 and "Resuming after epoch 3" in caplog.text
    assert fastcls(*asked, "--out", tmp_path / "whole").code == 0
    heads = [load_head(tmp_path / name).model.get_weights() for name in ("whole", "killed")]
    _assert_equal(*heads)


def _interrupt(patch) -> None:
    """Press Ctrl-C once the first checkpoint is written."""
    plain = Checkpoints.save

    def save(self, standing, trainee):
        plain(self, standing, trainee)
        if any((self.folder / "resume").glob("*")):
            raise KeyboardInterrupt

    patch.setattr(Checkpoints, "save", save)


def _assert_equal(some, others) -> None:
    for one, other in zip(some, others, strict=True):
        np.testing.assert_array_equal(one, other)


def _state(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.stat().st_mtime_ns) for path in folder.rglob("*"))

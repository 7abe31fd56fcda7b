"""Commands that are interrupted or killed at any stage go on when they are given again."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from fastcls import pipeline, runs, unfinished
from fastcls.cache.store import Cache
from fastcls.cli import run as cli_run
from fastcls.cli import train_head as cli_train_head
from fastcls.data.dataset import Dataset
from fastcls.evaluation import tester
from fastcls.inference.classifier import Classifier
from fastcls.specs import FinetuneSpec, TrainConfig
from fastcls.training.finetuner import finetune
from fastcls.training.head_trainer import train_head
from fastcls.training.loop.checkpoints import Checkpoints
from fastcls.training.rows import cached as feeder
from fastcls.training.rows import images


class Killed(BaseException):
    """What no code catches."""


# In the order of a command: what is called there, and whether it is killed before or after that.
TRAINING = [
    ("checkpoint", Checkpoints, "save", "after"),
    ("trained", runs, "write_record", "before"),
    ("complete", runs, "write_record", "after"),
    ("nothing to go on from", pipeline, "forget_checkpoints", "after"),
    ("moved", unfinished, "unclaim", "before"),
    ("unmarked", unfinished, "unclaim", "after"),
]
TEST = [
    ("before the test", pipeline, "run_test", "before"),
    ("predicted", tester, "_write", "before"),
    ("half written", tester, "write_evaluation", "after"),
    ("tested", tester, "_write", "after"),
    ("printed", cli_run, "print_test", "before"),
]
COMPLETE = {"complete", "nothing to go on from", "moved", "unmarked", "printed", *(name for name, *_ in TEST)}
COMMANDS = {
    "train-head": [*TRAINING, ("printed", cli_train_head, "print_training", "before")],
    "finetune": TRAINING,
    "run": [("extracted", pipeline, "extract_planned", "after"), *TRAINING, *TEST],
}


@pytest.fixture(scope="module")
def commands(trained, photos, base):
    checkpoints = ("--epochs", 2, "--checkpoint-every", 1, "--seed", 1)
    return {
        "train-head": ("train-head", trained.cache.folder, *checkpoints),
        "finetune": ("finetune", photos, "--from", trained.run, "--val", 0.2, *checkpoints),
        "run": ("run", photos, "--base", base, "--precision", "float32", *checkpoints),
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_command__killed_at_any_stage_goes_on(fastcls, commands, trained, tmp_path, monkeypatch, name):
    more = ("--cache", tmp_path / "caches", "--workers", 1) if name == "run" else ()
    command = (*commands[name], *more)
    assert fastcls(*command, "--out", tmp_path / "whole").code == 0
    whole = listed(tmp_path / "whole")
    expected = Classifier.load(tmp_path / "whole").model.get_weights()
    trained_once = tmp_path / "trained once"
    for place, (stage, *point) in enumerate(COMMANDS[name]):
        out = tmp_path / f"{place}"
        left = out.with_name(f"{place}.unfinished")
        if trained_once.exists():
            shutil.copytree(trained_once, left)
        with monkeypatch.context() as patch, pytest.raises(Killed):
            kill(patch, *point)
            fastcls(*command, "--out", out)
        if stage == "complete":
            shutil.copytree(left, trained_once)
        with monkeypatch.context() as patch:
            if stage in COMPLETE:
                for training in ("train_prepared", "finetune_prepared"):
                    patch.setattr(pipeline, training, None)
            again = fastcls(*command, "--out", out)
        assert again.code == 0, (stage, again.err)
        assert listed(out) == whole and not left.exists(), stage
        found = Classifier.load(out).model.get_weights()
        assert all((one == other).all() for one, other in zip(expected, found, strict=True)), stage


@pytest.mark.parametrize("name", COMMANDS)
def test_command__given_again_when_all_is_done_does_nothing_again(
    fastcls, commands, tmp_path, monkeypatch, caplog, name
):
    command = (*commands[name], "--out", tmp_path / "run")
    more = ("--cache", tmp_path / "caches", "--workers", 1) if name == "run" else ()
    first = fastcls(*command, *more)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.is_file()}
    again = fastcls(*command, *more)
    assert again.code == 0 and "complete" in caplog.text and "nothing is trained again" in caplog.text
    figures = re.compile(r"^(Run|Kept|accuracy).*", re.MULTILINE)
    assert figures.findall(again.out) == figures.findall(first.out)
    assert [line for line in again.out.splitlines() if line.startswith("Kept")] == [
        line for line in first.out.splitlines() if line.startswith("Kept")
    ]
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert after == before
    refused = fastcls(*command, *more, "--restart")
    assert refused.code == 1 and "is already complete" in refused.err
    for long in ("extract_planned", "train_prepared", "prepare_finetuning"):
        monkeypatch.setattr(pipeline, long, None)
    other = fastcls(*command, *more, "--learning-rate", 0.5)
    assert other.code == 1 and re.search(r"already exists.*--learning-rate was 0\.\d+, is 0\.5", other.err)


def test_run__of_a_cache_that_was_removed_makes_it_anew_and_trains_nothing(
    fastcls, commands, tmp_path, caplog
):
    command = (*commands["run"], "--cache", tmp_path / "caches", "--workers", 1, "--out", tmp_path / "run")
    assert fastcls(*command).code == 0
    shutil.rmtree(tmp_path / "caches")
    again = fastcls(*command)
    assert again.code == 0 and "60 forwarded" in again.out and "nothing is trained again" in caplog.text


def test_train_head__of_changed_labels_is_another_request(fastcls, trained, tmp_path):
    cache = Cache(shutil.copytree(trained.cache.folder, tmp_path / "cache"))
    command = ("train-head", cache.folder, "--epochs", 1, "--out", tmp_path / "run")
    assert fastcls(*command).code == 0
    rows, listing = cache.samples(), cache.listing
    place = next(place for place, row in enumerate(rows) if row.split == "train" and row.labels != ("red",))
    changed = [replace(row, labels=("red",)) if row is rows[place] else row for row in rows]
    listing.write(listing.report(), changed, listing.failures())
    refused = fastcls(*command)
    assert refused.code == 1 and "another training (the images, or their labels, are others)" in refused.err


def test_run__of_other_photos_is_refused_before_they_are_forwarded(fastcls, commands, photos, tmp_path):
    more = ("--cache", tmp_path / "caches", "--workers", 1, "--out", tmp_path / "run")
    assert fastcls(*commands["run"], *more).code == 0
    fewer = tmp_path / "photos"
    for name in ("red", "blue"):
        fewer.joinpath(name).mkdir(parents=True)
        for photo in sorted((photos / name).iterdir())[:12]:
            os.link(photo, fewer / name / photo.name)
    refused = fastcls("run", fewer, *commands["run"][2:], *more)
    assert refused.code == 1 and "another training (photos has changed: 60 images then, 24 now" in refused.err


def test_a_run_that_is_there_says_what_is_not_the_same(fastcls, trained, commands, photos, tmp_path):
    kept = fastcls("train-head", trained.cache.folder, "--no-refit", "--out", tmp_path / "kept out")
    assert kept.code == 0, kept.err
    other = fastcls("train-head", trained.cache.folder, "--out", tmp_path / "kept out")
    assert other.code == 1 and "(--no-refit was given, is not given now)" in other.err
    for name in ("train-head", "finetune"):
        refused = fastcls(*commands[name], "--out", trained.run)
        assert refused.code == 1 and refused.err == (
            f"Error: {trained.run} already exists: `fastcls run` has made it. Give `fastcls {name}` another "
            f"--out, such as {trained.run}-{name}, or remove it first\n"
        )
    moved = tmp_path / "photos moved"
    shutil.copytree(photos, moved)
    command = (
        *commands["run"][2:],
        "--cache",
        tmp_path / "caches",
        "--workers",
        1,
        "--out",
        tmp_path / "run",
    )
    assert fastcls("run", photos, *command).code == 0
    assert fastcls("run", moved, *command).code == 0  # the same, wherever they are
    (moved / "red" / "0.png").rename(moved / "red" / "new.png")
    renamed = fastcls("run", moved, *command)
    assert "photos_moved has changed: 60 images then and now, but not the same names" in renamed.err
    (moved / "red" / "new.png").unlink()
    fewer = fastcls("run", moved, *command, "--train-batch-size", 8)
    assert "photos_moved has changed: 60 images then, 59 now; --train-batch-size was 32, is 8)" in fewer.err


@pytest.fixture
def press(monkeypatch):
    """Returns a function that lets Ctrl-C be pressed once an image is trained or validated on."""

    def press_at(stage, number=signal.SIGINT):
        pressed, look = [], images.ImageFeed._look

        def press_and_look(feed, row, epoch, time):
            if not pressed and (feed._seed is None) == (stage == "validation"):
                pressed.append(epoch)
                os.kill(os.getpid(), number)  # TensorFlow has called Python, from a thread of its own
            return look(feed, row, epoch, time)

        monkeypatch.setattr(images.ImageFeed, "_look", press_and_look)
        return pressed

    return press_at


@pytest.mark.parametrize(("stage", "number"), [("training", signal.SIGINT), ("validation", signal.SIGTERM)])
def test_finetune__interrupted_inside_of_a_step_ends_in_order(
    fastcls, trained, photos, tmp_path, caplog, press, number, stage
):
    options = ("--val", 0.2, "--epochs", 2, "--batch-size", 8, "--out", tmp_path / "run")
    pressed = press(stage, number)
    command = ("finetune", photos, "--from", trained.run, *options)
    result = fastcls(*command)
    assert pressed and result.code == 130
    assert re.search(r"run the same command again to go on from it \(saved: step \d of epoch 1\)", result.err)
    assert "Traceback" not in result.err
    again = fastcls(*command)
    assert again.code == 0 and re.search(r"Resuming after step \d of epoch 1", caplog.text)
    whole = fastcls(*command[:-1], tmp_path / "whole")
    assert kept(again) == kept(whole)


@pytest.mark.parametrize("stage", ["training", "validation"])
def test_finetune__is_interrupted_between_two_steps(trained, photos, press, stage):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    start, config = Classifier.load(trained.run), TrainConfig(epochs=2, batch_size=8, val=0.2)
    press(stage)
    with pytest.raises(KeyboardInterrupt) as ended:
        finetune(Dataset.from_folder(photos), start, FinetuneSpec(), config)
    assert ended.traceback[-1].name == "let_through"


def test_train_head__is_interrupted_between_two_blocks_of_steps(trained, monkeypatch):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    draw = feeder.draw_images

    def press_and_draw(*values, **options):
        os.kill(os.getpid(), signal.SIGINT)
        return draw(*values, **options)

    monkeypatch.setattr(feeder, "draw_images", press_and_draw)
    with pytest.raises(KeyboardInterrupt) as ended:
        train_head(trained.cache, "linear")
    assert ended.traceback[-1].name == "let_through"


def test_command__an_error_out_of_an_interrupted_call_is_no_error(fastcls, trained, photos, monkeypatch):
    def interrupted(*_, **__):
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt as error:
            raise SystemError("returned a result with an exception set") from error

    monkeypatch.setattr(Classifier, "stream", interrupted)
    result = fastcls("predict", trained.run, photos)
    assert result.code == 130 and result.err.startswith("Interrupted")


def test_run__has_no_leftovers_of_a_killed_process(fastcls, commands, tmp_path, monkeypatch):
    out, dead = (
        tmp_path / "run",
        "import os; from pathlib import Path; from fastcls import files; import sys\n",
    )
    dead += "with files.atomic_path(Path(sys.argv[1])) as path:\n    path.touch(); os.kill(os.getpid(), 9)"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill(patch, runs, "write_record", "before")
        fastcls(*commands["train-head"], "--out", out)
    for folder in ("", "checkpoints", "resume", "tensorboard"):
        place = out.with_name("run.unfinished") / folder / "epoch-0009.keras"
        subprocess.run([sys.executable, "-c", dead, str(place)], check=False)
    assert len(list(out.with_name("run.unfinished").rglob(".tmp-*"))) == 4
    assert fastcls(*commands["train-head"], "--out", out).code == 0
    assert not [path for path in out.rglob(".*")]


def kill(patch, home, name, when) -> None:
    """Let a process end where a function is called."""
    plain = getattr(home, name)

    def kill_there(*values, **options):
        if when == "after":
            plain(*values, **options)
        raise Killed

    patch.setattr(home, name, kill_there)


def kept(result) -> list[str]:
    return [line for line in result.out.splitlines() if line.startswith("Kept")]


def listed(folder) -> list[str]:
    return sorted(
        re.sub(r"events\.out.*", "events", path.relative_to(folder).as_posix()) for path in folder.rglob("*")
    )

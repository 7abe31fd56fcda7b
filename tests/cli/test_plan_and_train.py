"""`--dry-run` and `train-head`, `finetune`, `extract` and `run` never disagree, whatever is there already."""

from __future__ import annotations

import contextlib
import random
import re
import shutil

import cv2
import numpy as np
import pytest
from plans_support import LAYOUTS, counts, make, planned_files, separator, state, told, written

from fastcls.training.loop.checkpoints import Checkpoints

BASE = ("--base", "lenet5", "--normalize", "torch", "--weights", "random")
EXTRACTED = (*BASE, "--executor", "inline")
USED = (
    "folder per class",
    "two images per class",
    "no val",
    "all parts",
    "several labels",
    "table with parts",
)
TRAINED = "--epochs 1"
# Places that no run can be made in, or that hold another one.
PLACES = ("absent", "absent", "empty folder", "file", "folder of the user", "unfinished folder of the user")
TRAINING = (
    *("--val 0", "--val 0.3", "--val 0.9", "--schedule plateau", "--min-accuracy 0.1", "--warmup 1"),
    *("--threshold 0.4", "--class-weight balanced", "--confusion-every 1", "--log-steps 1"),
    *("--checkpoint-every 1", "--loss binary_crossentropy", "--sampling balanced", "--learning-rate 0"),
)
REQUESTS = {
    "train-head": (
        (TRAINED, "--head linear --layers 8,0.5 " + TRAINED, "--head tail " + TRAINED, "--head logreg"),
        (
            *("--head knn", "--head prototype", "--head nothing.py:head", "--head nearest", "--views 2"),
            *("--allow-stale", "--name other", "--from nowhere", "--train-batch-norm", *TRAINING),
        ),
    ),
    "finetune": (
        (f"{TRAINED} --augment none", f"{TRAINED} --train none", f"{TRAINED} --layers 4,0.5 --train 1"),
        (
            *("--train 99", "--train all", "--train some", "--downscale 2", "--augment spin", "--head knn"),
            *("--head logreg", "--from nowhere", "--size 8", "--include-top", "--full-decode", *TRAINING),
        ),
    ),
    "extract": (
        ("", "--cut s2", "--cut s2 --pool none", "--cut s2 --cut c3", "--precision float32"),
        (
            *("--cut nowhere", "--precision int8", "--engine openvino", "--views 3", "--name ../x"),
            *(
                "--name other",
                "--size 4",
                "--include-top",
                "--batch-size 2",
                "--augment spin",
                "--dtype float16",
            ),
            *("--workers 2", "--engine nowhere:Engine", "--max-failures 0", "--cache {file}"),
        ),
    ),
}
SEEDS, DRAWN, CARRIED_OUT = range(2), 7, 1


class Killed(BaseException):
    """What no code catches."""


@pytest.fixture(scope="module")
def layouts(tmp_path_factory):
    """The data of some layouts, by its name."""
    root = tmp_path_factory.mktemp("layouts")
    return {name: make(LAYOUTS[name], root / name.replace(" ", "-")) for name in USED}


def draw(name, seed):
    """Requests of a command: the name of a layout, a place, and options."""
    chance, (usual, odd) = random.Random(f"{name} {seed}"), REQUESTS[name]
    for _ in range(DRAWN):
        options = chance.sample(odd, chance.choice((0, 0, 1, 2)))
        yield chance.choice(USED), chance.choice(PLACES), " ".join([chance.choice(usual), *options]).split()


def occupy(place, out):
    """Put something where a run is to be."""
    if place == "file":
        out.write_text("mine")
    elif "folder" in place:
        folder = out.with_name(f"{out.name}.unfinished") if "unfinished" in place else out
        folder.mkdir()
        if place != "empty folder":
            (folder / "notes.txt").write_text("mine")


def plan(fastcls, command, root):
    """The dry run of a command, which writes nothing; None if it refuses what the command refuses too."""
    before = state(root)
    planned = fastcls(*command, "--dry-run")
    assert state(root) == before, command
    if not planned.code:
        return planned
    done = fastcls(*command)
    assert (done.code, told(done)) == (planned.code, told(planned)), command
    assert planned.code in (1, 2) and state(root) == before, command
    return None


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["train-head", "finetune"])
def test_a_training_does_what_its_dry_run_says(fastcls, layouts, tmp_path, monkeypatch, name, seed):
    monkeypatch.chdir(tmp_path)
    left = CARRIED_OUT
    for number, (layout, place, options) in enumerate(draw(name, seed)):
        out = tmp_path / f"run{number}"
        occupy(place, out)
        data = (layouts[layout], *separator(layout))
        if name == "train-head":
            pool = ("--cut", "s2", "--pool", "none") if "tail" in options else ()
            extract = ("extract", *data, *EXTRACTED, *pool, "--cache", f"caches{number}")
            assert fastcls(*extract, "--precision", "float32").code == 0
            command = (name, f"caches{number}", *options, "--out", out)
        else:
            command = (name, *data, *(() if "--from" in options else BASE), *options, "--out", out)
        planned = plan(fastcls, command, tmp_path)
        if planned and left:
            left -= 1
            done = fastcls(*command)
            assert done.code == 0, (command, done.err)
            assert written(out) == planned_files(planned), command
            before, after = counts(planned, done)
            assert before == after, command
            shutil.rmtree(out)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_extraction_does_what_its_dry_run_says(fastcls, layouts, tmp_path, monkeypatch, caplog, seed):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    chance = random.Random(seed)
    for number, (layout, _, options) in enumerate(draw("extract", seed)):
        folder = tmp_path / f"data{number}"
        source = layouts[layout]
        shutil.copytree(source.parent if source.is_file() else source, folder)
        data = (folder / source.name if source.is_file() else folder, *separator(layout))
        cache = ("--cache", f"caches{number}")
        given = [option.format(file="file/caches") for option in options]
        command = ("extract", *data, *EXTRACTED, *(() if "--cache" in given else cache), *given)
        if chance.random() < 0.5:  # begun, and perhaps with a split of another run
            fastcls(*command, *chance.choice(((), ("--name", "before"))))
            image = chance.choice(sorted(folder.rglob("*.png")))
            cv2.imwrite(str(image), np.full((32, 32, 3), number, np.uint8))
        planned = plan(fastcls, command, tmp_path)
        if planned:
            caplog.clear()
            done = fastcls(*command)
            assert done.code == 0, (command, done.err)
            agree_on_rows(planned.out, done.out)
            for note in re.findall(r"\S+ (?:keeps its|has another) split \(.*?\)", planned.out):
                assert note in caplog.text


def agree_on_rows(planned, done):
    forwarded = re.findall(r"(\d+) images? to forward", planned)
    assert re.findall(r"(\d+) forwarded", done) == forwarded
    said = re.findall(r"^Precision: (.*)\. Engine: (.*?)\. ", planned, re.MULTILINE)
    found = re.findall(r"^(\w+) in (\w+), ", done, re.MULTILINE)
    assert bool(said) == bool(found) == any(map(int, forwarded))
    for engine, precision in found:
        assert re.search(rf"\b{engine}\b", said[0][1]) and re.search(rf"\b{precision}\b", said[0][0])
        if "as the cache was started" in said[0][0]:
            assert said[0][0].split(",")[0] == precision


# What is there already

# What is in the way, and what has changed since.
GOING_ON = {
    "absent": ("nothing",),
    "complete": ("nothing", "bytes", "cache", "test", "--restart"),
    "of another seed": ("nothing",),
    "interrupted": ("nothing", "bytes", "cache", "--restart"),
    "interrupted, of another seed": ("nothing", "--restart"),
}
COMMANDS = ("run", "train-head", "finetune")


@pytest.mark.parametrize("begun", GOING_ON)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_goes_on_as_its_dry_run_says(fastcls, layouts, tmp_path, monkeypatch, caplog, name, begun):
    """After a run or the half of one, and whatever has changed since."""
    root, asked = tmp_path / "here", {}
    for change in GOING_ON[begun]:
        if name != "run" and change in ("cache", "test"):
            continue
        head = "linear" if name == "finetune" or change == "nothing" or begun == "interrupted" else "knn"
        shutil.rmtree(root, ignore_errors=True)
        if head in asked:
            shutil.copytree(tmp_path / head, root)
            monkeypatch.chdir(root)
        else:
            shutil.copytree(layouts["folder per class"], root / "photos")
            monkeypatch.chdir(root)
            asked[head] = request(fastcls, name, head)
            begin(fastcls, asked[head], begun, monkeypatch)
            shutil.copytree(root, tmp_path / head)
        alter(change, root)
        command = (*asked[head], "--restart") if change == "--restart" else asked[head]
        planned = plan(fastcls, command, root)
        if planned:
            carry_on(fastcls, command, planned, root, caplog)


def request(fastcls, name, head):
    """A command that trains a head."""
    trained = ("--epochs", 2, "--checkpoint-every", 1) if head == "linear" else ("--head", head)
    if name == "run":
        return (name, "photos", *EXTRACTED, "--precision", "float32", *trained, "--out", "run")
    if name == "finetune":
        return (name, "photos", *BASE, *trained, "--val", 0.3, "--out", "run")
    fastcls("extract", "photos", *EXTRACTED, "--precision", "float32")
    return (name, "bottlenecks", *trained, "--val", 0.3, "--out", "run")


def begin(fastcls, command, begun, monkeypatch):
    """Make what is there already."""
    if begun == "absent":
        return
    other = ("--seed", 7) if "another" in begun else ()
    other = ("--val", 0.4) if other and "knn" in command else other
    save = Checkpoints.save

    def save_and_die(*values):
        save(*values)
        raise Killed

    with monkeypatch.context() as patch, contextlib.suppress(Killed):
        if "interrupted" in begun:
            patch.setattr(Checkpoints, "save", save_and_die)
        fastcls(*command, *other)


def alter(change, root):
    if change == "bytes":
        cv2.imwrite(str(root / "photos" / "red" / "3.png"), np.full((32, 32, 3), 9, np.uint8))
    elif change == "cache" and (root / "bottlenecks").exists():
        shutil.rmtree(root / "bottlenecks")
    elif change == "test" and (root / "run" / "test").exists():
        shutil.rmtree(root / "run" / "test")


def carry_on(fastcls, command, planned, root, caplog):
    caplog.clear()
    before = state(root / "run") if (root / "run").exists() else {}
    done = fastcls(*command)
    assert done.code == 0, (command, done.err)
    is_complete = "is already complete: nothing is trained again" in planned.out
    assert ("nothing is trained again" in caplog.text) == is_complete
    assert ("Resuming after epoch" in caplog.text) == ("Would resume from" in planned.out)
    after = state(root / "run")
    if is_complete:
        kept = {path: when for path, when in after.items() if path in before and path.is_file()}
        assert kept == {path: when for path, when in before.items() if path.is_file()}
        new = {path.relative_to(root / "run").parts[0] for path in after.keys() - before.keys()}
        assert {name.split("/")[0] for name in planned_files(planned)} == new
    else:
        assert written(root / "run") == planned_files(planned)
    ((planned_counts), used) = counts(planned, done)
    assert planned_counts == used

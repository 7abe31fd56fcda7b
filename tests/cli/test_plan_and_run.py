"""`--dry-run` and the run never disagree: odd requests, drawn by chance, are planned and then carried out."""

from __future__ import annotations

import random
import re
import shutil

import pytest
from plans_support import LATE, LAYOUTS, counts, make, planned_files, separator, state, told, written

SEEDS = range(4)
REQUESTS = 12  # of each seed
FULL_RUNS = 1  # of each seed are carried out to the end, and all refusals
BASE = ("--base", "lenet5", "--normalize", "torch", "--precision", "float32", "--workers", 1)
ONCE = "--epochs 1"
HEADS = (
    *(
        f"--head linear {ONCE}",
        f"--head tail {ONCE} --cut s2 --pool none",
        "--head logreg",
        "--head prototype",
    ),
    *("--head knn", f"--head linear {ONCE}", "--head tail", f"--head nothing.py:head {ONCE}"),
)
OPTIONS = (
    *("--val 0", "--val 0.3", "--val 1.5", "--test 0", "--test 0.3", "--val 0.6 --test 0.6"),
    *("--schedule plateau", "--rate-patience 2", "--min-accuracy 0.1", "--patience 3"),
    *("--layers 8,0.5", "--layers 0.5,x", "--bottleneck-norm batch", "--train-batch-norm", "--warmup 1"),
    *("--threshold 0.4", "--threshold per-class", "--class-weight balanced", "--confusion-every 1"),
    *("--log-steps 1", "--checkpoint-every 1", "--loss binary_crossentropy", "--optimizer sgd"),
    *("--head nearest", "--cut s2", "--cut nowhere", "--pool none", "--views 2", "--name ../x"),
    *("--include-top", "--sampling balanced", "--learning-rate 0", "--size 4"),
    *("--out {taken}", "--cache {file}"),
)


@pytest.fixture(scope="module")
def layouts(tmp_path_factory):
    """The data of each layout, by its name."""
    root = tmp_path_factory.mktemp("layouts")
    return {name: make(layout, root / name.replace(" ", "-")) for name, layout in LAYOUTS.items()}


def draw(seed):
    """Requests of one seed: names of layouts and options."""
    chance = random.Random(seed)
    for _ in range(REQUESTS):
        layout = chance.choice(list(LAYOUTS))
        options = chance.sample(OPTIONS, chance.choice((0, 0, 1, 2)))
        yield layout, " ".join([chance.choice(HEADS), *options]).split()


@pytest.mark.parametrize("seed", SEEDS)
def test_dry_run_and_run_agree(fastcls, layouts, tmp_path, monkeypatch, seed):
    monkeypatch.chdir(tmp_path)
    for name in ("taken", "file"):
        (tmp_path / name).write_text(name)
    left = FULL_RUNS
    for place, (layout, options) in enumerate(draw(seed)):
        given = [option.format(taken="taken", file="file/caches") for option in options] + [
            *separator(layout)
        ]
        weights = () if place % 6 == 5 else ("--weights", "random")
        command = ("run", layouts[layout], "--out", f"run{place}", *BASE, *weights, *given)
        before = state(tmp_path)
        planned = fastcls(*command, "--dry-run")
        assert state(tmp_path) == before, "a dry run writes nothing"
        if planned.code:
            done = fastcls(*command)
            assert (done.code, told(done)) == (planned.code, told(planned)), command
            assert state(tmp_path) == before, command
        elif left:
            left -= 1
            carry_out(fastcls, command, planned, tmp_path / f"run{place}", layout)


def carry_out(fastcls, command, planned, run, layout):
    done = fastcls(*command)
    if layout in LATE:
        assert done.code == 1 and LATE[layout] in done.err
        assert not run.exists()
        return
    assert done.code == 0, (command, done.err)
    assert written(run) == planned_files(planned), command
    (train, val), used = counts(planned, done)
    assert used == (train - (LAYOUTS[layout].odd == "unreadable"), val), command
    notes = re.findall(r"^.*(?:No test|has no validation part).*$", planned.out, re.MULTILINE)
    assert all(note in done.out for note in notes)
    shutil.rmtree(run)

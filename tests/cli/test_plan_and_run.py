"""`--dry-run` and the run never disagree: odd requests, drawn by chance, are planned and then carried out."""

from __future__ import annotations

import random
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest

CLASSES = ("blue", "red")
SEEDS = range(8)
REQUESTS = 12  # of each seed
FULL_RUNS = 2  # of each seed are carried out to the end, and all refusals
BASE = ("--base", "lenet5", "--normalize", "torch", "--precision", "float32", "--workers", 1)


@dataclass
class Layout:
    """How many images each part has of each class, and how they lie."""

    parts: dict[str, int]
    is_csv: bool = False
    several: bool = False  # labels per image
    odd: str = ""
    unreadable: list[str] = field(default_factory=list)


LAYOUTS = {
    "folder per class": Layout({"": 10}),
    "two images per class": Layout({"": 2}),
    "one image per class": Layout({"": 1}),
    "all parts": Layout({"train": 6, "val": 2, "test": 2}),
    "no test": Layout({"train": 6, "val": 2}),
    "no val": Layout({"train": 6, "test": 2}),
    "train alone": Layout({"train": 6}),
    "train of one image": Layout({"train": 1}),
    "no train": Layout({"val": 4, "test": 4}, is_csv=True),
    "table": Layout({"": 8}, is_csv=True),
    "table with parts": Layout({"train": 6, "val": 2, "test": 2}, is_csv=True),
    "table with a test part": Layout({"": 6, "test": 2}, is_csv=True),
    "several labels": Layout({"": 12}, is_csv=True, several=True),
    "several labels in parts": Layout({"train": 8, "val": 4}, is_csv=True, several=True),
    "a class in val alone": Layout({"train": 6, "val": 2}, odd="val"),
    "a class in test alone": Layout({"train": 6, "val": 2, "test": 2}, odd="test"),
    "one class": Layout({"": 6}, odd="one"),
    "an unreadable image": Layout({"train": 6, "val": 2, "test": 2}, odd="unreadable"),
    "a class that cannot be read": Layout({"train": 4, "val": 2}, odd="unreadable class"),
}
# What only pixels tell: the plan cannot know, and the run ends late.
LATE = {"a class that cannot be read": "No images to train on for: red"}
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


def make(layout: Layout, root: Path) -> Path:
    rows, noise = [], np.random.default_rng(0)
    for part, count in layout.parts.items():
        for label, name in enumerate(CLASSES):
            if name == "red" and layout.odd in ("one", "val", "test") and part != layout.odd:
                continue
            for number in range(count):
                path = root / part / name / f"{part}{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                image = noise.integers(0, 120, (32, 32, 3), np.uint8)
                image[..., 2 * label] += 90
                cv2.imwrite(str(path), image)
                labels = "|".join(CLASSES[: 1 + number % 2] if label else CLASSES[number % 3 :])
                rows.append(f"{path.relative_to(root)},{labels if layout.several else name},{part}")
    spoil(layout, root)
    if layout.is_csv:
        (root / "data.csv").write_text("\n".join(["path,label,split", *rows]))
        return root / "data.csv"
    return root


def spoil(layout, root):
    if layout.odd == "unreadable":
        (root / "train" / "red" / "train0.png").write_bytes(b"no image")
    if layout.odd == "unreadable class":
        for path in (root / "train" / "red").iterdir():
            path.write_bytes(f"no image {path.name}".encode())


def draw(seed):
    """Requests of one seed: names of layouts and options."""
    chance = random.Random(seed)
    for _ in range(REQUESTS):
        layout = chance.choice(list(LAYOUTS))
        options = chance.sample(OPTIONS, chance.choice((0, 0, 1, 2)))
        yield layout, " ".join([chance.choice(HEADS), *options]).split()


def told(result):
    """What a command says when it refuses."""
    return [line for line in result.err.splitlines() if line.startswith(("Error", "Usage"))]


def state(folder):
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


@pytest.mark.parametrize("seed", SEEDS)
def test_dry_run_and_run_agree(fastcls, layouts, tmp_path, monkeypatch, seed):
    monkeypatch.chdir(tmp_path)
    for name in ("taken", "file"):
        (tmp_path / name).write_text(name)
    left = FULL_RUNS
    for place, (layout, options) in enumerate(draw(seed)):
        given = [option.format(taken="taken", file="file/caches") for option in options]
        if LAYOUTS[layout].several:
            given += ["--label-separator", "|"]
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
    (names,) = re.findall(r"^Would write to .*?: (.*)\. Nothing was written$", planned.out, re.MULTILINE)
    assert written(run) == sorted(names.split(", ")), command
    (counts,) = re.findall(r"Rows: (\d+) to train on, (\d+) to validate on", planned.out)
    (found,) = re.findall(r"trained on (\d+) images.*, validated on (\d+)", done.out)
    missing = LAYOUTS[layout].odd == "unreadable"
    assert (int(found[0]), int(found[1])) == (int(counts[0]) - missing, int(counts[1])), command
    notes = re.findall(r"^.*(?:No test|has no validation part).*$", planned.out, re.MULTILINE)
    assert all(note in done.out for note in notes)
    shutil.rmtree(run)


def written(run):
    """Files of a run, and folders but for the one of tests, in which they are listed by themselves."""
    names = [path.name + "/" * path.is_dir() for path in run.iterdir() if path.name != "test"]
    return sorted([*names, *(f"test/{path.name}/" for path in run.glob("test/*"))])

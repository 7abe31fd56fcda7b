"""Data of many layouts, and what a dry run and the command after it say and leave behind."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

CLASSES = ("blue", "red")


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
# What only pixels tell: the plan cannot know, and the command ends late.
LATE = {"a class that cannot be read": "No images to train on for: red"}


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
    _spoil(layout, root)
    if layout.is_csv:
        (root / "data.csv").write_text("\n".join(["path,label,split", *rows]))
        return root / "data.csv"
    return root


def _spoil(layout: Layout, root: Path) -> None:
    if layout.odd == "unreadable":
        (root / "train" / "red" / "train0.png").write_bytes(b"no image")
    if layout.odd == "unreadable class":
        for path in (root / "train" / "red").iterdir():
            path.write_bytes(f"no image {path.name}".encode())


def separator(layout: str) -> tuple[str, ...]:
    """The options that a layout needs."""
    return ("--label-separator", "|") if LAYOUTS[layout].several else ()


def told(result: Any) -> list[str]:
    """What a command says when it refuses."""
    return [line for line in result.err.splitlines() if line.startswith(("Error", "Usage"))]


def state(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def planned_files(planned: Any) -> list[str]:
    """What a dry run says is written."""
    said = re.findall(r"Would write to .*?: (.*?)\. Nothing was written$", planned.out, re.MULTILINE)
    return sorted(name for names in said for name in names.split(", "))


def written(run: Path) -> list[str]:
    """Files of a run, and folders but for the one of tests, in which they are listed by themselves."""
    names = [path.name + "/" * path.is_dir() for path in run.iterdir() if path.name != "test"]
    return sorted([*names, *(f"test/{path.name}/" for path in run.glob("test/*"))])


def counts(planned: Any, done: Any) -> list[tuple[int, int]]:
    """Images to train and to validate on, as they were planned and as they were used."""
    (before,) = re.findall(r"Images: (\d+) for training, (\d+) for validation", planned.out)
    (after,) = re.findall(r"trained on (\d+) images.*, validated on (\d+)", done.out)
    return [(int(train), int(val)) for train, val in (before, after)]

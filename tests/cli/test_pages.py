"""The commands in the README and in "Getting started" work in their order, on small images and a base."""

from __future__ import annotations

import re
import shlex
import zipfile
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

from fastcls.cli.main import cli
from fastcls.data.pillow_images import has_heif

ROOT = Path(__file__).parents[2]
# Lines of shell blocks, and commands in cells of tables; not those that need a cluster.
CALL = rf"fastcls (?:{'|'.join(cli.commands)}) (?!.*--executor ray).*"
COMMAND = re.compile(rf"^(?:\$ )?({CALL})$|^\|.*\| `({CALL})` \|$", re.MULTILINE)
# As little as keeps the machine from downloading weights and from computing for minutes.
REPLACED = {
    r"mobilenetv2|resnet50$": "lenet5",
    r"(extract|run) (.*--base lenet5)": r"\1 \2 --weights random --precision float32 --workers 1",
    r"^fastcls finetune": r"fastcls finetune --epochs 1",
    r"/nfs/": "",
}
LEAST = {"README.md": 6, "docs/getting-started.md": 14}


def commands(page: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    found = [match[1] or match[2] for match in COMMAND.finditer(text)]
    for pattern, replacement in REPLACED.items():
        found = [re.sub(pattern, replacement, command) for command in found]
    return found


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The images, tables and models that the pages speak of."""
    random, images = np.random.default_rng(0), []
    for number in range(60):
        image = random.integers(0, 120, (40, 50, 3), np.uint8)
        image[..., number % 3] += 60
        images.append(image)
    (tmp_path / "scenes").mkdir()
    (tmp_path / "train_images").mkdir()
    kaggle, scenes = ["id_code,diagnosis"], ["path,label"]
    for number, image in enumerate(images):
        flower, part = ("daisy", "roses", "tulips")[number % 3], "val" if number % 5 == 0 else "train"
        place(tmp_path / "photos" / flower / f"{number}.jpg", image)
        place(tmp_path / "split" / part / flower / f"{number}.jpg", image)
        place(tmp_path / "phone" / flower / f"IMG_{number}{'.HEIC' if has_heif() else '.jfif'}", image)
        place(tmp_path / "train_images" / f"{number:04x}.png", image)
        place(tmp_path / "scenes" / f"{1500 + number}.jpg", image)
        kaggle.append(f"{number:04x},{number % 3}")
        labels = "sea,sunset" if number % 4 == 0 else ("sea", "trees")[number % 2]
        scenes.append(f'{1500 + number}.jpg,"{labels}"')
    place(tmp_path / "photos" / "roses" / "10090824183_d02c613f10_m.jpg", images[1])
    (tmp_path / "train.csv").write_text("\n".join(kaggle))
    (tmp_path / "scenes.csv").write_text("\n".join(scenes))
    with zipfile.ZipFile(ROOT / "tests/bases/opening/keras2/tiny.zip") as archive:
        (tmp_path / "keras_model.h5").write_bytes(archive.read("m.h5"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def place(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".HEIC":
        import pillow_heif

        pillow_heif.from_pillow(PIL.Image.fromarray(image)).save(path)
        return
    path.write_bytes(cv2.imencode(".png" if path.suffix == ".png" else ".jpg", image)[1].tobytes())


@pytest.mark.parametrize("page", LEAST)
def test_pages__their_commands_work_in_order(page, folder, fastcls):
    given = commands(page)
    assert len(given) >= LEAST[page]
    for command in given:
        result = fastcls(*shlex.split(command)[1:])
        assert result.code == 0 and "Traceback" not in result.err, (command, result.err)

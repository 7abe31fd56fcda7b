"""The Python in the README and in docs is typed, and runs from top to bottom, page by page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import fastcls
from fastcls.backend import import_keras
from fastcls.bases import loader
from fastcls.data.decoder import pixel_rule

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SIZE = (224, 224)
# cv2.imread gives None where there is no file: snippets need not say so.
MYPY = """
[mypy]
follow_imports = silent
ignore_missing_imports = True
check_untyped_defs = True
warn_unreachable = True
[mypy-cv2.*]
follow_imports = skip
follow_imports_for_stubs = True
"""
# What a user may type, and what is refused before it runs.
TYPED = """
from pathlib import Path
from typing import assert_type

import numpy as np
import PIL.Image

import fastcls

cut = fastcls.CutSpec("resnet50", layer="conv4_block6_out")
assert_type(cut.base, fastcls.BaseSpec)
config = fastcls.TrainConfig(optimizer="AdamW", schedule="cosine")
assert_type(config.optimizer, fastcls.OptimizerSpec)
assert_type(config.schedule, fastcls.ScheduleSpec)
fastcls.TrainConfig(optimizer=fastcls.OptimizerSpec("SGD", momentum=0.9), loss=fastcls.LossSpec(l2=1e-4))
assert_type(fastcls.BaseSpec(Path("a.keras"), weights=Path("a.h5")).name, str)
for path in (Path("photos"), "photos"):
    fastcls.CutSpec(path), fastcls.CutSpec(fastcls.BaseSpec(path), "layer")
    fastcls.extract(path, path, path), fastcls.extract_several(path, [path, cut], path)
    fastcls.Classifier.join(path, fastcls.train_head(path, "knn")).test(path)
    fastcls.split(path), fastcls.write_split(path, path), fastcls.run(path, path, path)
    fastcls.finetune(path, path, head="linear")
    data = fastcls.Dataset.open(path, image_root=path)
    for base in (cut, "resnet50", path, fastcls.cut(path, "layer", pool="avg")):
        cache, extraction = fastcls.extract(data, base, path)
    assert_type(cache, fastcls.Cache)
    assert_type(extraction, fastcls.Extraction)
    fastcls.Cache(path), fastcls.Cache.find(path)
    trained = fastcls.train_head(cache, folder=path)
    assert_type(trained, fastcls.TrainedHead)
    classifier = fastcls.Classifier.join(cache, trained)
    classifier.save(path)
    assert_type(fastcls.Classifier.load(path), fastcls.Classifier)
    assert_type(classifier.test(data, path), fastcls.Tested)
    assert_type(fastcls.write_split(data, path), fastcls.SplitResult)
    assert_type(fastcls.load_base(path, weights=path), fastcls.Base)
    fastcls.finetune(data, path, folder=path).classifier.save(path)
    assert_type(fastcls.compare_bases(path, [path, cut], path), fastcls.BaseComparison)
    assert_type(fastcls.compare_runs([path, path]), fastcls.RunComparison)
    fastcls.run(data, path, path), fastcls.run(data, cut, path, head="knn", config=config, cache_root=path)
    assert_type(fastcls.explain(path, path, {"top_k": 2}), list[fastcls.Explanation])
image = np.zeros((8, 8, 3), np.uint8)
assert_type(classifier.predict("photos"), fastcls.Predictions)
assert_type(classifier.predict(image)[0].class_name, str | None)
for one in (Path("a"), b"bytes", image, PIL.Image.new("RGB", (8, 8))):
    classifier.predict(one), classifier.predict([one, "a"])
for result in classifier.stream(Path(str(number)) for number in range(3)):
    assert_type(result, fastcls.ImageResult)
"""
REFUSED = (
    "fastcls.CutSpec(3)",
    "fastcls.BaseSpec('x', weights=3)",
    "fastcls.train_head(3)",
    "fastcls.extract(3, 'x', 'x')",
    "fastcls.TrainConfig(optimizer=3)",
    "fastcls.Dataset.open(3)",
    "fastcls.Classifier.load('x').predict(3)",
    "fastcls.Classifier.load('x').class_nmaes",
    "fastcls.CutSpec('x').base.nmae",
    "fastcls.nothing",
)


def blocks(page: Path) -> str:
    return "\n\n".join(BLOCK.findall(page.read_text(encoding="utf-8")))


PAGES = {
    str(page.relative_to(ROOT)): blocks(page) for page in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
}
PAGES = {name: code for name, code in sorted(PAGES.items()) if code}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What mypy says of each page, and of the lines above."""
    folder = tmp_path_factory.mktemp("typed")
    refused = "import fastcls\n" + "".join(f"{line}\n" for line in REFUSED)
    sources = {**PAGES, "typed": TYPED, "refused": refused}
    names = {name: f"{re.sub('[^a-z]', '_', name.lower())}.py" for name in sources}
    for name, code in sources.items():
        (folder / names[name]).write_text(code, encoding="utf-8")
    (folder / "mypy.ini").write_text(MYPY, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", *names.values()]
    search = {**os.environ, "MYPYPATH": str(ROOT)}  # it does not see an editable installation
    lines = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env=search
    ).stdout.splitlines()
    return {name: [line for line in lines if line.startswith(f"{file}:")] for name, file in names.items()}


@pytest.mark.parametrize("page", [*PAGES, "typed"])
def test_snippets__are_typed(page, told):
    assert told[page] == []


def test_snippets__mistakes_are_seen_by_type_checkers(told):
    assert [int(line.split(":")[1]) for line in told["refused"]] == list(range(2, len(REFUSED) + 2))


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A folder with the photos and the run that the pages speak of; nothing is downloaded."""
    random = np.random.default_rng(0)
    for channel, name in enumerate(("blue", "green", "red")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(6):
            image = random.integers(0, 120, (40, 50, 3), np.uint8)
            image[..., channel] += 60  # OpenCV writes BGR
            cv2.imwrite(str(tmp_path / "photos" / name / f"{number}.jpg"), image)
    cv2.imwrite(str(tmp_path / "rose.jpg"), image)
    keras = import_keras()
    pixels = keras.Input((*SIZE, 3), dtype="uint8")
    x = keras.layers.Conv2D(4, 8, strides=8)(keras.layers.Rescaling(1 / 255)(pixels))
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(pixels, keras.layers.Dense(2, activation="softmax")(x))
    saved = fastcls.Classifier(model, ("a", "b"), pixel_rule(SIZE), {})
    saved.save(tmp_path / "runs" / "first" / "classifier.keras")
    build = loader.build

    def build_random(architecture, size, weights, **options):
        return build(architecture, size, None, **options)

    monkeypatch.setattr(loader, "build", build_random)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_snippets__run(page, world):
    pytest.importorskip("pandas")
    exec(compile(PAGES[page], page, "exec"), {"__name__": "__main__"})

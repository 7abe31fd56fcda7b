"""What was converted once needs no TensorFlow: a second `predict` or `test` starts at once."""

import json
import shutil
import subprocess
import sys

import pytest

pytest.importorskip("openvino")
SCRIPT = """
import sys
from fastcls.cli.main import main
try:
    main()
finally:
    heavy = [name for name in ("tensorflow", "keras", "sklearn") if name in sys.modules]
    print("loaded:", *heavy, file=sys.stderr)
"""


def in_a_process(*arguments):
    command = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def test_predict__the_second_time(fastcls, trained, photos):
    image = photos / "red" / "0.png"
    first = fastcls("predict", trained.run, image, "--json", "--top-k", 3)
    assert first.code == 0, first.err
    second = in_a_process("predict", trained.run, image, "--json", "--top-k", 3)
    assert second.stderr == "loaded:\n"
    ours, theirs = (
        {one["class"]: one["confidence"] for one in json.loads(text)["predictions"]}
        for text in (first.out, second.stdout)
    )
    assert ours == pytest.approx(theirs, abs=1e-4)


@pytest.mark.parametrize("more", [[], ["--through-model"]], ids=str)
def test_test__the_second_time(fastcls, trained, photos, tmp_path, more):
    data = shutil.copytree(photos, tmp_path / "data")
    for path in sorted(data.rglob("?.png")):  # 90 files: worth it
        shutil.copy(path, path.with_stem(f"{path.stem} again"))
    first = fastcls("test", trained.run, data, "--out", tmp_path / "one", *more)
    assert first.code == 0, first.err
    second = in_a_process("test", trained.run, data, "--out", tmp_path / "two", *more)
    assert second.stderr.splitlines()[-1] == "loaded:"
    figures = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two")]
    on = [each.pop("tested_on") for each in figures]
    assert figures[0] == figures[1] and on[0]["features"] == on[1]["features"]

"""What the tab key offers, as click asks for it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from click.shell_completion import BashComplete

from fastcls.bases.registry import ARCHITECTURES
from fastcls.cli.main import cli
from fastcls.specs import HEADS, POOLS


def offered(line):
    *words, incomplete = line.split(" ")
    complete = BashComplete(cli, {}, "fastcls", "_FASTCLS_COMPLETE")
    return [(item.type, item.value) for item in complete.get_completions(words, incomplete)]


@pytest.mark.parametrize("command", ["run --base", "finetune x --base", "layers", "import-weights"])
def test_bases_complete(command):
    expected = [name for name in ARCHITECTURES if name.startswith("mobi")]
    assert offered(f"{command} mobi") == [("plain", name) for name in expected] and "mobilenetv2" in expected


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("run --head ", HEADS),
        ("run --weights r", ["random"]),
        ("extract x --pool ", list(POOLS)),
        ("train-head x --threshold s", ["single"]),
        ("run --normalize t", ["tf", "torch"]),
        ("run --epochs ", []),
        ("pred", ["predict"]),
    ],
)
def test_values_complete(line, values):
    assert offered(line) == [("plain", value) for value in values]


@pytest.mark.parametrize(
    "line", ["run --base nets/a", "run --weights a.h", "run --cache b", "finetune x --from ru"]
)
def test_paths_complete(line):
    assert offered(line) == [("file", line.split()[-1])]


def test_completion__loads_nothing_heavy():
    asked = {"_FASTCLS_COMPLETE": "bash_complete", "COMP_WORDS": "fastcls run --base mobi", "COMP_CWORD": "3"}
    code = (
        "import atexit, sys; atexit.register(lambda: print(*sys.modules)); sys.argv = ['fastcls']\n"
        "from fastcls.__main__ import main; main()"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **asked}, capture_output=True, text=True, check=True
    ).stdout
    assert "plain,mobilenetv2\n" in told
    assert not {"tensorflow", "keras", "numpy", "cv2"} & {*told.split()}

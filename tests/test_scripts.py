"""The scripts, the sample run and the Dockerfiles. Nothing here installs or trains."""

from __future__ import annotations

import importlib
import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from sklearn.datasets import load_digits

from fastcls import machine
from fastcls.specs import EXECUTORS

ROOT = Path(__file__).parents[1]


@pytest.fixture
def run_script(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Runs a script in this process: another one would import for seconds."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def run(name: str, *arguments: str | Path) -> None:
        script = str(ROOT / "scripts" / name)
        monkeypatch.setattr("sys.argv", [script, *map(str, arguments)])
        runpy.run_path(script, run_name="__main__")

    return run


@pytest.fixture
def make_digits(run_script: Callable[..., None]) -> Callable[..., None]:
    """scripts/make_digits.py as a function."""
    return partial(run_script, "make_digits.py")


def run_bash(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["bash", *arguments]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)


def sample_train(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run_bash(ROOT / "sample_train.sh", *arguments)


def stat_files(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def test_make_digits__holds_the_pixels_of_sklearn(make_digits, tmp_path: Path) -> None:
    make_digits(tmp_path / "out")
    files = sorted((tmp_path / "out").rglob("*.png"), key=lambda path: path.name)
    samples = load_digits()
    assert [int(path.parent.name) for path in files] == samples.target.tolist()
    gray = np.stack([cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in files])
    assert gray.max() == 255
    assert np.array_equal(np.rint(gray * (16 / 255)), samples.images)


def test_make_digits__chooses_digits(make_digits, tmp_path: Path) -> None:
    make_digits(tmp_path / "out", "--digits", "5-7")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["5", "6", "7"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("digits", ["9-5", "5", "0-10", "a-b"])
def test_make_digits__refuses_a_wrong_range(make_digits, tmp_path: Path, capsys, digits: str) -> None:
    with pytest.raises(SystemExit) as stop:
        make_digits(tmp_path / "out", "--digits", digits)
    assert stop.value.code == 2
    assert repr(digits) in capsys.readouterr().err


def test_make_digits__leaves_its_own_folder_as_it_is(make_digits, tmp_path: Path) -> None:
    make_digits(tmp_path / "out", "--digits", "0-1")
    before = stat_files(tmp_path)
    make_digits(tmp_path / "out", "--digits", "0-1")
    assert stat_files(tmp_path) == before


def test_make_digits__refuses_a_foreign_folder(make_digits, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(SystemExit, match=re.escape(str(tmp_path))):
        make_digits(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_make_digits__refuses_a_folder_with_a_changed_image(make_digits, tmp_path: Path) -> None:
    make_digits(tmp_path / "out", "--digits", "0-1")
    next((tmp_path / "out" / "0").iterdir()).write_bytes(b"changed")
    with pytest.raises(SystemExit, match="other files"):
        make_digits(tmp_path / "out", "--digits", "0-1")


@pytest.fixture
def benchmarks(run_script: Callable[..., None]) -> SimpleNamespace:
    """Modules of the benchmark."""
    names = ("fresh", "limits")
    return SimpleNamespace(**{name: importlib.import_module(f"benchmarks.{name}") for name in names})


@pytest.fixture
def at_once(benchmarks: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the benchmark runs in processes of its own, it runs here: each would import TensorFlow."""

    class Here:
        pid = os.getpid()

        def __init__(self, command: list[str], **_: object) -> None:
            benchmarks.fresh._main(command[-2], Path(command[-1]))

        def wait(self) -> int:
            return 0

        def kill(self) -> None:
            pass

    threads = SimpleNamespace(Barrier=threading.Barrier, Pool=ThreadPool)
    monkeypatch.setattr(benchmarks.fresh, "subprocess", SimpleNamespace(Popen=Here))
    monkeypatch.setattr(benchmarks.limits, "multiprocessing", SimpleNamespace(get_context=lambda _: threads))
    monkeypatch.setattr(benchmarks.limits, "_SECONDS", 0.05)
    monkeypatch.setitem(EXECUTORS, "processes", EXECUTORS["processes"])  # it is watched
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_run_fresh__measures_another_process(
    benchmarks: SimpleNamespace, make_digits, tmp_path: Path
) -> None:
    make_digits(tmp_path / "digits", "--digits", "0-1")
    run = benchmarks.fresh.run_fresh(benchmarks.limits.decoding, photos=str(tmp_path / "digits"), side=8)
    assert not run.skipped and min(run.report["rate"], run.seconds, run.largest_mib) > 0
    wrong = benchmarks.fresh.run_fresh(benchmarks.limits.decoding, photos=str(tmp_path / "none"), side=8)
    assert str(tmp_path / "none") in wrong.skipped


@pytest.mark.usefixtures("at_once")
def test_benchmark__compares_contenders_on_the_same_images(
    make_digits, run_script, tmp_path: Path, capsys
) -> None:
    make_digits(tmp_path / "digits", "--digits", "0-1")
    report = tmp_path / "report.json"
    options = ["--base", "lenet5", "--weights", "none", "--images", "12", "--size", "64x48"]
    chosen = ["--part", "extract", "--contender", "earlier-loop", "--contender", "tensorflow-float32"]
    chosen += ["--contender", "torch", "--repeats", "1"]
    with pytest.raises(SystemExit) as ended:
        run_script("benchmark.py", tmp_path / "digits", "--json", report, *options, *chosen)
    assert not ended.value.code
    assert "- images: 12, 64x48 JPEG" in capsys.readouterr().out
    (extraction,) = json.loads(report.read_text())["tables"]
    ran = {row["contender"].split(",")[0].split(" (")[0]: row for row in extraction["rows"]}
    assert ran.keys() - {"PyTorch"} == {"loop of the earlier systems", "fastcls"}
    assert all(row["total seconds"]["median"] > 0 for row in extraction["rows"])
    assert ran["loop of the earlier systems"]["times the loop"] == 1
    assert ran["fastcls"]["engine alone, images/s"]["median"] > 0


def test_benchmark_gpu__measures_what_feeds_a_network(
    make_digits, run_script, monkeypatch, tmp_path: Path
) -> None:
    make_digits(tmp_path / "digits", "--digits", "0-1")
    monkeypatch.setattr(machine, "keep_freed_memory", lambda: None)  # which counts for all later tests
    report = tmp_path / "report.json"
    options = ["--base", "mobilenetv2", "--images", "24", "--threads", "1", "--batch-sizes", "8"]
    chosen = ["--part", "decoding", "--part", "threads", "--part", "workers", "--workers", "1"]
    with pytest.raises(SystemExit) as ended:
        run_script("benchmark_gpu.py", tmp_path / "digits", "--json", report, *options, *chosen)
    assert not ended.value.code
    decoding, threads, workers = json.loads(report.read_text())["tables"]
    assert decoding["rows"][0]["images/s"] > 0
    for (row,) in (threads["rows"], workers["rows"]):
        assert row["without a network"] > 0 and row["mobilenetv2"] > 0


def test_compare_accuracy__measures_heads_and_qualities_on_the_same_splits(
    make_digits, run_script, tmp_path: Path, capsys
) -> None:
    make_digits(tmp_path / "digits", "--digits", "0-1")
    base = "--base lenet5 --weights random --normalize torch --workers 1"
    report = tmp_path / "report.json"
    options = ["--seeds", "1", "--json", report, "--work", tmp_path / "work"]
    compare = partial(run_script, "compare_accuracy.py", f"two: {tmp_path / 'digits'} {base}", *options)
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        compare()
    done = capsys.readouterr()
    assert not ended.value.code, done.err
    found = json.loads(report.read_text())["done"]
    assert found.keys() == {"two/fast/0", "two/best/0", "two/heads/0"}
    heads = found["two/heads/0"]
    assert {"linear", "auto"} < heads.keys() and all(row["accuracy"] > 0.6 for row in heads.values())
    assert found["two/best/0"]["bytes"] > found["two/fast/0"]["bytes"] > 0
    assert f"| two | best | accuracy {100 * found['two/best/0']['accuracy']:.2f} |" in done.out
    with pytest.raises(SystemExit):
        compare()
    assert capsys.readouterr() == (done.out, "")  # nothing is measured twice


@pytest.mark.parametrize("script", ["sample_train.sh", ".ci/run"])
def test_shell_scripts__parse(script: str) -> None:
    assert run_bash("-n", ROOT / script).stderr == ""


def test_sample_train__explains_itself() -> None:
    result = sample_train("--help")
    assert result.returncode == 0
    for word in ("digits", "flowers", "test", "PYTHON", "FLOWERS", "WEIGHTS"):
        assert word in result.stdout


@pytest.mark.parametrize("arguments", [["roses"], ["digits", "flowers"]])
def test_sample_train__refuses_unknown_arguments(arguments: list[str]) -> None:
    result = sample_train(*arguments)
    assert result.returncode == 2
    assert result.stderr.startswith("Usage:")


def test_sample_train__names_a_missing_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON", "python-that-is-not-there")
    result = sample_train()
    assert result.returncode == 1
    assert "python-that-is-not-there" in result.stderr


def test_sample_train__keeps_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sample_train.sh", "setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\n[ "$1" = -m ] && exit 1\nexec "{sys.executable}" "$@"\n')  # it has no pip
    python.chmod(0o755)
    monkeypatch.setenv("PYTHON", sys.executable)

    result = run_bash(tmp_path / "sample_train.sh")

    assert result.returncode == 1
    assert "packages cannot be installed" in result.stderr
    assert "--clear" not in result.stdout


def test_dockerfiles__differ_in_nothing_but_cuda() -> None:
    cpu, gpu = (_instructions(ROOT / "docker" / name) for name in ("Dockerfile", "Dockerfile.gpu"))
    without_cuda = [
        line.replace(' "tensorflow[and-cuda]"', "").replace("(NVIDIA GPU)", "(CPU)") for line in gpu
    ]
    assert [line for line in without_cuda if "nvidia" not in line.lower()] == cpu


def _instructions(dockerfile: Path) -> list[str]:
    lines = (line.strip().removesuffix("\\").rstrip() for line in dockerfile.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]

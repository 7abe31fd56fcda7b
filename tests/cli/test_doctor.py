"""`fastcls doctor`: a report that is complete, names no user, and needs no extra."""

import configparser
import json
import re
from pathlib import Path

import numpy as np
import pytest

import fastcls as package
from fastcls import doctor
from fastcls.engines.trials import Trial, every_pair

SETUP = Path(__file__).parents[2] / "setup.cfg"


@pytest.fixture
def tried(monkeypatch):
    """What the engines are said to do: trying them takes seconds."""
    trials = [Trial(*pair, "" if pair[0] == "tensorflow" else "it is missing") for pair in every_pair()]
    monkeypatch.setattr(doctor, "try_engines", lambda: (trials, ["Tesla T4, compute capability 7.5"]))
    return trials


def test_doctor__prints_what_a_bug_report_needs(fastcls, tried, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = fastcls("doctor")
    assert result.code == 0 and not result.err
    assert result.out.startswith(f"fastcls {package.__version__}, Python 3.")
    assert f"numpy {np.__version__}" in result.out
    assert "Tesla T4, compute capability 7.5" in result.out
    assert re.search("tensorflow +float32 +works\n", result.out)
    assert re.search("openvino +float32 +it is missing\n", result.out)
    assert f"{tmp_path}/bottlenecks: no such folder" in result.out


def test_doctor__tries_the_engines_for_json(fastcls):
    found = json.loads(fastcls("doctor", "--json").out)
    assert {"engine": "tensorflow", "precision": "float32", "obstacle": ""} in found["engines"]
    assert found["cores"] >= 1 and found["memory"] > 0 and found["cpu"]


def test_doctor__does_not_name_the_user(fastcls, tried, tmp_path, monkeypatch):
    home = tmp_path / "home" / "alice"
    (home / ".keras" / "models").mkdir(parents=True)
    (home / ".keras" / "models" / "weights.h5").write_bytes(bytes(3 << 20))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("KERAS_HOME", str(home / ".keras"))
    tried.append(Trial("tensorflow", "float32", f"cannot read {home}/lib.so"))
    monkeypatch.chdir(home)
    out = fastcls("doctor").out
    assert "alice" not in out
    assert "~/.keras/models: 3.0 MiB, weights" in out and "cannot read ~/lib.so" in out


def test_doctor__missing_packages_are_no_error(fastcls, tried, monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda name: None)
    result = fastcls("doctor")
    assert result.code == 0 and "openvino (missing)" in result.out and "nncf missing" in result.out


def test_doctor__knows_every_extra():
    setup = configparser.ConfigParser()
    setup.read(SETUP)
    declared = {
        extra: [re.match(r"[\w-]+", line).group() for line in lines.strip().splitlines()]
        for extra, lines in setup["options.extras_require"].items()
        if extra not in ("all", "test", "docs", "notebook")
    }
    (everything,) = setup["options.extras_require"]["all"].strip().splitlines()
    assert everything == f"fastcls[{','.join(sorted(declared))}]"
    assert declared == {extra: list(packages) for extra, (packages, _) in doctor.EXTRAS.items()}

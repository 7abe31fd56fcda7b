import gc
import logging
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

from fastcls import files, home
from fastcls.cli import logs
from fastcls.evaluation import pictures

# Tests start hundreds of processes: each would compile fastcls again.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Objects between two searches for garbage, 700 by default: a test process traces networks all the time.
_GARBAGE = (20_000, 10, 10)
WHITE = cv2.imencode(".png", np.full((40, 60, 3), 255, np.uint8))[1].tobytes()
_frozen = []  # to count what is frozen takes 0.1 s


def pytest_configure():
    gc.set_threshold(*_GARBAGE)


def pytest_runtest_setup():
    """Once TensorFlow and Keras are there, no search for garbage looks at their million objects again."""
    if "keras" in sys.modules and not _frozen:
        gc.collect()
        gc.freeze()
        _frozen.append(True)


@pytest.fixture(scope="session", autouse=True)
def own_home(tmp_path_factory):
    """What is kept per machine is kept for the tests alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(home.VARIABLE, str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="session", autouse=True)
def quick_disk():
    """No test survives a power failure: to wait for the disk would take a tenth of the time or more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Pictures are made but not painted, which takes most of their time; where they are tested, they are."""

    def leave_white(figure, path):
        with files.atomic_path(path) as temporary:
            temporary.write_bytes(WHITE)

    monkeypatch.setattr(pictures, "_save", leave_white)


@pytest.fixture(autouse=True)
def log_levels():
    """A command says more of trainings and machines than the library; what it set ends with the test."""
    yield
    for name in (logs.THROUGHPUT, logs.TRAINING):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def s3():
    """An S3 server on this machine; the environment names it. See `storage_support`."""
    from storage_support import s3_server

    with s3_server() as server:
        yield server


@pytest.fixture
def web_server(monkeypatch):
    """A web server on this machine. See `storage_support`."""
    from storage_support import WebServer

    monkeypatch.setenv("no_proxy", "*")
    server = WebServer()
    yield server
    server.close()


@pytest.fixture
def mount():
    """Returns a function that mounts a file system for the test, or skips where that is not permitted."""
    mounted = []

    def mount_at(place, kind, options):
        place.mkdir(exist_ok=True)
        source = ["-t", kind, "none"] if kind == "tmpfs" else [kind]
        done = subprocess.run(["mount", "-o", options, *source, place], capture_output=True)
        if done.returncode:
            pytest.skip("mounting is not permitted here")
        if "remount" not in options:
            mounted.append(place)
        return place

    yield mount_at
    for place in reversed(mounted):
        subprocess.run(["umount", "-l", place], check=True)

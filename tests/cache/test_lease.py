"""Who may fill a cache, and who waits."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from fastcls.cache.lease import Leases

HOLD = """
import logging, sys, time
from pathlib import Path
from fastcls.cache.lease import Leases
logging.basicConfig()
with Leases() as leases:
    leases.take(map(Path, sys.argv[1:]))
    print("taken", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder():
    """Returns a function that starts a process which takes caches."""
    started = []

    def start(*folders):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, *map(str, folders)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_leases__the_second_process_waits_until_the_first_has_ended(holder, tmp_path):
    first = holder(tmp_path / "b", tmp_path / "a")
    assert first.stdout.readline() == "taken\n"
    second = holder(tmp_path / "a", tmp_path / "b")
    assert f"Another process is filling {tmp_path / 'a'}. Waiting" in second.stderr.readline()
    first.kill()
    assert second.stdout.readline() == "taken\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_leases__waiting_ends_when_interrupted(holder, tmp_path, number):
    first = holder(tmp_path / "a")
    assert first.stdout.readline() == "taken\n"
    second = holder(tmp_path / "a")
    assert "Waiting" in second.stderr.readline()
    second.send_signal(number)
    assert second.wait(timeout=10)
    assert first.poll() is None


def test_leases__tell_whether_others_may_have_changed_something(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    with Leases() as leases:
        assert leases.take([one]) and not leases.take([one]) and not leases.take([])
        assert leases.take([other])  # for a moment, nothing was held
        assert not leases.take([other, one])
        (one / "something").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["one"]  # nothing was put into the other


def test_leases__threads_that_take_and_remove_never_hold_one_together(tmp_path):
    holding, most = [], []

    def work():
        for _ in range(50):
            with Leases() as leases:
                leases.take([tmp_path / "cache"])
                holding.append(1)
                most.append(len(holding))
                holding.pop()

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work) for _ in range(4)]:
            done.result(timeout=60)
    assert len(most) == 200 and max(most) == 1 and not (tmp_path / "cache").exists()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_leases__a_file_system_without_locks_is_used_without(tmp_path, monkeypatch, code):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    start = time.monotonic()
    with Leases() as one, Leases() as other:
        assert one.take([tmp_path / "a"]) and other.take([tmp_path / "a"])
    assert time.monotonic() - start < 1

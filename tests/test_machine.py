"""What a machine and its control groups leave, on made-up trees of /proc and /sys."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from fastcls import machine

GIB = 1 << 30
MEMINFO = {"proc/meminfo": "MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\nHugePages_Total: 0\n"}
V2 = {"proc/self/cgroup": "0::/jobs/mine\n"}
V1 = {"proc/self/cgroup": "4:memory:/mine\n1:cpu,cpuacct:/mine\n0::/\n"}


@pytest.fixture
def make_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "_ROOT", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(6)), raising=False)

    def make(contents):
        for name, text in contents.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)

    return make


def group(folder, prefix="", **numbers):
    names = {"limit": "memory.max", "used": "memory.current"}
    if prefix:
        names = {"limit": "memory.limit_in_bytes", "used": "memory.usage_in_bytes"}
    stat = f"anon 5\n{prefix}inactive_file {GIB // 4}\n{prefix}active_file {GIB // 4}\n"
    texts = {f"sys/fs/cgroup/{folder}/{names[name]}": f"{number}\n" for name, number in numbers.items()}
    return texts | {f"sys/fs/cgroup/{folder}/memory.stat": stat}


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        ({}, 4 * GIB),  # nothing is told
        (MEMINFO, 4 * GIB),
        (MEMINFO | V2 | group("jobs/mine", limit="max", used=GIB), 4 * GIB),
        (MEMINFO | V2 | group("jobs/mine", limit=2 * GIB, used=GIB), 3 * GIB // 2),
        (
            MEMINFO | V2 | group("jobs/mine", limit="max", used=1) | group("jobs", limit=GIB, used=GIB),
            GIB // 2,
        ),
        (MEMINFO | V2 | group(".", limit=GIB, used=GIB // 2), GIB),  # a container: the path is the host's
        (MEMINFO | V2 | group("jobs/mine", limit=GIB, used=2 * GIB), 0),
        (MEMINFO | V1 | group("memory/mine", "total_", limit=GIB, used=GIB), GIB // 2),
        (MEMINFO | V1 | group("memory/mine", "total_", limit=(1 << 63) - 4096, used=GIB), 4 * GIB),
    ],
)
def test_available_memory__is_what_the_narrowest_limit_leaves(make_machine, contents, expected):
    make_machine(contents)
    assert machine.available_memory() == expected


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        ({}, 6),
        (V2 | {"sys/fs/cgroup/jobs/mine/cpu.max": "max 100000\n"}, 6),
        (V2 | {"sys/fs/cgroup/jobs/cpu.max": "250000 100000\n"}, 3),
        (V2 | {"sys/fs/cgroup/jobs/cpu.max": "50000 100000\n"}, 1),
        (
            V1
            | {"sys/fs/cgroup/cpu/mine/cpu.cfs_quota_us": "200000\n"}
            | {"sys/fs/cgroup/cpu/mine/cpu.cfs_period_us": "100000\n"},
            2,
        ),
        (
            V1
            | {"sys/fs/cgroup/cpu/mine/cpu.cfs_quota_us": "-1\n"}
            | {"sys/fs/cgroup/cpu/mine/cpu.cfs_period_us": "100000\n"},
            6,
        ),
    ],
)
def test_cores__are_what_affinity_and_quota_allow(make_machine, contents, expected):
    make_machine(contents)
    assert machine.cores() == expected


def test_machine__this_one_has_some_of_both():
    assert machine.available_memory() > 0 and machine.cores() >= 1


# Decodes photos in a thread; prints the page faults of each.
_DECODING = """
import resource, sys, threading
import cv2
import numpy as np
from fastcls import machine
from fastcls.data.decoder import decode
if sys.argv[1] == "kept":
    machine.keep_freed_memory()
photo = np.random.default_rng(0).integers(0, 256, (375, 500, 3), np.uint8)
data = cv2.imencode(".jpg", photo)[1].tobytes()
def faults(images):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    thread = threading.Thread(target=lambda: all(decode(data, (224, 224)).size for _ in range(images)))
    thread.start()
    thread.join()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / images
faults(10)
print(faults(200))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators have other options")
def test_keep_freed_memory__spares_decoding_new_pages() -> None:
    def faults(kind: str) -> float:
        command = [sys.executable, "-c", _DECODING, kind]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert faults("kept") < 30 < faults("returned")


class _Cuda:
    """The calls of libcuda that tell the free memory; `failing` returns an error."""

    def __init__(self, failing=""):
        self._failing, self.called = failing, []

    def __getattr__(self, name):
        def call(*arguments):
            self.called.append(name)
            if name == "cuMemGetInfo_v2":
                arguments[0]._obj.value = 7 * GIB
            return int(name == self._failing)

        return call


@pytest.mark.parametrize("failing", ["cuInit", "cuDeviceGet", "cuCtxPushCurrent_v2", "cuMemGetInfo_v2"])
def test_gpu_memory__is_unknown_where_the_driver_fails(monkeypatch, failing):
    monkeypatch.setattr("ctypes.CDLL", lambda name: _Cuda(failing))
    assert machine.gpu_memory() is None


def test_gpu_memory__leaves_the_context_as_it_was(monkeypatch):
    cuda = _Cuda()
    monkeypatch.setattr("ctypes.CDLL", lambda name: cuda)
    assert machine.gpu_memory() == 7 * GIB
    assert cuda.called[-2:] == ["cuCtxPopCurrent_v2", "cuDevicePrimaryCtxRelease_v2"]


def test_gpu_memory__is_unknown_without_a_driver(monkeypatch):
    def load(name):
        raise OSError(name)

    monkeypatch.setattr("ctypes.CDLL", load)
    assert machine.gpu_memory() is None

"""What of the machine this process may use, also inside a container."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path

# Memory of a machine that does not tell.
_UNKNOWN_BYTES = 1 << 32
_ROOT = Path("/")
# Parameters of glibc's mallopt(3), and values above the buffers of any image but the largest.
_MALLOC_OPTIONS = ((-3, 1 << 25), (-1, 1 << 28))  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
# Of a control group: limit, usage, and how the figures of the groups inside are marked; version 2, then 1.
_MEMORY_FILES = (
    ("memory.max", "memory.current", ""),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
)

# What decides the speed or the possibilities of an engine.
_FEATURES = (
    *("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "amx_fp16"),
    *("asimd", "asimdhp", "bf16", "i8mm"),  # ARM
)


def available_memory() -> int:
    """Bytes that this process can take before the machine swaps or a control group ends it.

    Files in the page cache count as free, as in the kernel's own estimate.
    """
    free = [_available_to_all(), *(_free_in(group) for group in _groups("memory"))]
    return max(0, min((number for number in free if number is not None), default=_UNKNOWN_BYTES))


def gpu_memory() -> int | None:
    """Free bytes of the first NVIDIA GPU that this process sees; None where nobody tells.

    What TensorFlow has reserved and not used counts as taken. It must have begun to use the GPU.
    """
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    device, context = ctypes.c_int(), ctypes.c_void_p()
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
        steps = (
            cuda.cuInit(0)
            or cuda.cuDeviceGet(ctypes.byref(device), 0)
            or cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
        )
        if steps:
            return None
        failed = cuda.cuCtxPushCurrent_v2(context)
        if not failed:
            failed = cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
            cuda.cuCtxPopCurrent_v2(ctypes.byref(context))
        cuda.cuDevicePrimaryCtxRelease_v2(device)
        return None if failed else free.value
    except (OSError, AttributeError):
        return None


def cores() -> int:
    """Cores that this process may keep busy: those it may run on, or fewer by a control group's quota."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([usable, *(math.ceil(quota) for quota in map(_quota, _groups("cpu")) if quota > 0)])


def keep_freed_memory() -> None:
    """Let this process use memory that it frees again, instead of handing it back to the system.

    Decoding a photo of 500x375 takes and frees more than a megabyte. When that is new memory each time, page
    faults cost a third of the time of decoding, and threads wait for each other. Has an effect with glibc.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        for option, value in _MALLOC_OPTIONS:
            libc.mallopt(option, value)


def cpu_name() -> str:
    """What the maker calls this CPU; its architecture where the system does not tell."""
    for line in _lines(_ROOT / "proc/cpuinfo"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    try:
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]  # macOS
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return platform.machine()


def cpu_flags() -> set[str]:
    """What this CPU can do, in the words of Linux; empty elsewhere."""
    # "flags" on x86, "Features" on ARM.
    lines = [line for line in _lines(_ROOT / "proc/cpuinfo") if line.startswith(("flags", "Features"))]
    return {word for line in lines[:1] for word in line.partition(":")[2].split()}


def cpu_features() -> list[str]:
    """Those features of this CPU that engines use; none where the system does not tell."""
    flags = cpu_flags()
    return [name for name in _FEATURES if name in flags]


def _available_to_all() -> int | None:
    kib = _table(_ROOT / "proc/meminfo").get("MemAvailable:")
    return None if kib is None else 1024 * kib


def _free_in(group: Path) -> int | None:
    for limit_file, usage_file, prefix in _MEMORY_FILES:
        limit, used = (_numbers(group / name) for name in (limit_file, usage_file))
        if limit and used:
            files = _table(group / "memory.stat")
            cached = sum(files.get(f"{prefix}{kind}_file", 0) for kind in ("active", "inactive"))
            return limit[0] - used[0] + cached
    return None


def _quota(group: Path) -> float:
    """Cores that a group may use; 0 or less for no limit."""
    old = [*_numbers(group / "cpu.cfs_quota_us"), *_numbers(group / "cpu.cfs_period_us")]
    both = _numbers(group / "cpu.max") or old
    return both[0] / both[1] if len(both) == 2 else 0.0


def _groups(controller: str) -> Iterator[Path]:
    """The control groups that this process is in, each inside the next."""
    for line in _lines(_ROOT / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            mount = _ROOT / "sys/fs/cgroup" / (controller if controllers else "")
            place = mount / path.lstrip("/")
            # In a container the path may be that of the host; the own group is then the mount itself.
            yield from (folder for folder in (place, *place.parents) if folder.is_relative_to(mount))


def _table(path: Path) -> dict[str, int]:
    """Lines of a name, a number and perhaps a unit."""
    words = (line.split() for line in _lines(path))
    return {line[0]: int(line[1]) for line in words if len(line) > 1 and line[1].isdigit()}


def _numbers(path: Path) -> list[int]:
    """The numbers of a one-line file; none where it is missing or says that there is no limit."""
    try:
        return [int(word) for line in _lines(path) for word in line.split()]
    except ValueError:
        return []


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []

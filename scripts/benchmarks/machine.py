"""What the figures depend on: the machine and the versions of what ran."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

from fastcls.machine import cores

_PACKAGES = (
    "fastcls", "tensorflow", "keras", "openvino", "nncf", "torch", "timm", "torchvision",
    "opencv-python-headless", "h5py", "numpy", "scikit-learn",
)  # fmt: skip
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8", "avx_vnni")


def describe() -> dict[str, str]:
    """Machine, system and versions by name."""
    return {
        "CPU": _cpu_field("model name") or platform.processor() or platform.machine(),
        "cores": str(cores()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "CPU flags": " ".join(flag for flag in _FLAGS if flag in _cpu_field("flags").split()) or "unknown",
        "system": platform.platform(),
        "Python": platform.python_version(),
        **{name: version for name in _PACKAGES if (version := _version(name))},
    }


def _cpu_field(name: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""

"""What a bug report needs: versions, machine, engines that work, extras, and where things are kept."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

import fastcls
from fastcls import home
from fastcls.cache.store import cache_folders
from fastcls.engines.trials import Trial, try_engines
from fastcls.machine import available_memory, cores, cpu_features, cpu_name
from fastcls.sizes import folder_size

PACKAGES = (
    *("tensorflow", "keras", "openvino", "h5py", "numpy", "opencv-python-headless", "pillow"),
    "scikit-learn",
)
# Name of the extra -> packages that it installs, and what it is for.
EXTRAS: dict[str, tuple[tuple[str, ...], str]] = {
    "int8": (("nncf",), "extraction and exports in int8"),
    "hub": (
        ("keras-hub", "safetensors", "sentencepiece", "tokenizers"),
        "bases of keras_hub and of Hugging Face",
    ),
    "heic": (("pillow-heif",), "photos in HEIC, as phones make them"),
    "litert": (("ai-edge-litert",), "running exports to LiteRT"),
    "onnx": (("onnx", "onnxruntime", "tf2onnx"), "exports to ONNX"),
    "pandas": (("pandas",), "tables as DataFrames"),
    "parquet": (("pyarrow",), "data sets in Parquet files"),
    "ray": (("ray",), "extraction on a Ray cluster"),
    "remote": (
        ("fsspec", "gcsfs", "huggingface_hub", "s3fs"),
        "images and caches in object stores",
    ),
    "safetensors": (("safetensors",), "import-weights from .safetensors"),
    "serve": (("fastapi", "python-multipart", "uvicorn"), "fastcls serve"),
    "torch": (("torch",), "import-weights from .pth"),
}
_SETTINGS = ("KERAS_BACKEND", "KERAS_HOME", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")


@dataclass(frozen=True)
class Extra:
    """An extra of fastcls.

    Attributes:
        name: As in `pip install '.[NAME]'`.
        purpose: What it is for.
        versions: Of its packages; None of one that is not installed.
    """

    name: str
    purpose: str
    versions: Mapping[str, str | None]


@dataclass(frozen=True)
class Place:
    """A folder that fastcls fills or reads.

    Attributes:
        path: Where it is; the home folder is written as "~".
        holds: What is in it.
        bytes: Size of all files below; None if there is no such folder.
    """

    path: str
    holds: str
    bytes: int | None


@dataclass(frozen=True)
class Checkup:
    """What was found.

    Attributes:
        fastcls: Its version.
        python: Its version.
        system: Operating system and C library.
        packages: Versions of the packages that fastcls needs; None of one that is missing.
        cpu: Name of the CPU.
        cpu_features: Those of its features that engines use; empty where the system does not tell.
        cores: How many this process may keep busy.
        memory: Bytes that this process can take.
        gpus: Those that TensorFlow sees.
        settings: Environment variables that change what is computed, where they are set.
        engines: Each engine in each precision, and what stands against it.
        extras: All of them.
        places: Where downloaded weights and caches are.
    """

    fastcls: str
    python: str
    system: str
    packages: Mapping[str, str | None]
    cpu: str
    cpu_features: Sequence[str]
    cores: int
    memory: int
    gpus: Sequence[str]
    settings: Mapping[str, str]
    engines: Sequence[Trial]
    extras: Sequence[Extra]
    places: Sequence[Place]


def examine(cache_root: Path = Path("bottlenecks")) -> Checkup:
    """Look at this machine and this installation; every engine forwards a tiny model.

    Args:
        cache_root: Folder of caches.
    """
    engines, gpus = try_engines()
    return Checkup(
        fastcls=fastcls.__version__,
        python=sys.version.split()[0],
        system=platform.platform(),
        packages={name: _version(name) for name in PACKAGES},
        cpu=cpu_name(),
        cpu_features=cpu_features(),
        cores=cores(),
        memory=available_memory(),
        gpus=gpus,
        settings={name: _hide_home(os.environ[name]) for name in _SETTINGS if name in os.environ},
        engines=[replace(trial, obstacle=_hide_home(trial.obstacle)) for trial in engines],
        extras=[
            Extra(name, purpose, {package: _version(package) for package in packages})
            for name, (packages, purpose) in EXTRAS.items()
        ],
        places=_places(cache_root),
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _places(cache_root: Path) -> list[Place]:
    user = Path.home()
    keras_home = Path(os.environ.get("KERAS_HOME") or user / ".keras")
    hub = Path(os.environ.get("KAGGLEHUB_CACHE") or user / ".cache/kagglehub")
    own = home.folder()
    caches = len(cache_folders(cache_root))
    held = {
        keras_home / "models": "weights that Keras has downloaded",
        hub: "presets that keras_hub has downloaded",
        **({own: f"what fastcls keeps per machine ({home.VARIABLE})"} if own else {}),
        cache_root.absolute(): f"{caches} cache{'s' * (caches != 1)} of bottlenecks (--cache)",
    }
    return [
        Place(_hide_home(str(path)), holds, folder_size(path) if path.is_dir() else None)
        for path, holds in held.items()
    ]


def _hide_home(text: str) -> str:
    """A text without the path of the home folder, which names the user."""
    home = str(Path.home())
    return text.replace(home, "~") if len(home) > 1 else text

"""A trunk as this machine keeps it: its models, its description, and what engines have made of it.

None of this depends on the images of a user: a new cache is opened by copying it, without TensorFlow.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

import fastcls
from fastcls import files, home, machine
from fastcls.cache import checked_files
from fastcls.cache.manifest import Figures, Manifest
from fastcls.engines import Engine, engine_class
from fastcls.engines.crops import crops
from fastcls.engines.trunk import Trunk
from fastcls.extraction.engine_choice import Candidate
from fastcls.extraction.fidelity import Fidelity, InfidelityError, compare, forward
from fastcls.specs import ENGINES

TRUNK, TAIL = "trunk.keras", "tail.keras"
_MANIFEST = "cut.json"
_NOTES = "notes.json"
_COMPARED = 16
_MAKERS = ("bases/**/*.py", "cutter.py", "graph.py", "engines/*.py")
_PACKAGES = ("fastcls", "keras", "tensorflow", "openvino")
logger = logging.getLogger(__name__)


class _Notes(TypedDict):
    float32_layers: tuple[str, ...]
    fidelity: Figures | None


class KeptTrunk:
    """A trunk that this machine keeps.

    Args:
        key: See `kept_key`.
        folder: Where it is.
        model: The trunk, where it is in memory.
    """

    def __init__(self, key: str, folder: Path, model: Any = None) -> None:
        self.folder = folder
        self._key, self._model = key, model

    @classmethod
    def find(cls, key: str) -> KeptTrunk | None:
        """The one of a key, if it is there."""
        folder = home.find("trunk", key)
        return cls(key, folder) if folder else None

    @classmethod
    def make(cls, key: str, manifest: Manifest, model: Any, tail: Any) -> KeptTrunk:
        """Keep a trunk.

        Args:
            key: See `kept_key`.
            manifest: What a cache of it would have, in float32.
            model: The trunk.
            tail: What follows it; None for nothing.
        """

        def save(folder: Path) -> None:
            for name, saved in ((TRUNK, model), (TAIL, tail)):
                if saved:
                    checked_files.keep(folder / name, saved.save, of="")
            files.write_json(folder / _MANIFEST, asdict(manifest))

        return cls(key, home.kept("trunk", key, save), model)

    @cached_property
    def manifest(self) -> Manifest:
        """What a cache of it would have, in float32."""
        return home.read(self.folder, _MANIFEST, Manifest)

    @property
    def trunk_bytes(self) -> int:
        """Size of the trunk's file."""
        return (self.folder / TRUNK).stat().st_size

    def is_prepared(self, candidate: Candidate) -> bool:
        """Whether what an engine loads is there, or is not kept here."""
        is_made = candidate in self._folders or not is_kept(candidate)
        return is_made or home.find("engine", self._engine_key(candidate)) is not None

    def prepare(self, candidate: Candidate) -> Path:
        """The folder of what an engine loads; it is made where it is not there.

        Raises:
            ConversionError: The engine cannot convert the trunk.
        """
        if candidate not in self._folders:
            key = self._engine_key(candidate)
            self._folders[candidate] = home.kept("engine", key, lambda place: self._make(candidate, place))
        return self._folders[candidate]

    def float32_layers(self, candidate: Candidate) -> tuple[str, ...]:
        """The layers that an engine runs in float32 whatever its precision.

        Raises:
            ConversionError: The engine cannot convert the trunk.
        """
        return self._notes(candidate)["float32_layers"] if is_kept(candidate) else ()

    def fidelity(self, candidate: Candidate) -> Figures | None:
        """How near an engine in float32 comes to Keras on images that are the same everywhere."""
        return self._notes(candidate)["fidelity"] if is_kept(candidate) else None

    def copy_engine(self, candidate: Candidate, trunk: Path) -> None:
        """Put what an engine loads beside a trunk, unless it is there and whole."""
        reason = engine_class(candidate.path).damage(trunk)
        if not reason:
            return
        copies: dict[int, Path] = {}  # by inode: engines share their weights
        for entry in sorted(self.prepare(candidate).iterdir()):
            if entry.is_dir():
                _copy_folder(entry, trunk.with_name(entry.name), reason, copies)

    def reference(self, candidate: Candidate) -> Callable[[np.ndarray], np.ndarray] | None:
        """What stands for Keras in float32: the same engine in float32, where it comes near enough."""
        exact = _in_float32(candidate)
        if not exact or exact == candidate:
            return None
        with contextlib.suppress(InfidelityError):
            figures = Fidelity.read(self.fidelity(exact))
            if figures:
                figures.require(exact.engine, exact.precision)
                return engine_class(exact.path)(self.prepare(exact) / TRUNK, machine.cores()).run
        return None

    def _notes(self, candidate: Candidate) -> _Notes:
        return home.read(self.prepare(candidate), _NOTES, _Notes)

    @cached_property
    def _folders(self) -> dict[Candidate, Path]:
        return {}

    def _make(self, candidate: Candidate, folder: Path) -> None:
        engine, exact = engine_class(candidate.path), _in_float32(candidate)
        for name in (TRUNK, checked_files.FILE):
            files.link_or_copy(self.folder / name, folder / name)
        if exact and exact != candidate:
            for entry in sorted(self.prepare(exact).iterdir()):
                if entry.is_dir():
                    shutil.copytree(entry, folder / entry.name, copy_function=files.link_or_copy)
        trunk = Trunk(folder / TRUNK, self._model)
        engine.prepare(trunk, _no_images)
        notes: dict[str, Any] = {"float32_layers": engine.float32_layers(trunk.path), "fidelity": None}
        if exact == candidate:
            notes["fidelity"] = asdict(_compare(engine, trunk, self.manifest.size))
        files.write_json(folder / _NOTES, notes)

    def _engine_key(self, candidate: Candidate) -> str:
        return files.json_digest([self._key, candidate.engine, candidate.precision, _machine()])


def kept_key(token: str) -> str:
    """What a trunk depends on.

    Args:
        token: Digest of the cut as it was asked for, or of what came of it.
    """
    return files.json_digest([token, _versions()])


def is_kept(candidate: Candidate) -> bool:
    """Whether what an engine makes of a trunk depends on nothing else: not on the user's images or code."""
    is_named = ENGINES.get(candidate.engine, {}).get(candidate.precision) == candidate.path
    return is_named and candidate.converts and not engine_class(candidate.path).is_calibrated


def _in_float32(candidate: Candidate) -> Candidate | None:
    """The same engine in float32; None where it is the reference itself, or there is none."""
    path = ENGINES.get(candidate.engine, {}).get("float32")
    if not path or engine_class(path).is_reference:
        return None
    exact = Candidate(candidate.engine, "float32", path, candidate.uses_gpu, candidate.converts)
    return exact if is_kept(exact) else None


def _compare(engine: type[Engine], trunk: Trunk, size: tuple[int, int]) -> Fidelity:
    images = crops(size, _COMPARED)
    rows = forward(engine(trunk.path, machine.cores()).run, images)
    return compare(rows, forward(trunk.run, images), are_yours=False)


def _no_images() -> np.ndarray:
    raise AssertionError("an engine that learns from the user's images is not kept per machine")


def _machine() -> Any:
    """What of a machine decides how near an engine comes to Keras."""
    return [sorted(machine.cpu_flags()) or machine.cpu_name(), _versions()]


@cache
def _versions() -> dict[str, str]:
    found = {"code": files.json_digest([files.file_digest(path) for path in _sources()])}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _sources() -> Iterator[Path]:
    """The modules that make a trunk and what engines load: while the version stays, they may change."""
    package = Path(fastcls.__file__).parent
    for name in _MAKERS:
        yield from sorted(package.glob(name))


def _copy_folder(source: Path, target: Path, reason: str, copies: dict[int, Path]) -> None:
    """Copy a folder; what was copied before is linked."""

    def copy(one: str, other: str) -> None:
        before = copies.get(Path(one).stat().st_ino)
        if before:
            files.link_or_copy(before, Path(other))
        else:
            shutil.copyfile(one, other)

    if target.exists():
        logger.warning("%s. It will be recreated", reason)
        shutil.rmtree(target)
    with files.atomic_folder(target) as temporary:
        shutil.copytree(source, temporary, dirs_exist_ok=True, copy_function=copy)
    copies.update({path.stat().st_ino: target / path.name for path in source.iterdir()})

"""Exports a classifier: writes each format, has it verified, and keeps what holds."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from fastcls import files, interrupts
from fastcls.backend import import_keras
from fastcls.data.dataset import Dataset
from fastcls.errors import ExportError
from fastcls.exporting import documents
from fastcls.exporting.checks import Checked, Reference
from fastcls.exporting.encoded import check_encoded
from fastcls.exporting.export_record import write_record
from fastcls.exporting.photos import open_photos
from fastcls.exporting.planner import ExportPlan, Target, find_target, plan_export
from fastcls.exporting.quiet import quiet
from fastcls.exporting.runtimes import find_export
from fastcls.exporting.source import Network, Source
from fastcls.exporting.verifier import needs_path, path_model, reference_of, verify
from fastcls.files import PathLike
from fastcls.specs import as_list
from fastcls.specs.exporting import FLOAT32, INT8, ExportCheckSpec, ExportSpec

THERE = "is there already"
logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Exported:
    """An export, or why there is none.

    Attributes:
        spec: Its format and precision.
        folder: Where it is; None of one that was not kept.
        status: "ok", "is there already", or what is wrong with it.
        record: What its export.json says; the figures of the check alone of one that was not kept.
    """

    spec: ExportSpec
    folder: Path | None
    status: str
    record: Mapping[str, Any]

    @property
    def check(self) -> Mapping[str, Any]:
        """Figures of its check; empty where it could not be written or run."""
        found: Mapping[str, Any] = self.record.get("check", {})
        return found


def export(
    run: PathLike,
    format: str | Sequence[str],
    *,
    precision: str | Sequence[str] = FLOAT32,
    out: PathLike | None = None,
    data: Dataset | PathLike | None = None,
    check_images: int = 32,
    bytes_input: bool = False,
    progress: bool = False,
) -> list[Exported]:
    """Write a classifier in other formats, and compare each with the Keras model on real images.

    Args:
        run: A run folder, or the file of a classifier.
        format: "onnx", "openvino", "litert", "savedmodel" or "graphdef", or several of them.
        precision: "float32", "float16" or "int8", or several of them.
        out: The folder for a folder of each; None for `exports` in the run.
        data: Images to check on and to calibrate int8 with; None for those of the run, by its cache.
        check_images: How many images each is checked on.
        bytes_input: Add a signature that takes encoded images to a SavedModel.
        progress: Show a bar on stderr.

    Returns:
        What became of each: one that differs too much is not kept, and has no folder.

    Raises:
        OptionError: Something cannot be exported as it is asked, or is in the place of an export.
        MissingExtraError: A package is not installed.
    """
    formats, precisions = as_list(format, "format", str), as_list(precision, "precision", str)
    specs = [ExportSpec(name, each) for name in formats for each in precisions]
    place, folder = files.as_path(run, "run"), None if out is None else files.as_path(out, "out")
    dataset = data if data is None or isinstance(data, Dataset) else open_photos(data)
    check = ExportCheckSpec(check_images=check_images, bytes_input=bytes_input)
    return export_planned(plan_export(place, specs, check, folder, dataset), progress=progress)


def export_planned(plan: ExportPlan, *, progress: bool = False) -> list[Exported]:
    """Carry out a plan."""
    if all(target.found for target in plan.targets):
        return [_there(target) for target in plan.targets]
    parent = plan.targets[0].folder.parent
    files.make_folder(parent)
    files.remove_leftovers(parent)
    with files.temporary_folder(parent) as scratch:
        exporter = _Exporter(plan, scratch)
        shown = tqdm(plan.targets, "export", leave=False, unit="format", disable=not progress)
        return [_there(target) if target.found else exporter.export(target) for target in shown]


def _there(target: Target) -> Exported:
    return Exported(target.spec, target.folder, THERE, target.found or {})


def _put(made: Path, target: Target, plan: ExportPlan) -> Target:
    """Move an export to its place. If another process was first, its export is kept, if it is the same."""
    try:
        made.rename(target.folder)
    except OSError:
        if not os.path.lexists(target.folder):
            raise
        return find_target(target.folder, target.spec, plan.digests, plan.check)
    return target


class _Exporter:
    """Writes into a temporary folder, and moves what holds to its place."""

    def __init__(self, plan: ExportPlan, scratch: Path) -> None:
        import_keras()
        self._plan, self._scratch = plan, scratch
        self._network = Network(plan.classifier.model)
        self._path_network = self._network
        if needs_path(plan.classifier, FLOAT32):
            self._path_network = Network(path_model(plan.classifier))
        self._reference = _reference(plan)
        # By format: its float32 conversion, by which other precisions are proved.
        self._paths: dict[str, Path] = {}
        if self._path_network is self._network:
            self._paths |= {each.spec.format: each.folder for each in plan.targets if _is_path(each)}

    def export(self, target: Target) -> Exported:
        """Write one, and keep it if it holds."""
        spec, folder = target.spec, self._scratch / target.folder.name
        try:
            self._write(self._network, spec, folder)
            path = self._path(spec) if needs_path(self._plan.classifier, spec.precision) else None
            checked = verify(folder, self._reference, path)
            encoded = self._check_encoded(folder) if self._has_bytes(spec) else None
        except ExportError as error:
            return Exported(spec, None, f"failed: {error}", {})
        record = {**self._record(spec, folder, checked), "image_bytes": encoded}
        if checked.failed:
            return Exported(spec, None, checked.told, record)
        write_record(folder, record)
        put = _put(folder, target, self._plan)
        files.sync(target.folder.parent)
        if spec.precision == FLOAT32 and path is None:
            self._paths[spec.format] = target.folder
        return _there(put) if put.found else Exported(spec, target.folder, checked.told, record)

    def _path(self, spec: ExportSpec) -> Path:
        if spec.format not in self._paths:
            folder = self._scratch / f"{spec.format}-path"
            self._write(self._path_network, ExportSpec(spec.format), folder)
            self._paths[spec.format] = folder
        return self._paths[spec.format]

    def _write(self, network: Network, spec: ExportSpec, folder: Path) -> None:
        plan = self._plan
        source = Source(network, documents.document(plan.classifier, spec, plan.digests), spec.precision)
        if spec.precision == INT8 and plan.calibration:
            source = replace(source, images=plan.calibration.pixels)
        if self._has_bytes(spec):
            source = replace(source, encoded=plan.classifier.pixels)
        folder.mkdir()
        try:
            with interrupts.held(), quiet(logger):  # out of C++ that is interrupted comes any exception
                spec.kind.write(source, folder)
        except OSError:  # the disk is full
            raise
        except Exception as error:  # converters raise anything where they do not know an operation
            self._require_room(error)
            logger.info("%s cannot be written", spec.name, exc_info=error)
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise ExportError(f"it cannot be written: {reason}") from error

    def _require_room(self, error: Exception) -> None:
        """C++ does not say that the disk is full; the plan has found room for more than this."""
        source, place = self._plan.classifier.source, self._scratch.parent
        assert source
        if shutil.disk_usage(place).free < source.stat().st_size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(place)) from error

    def _has_bytes(self, spec: ExportSpec) -> bool:
        return self._plan.check.bytes_input and spec.kind.takes_bytes

    def _check_encoded(self, folder: Path) -> dict[str, Any]:
        rule, reference = self._plan.classifier.pixels, self._reference
        with quiet(logger):
            return check_encoded(find_export(folder), self._plan.photos, rule, reference.probabilities)

    def _record(self, spec: ExportSpec, folder: Path, checked: Checked) -> dict[str, Any]:
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        plan = self._plan
        return {
            "format": spec.format,
            "precision": spec.precision,
            "digests": plan.digests,
            "files": {path.relative_to(folder).as_posix(): files.file_digest(path) for path in paths},
            "bytes": sum(path.stat().st_size for path in paths),
            "checked_on": plan.photos.told,
            "calibrated_on": plan.calibration.told if plan.calibration and spec.precision == INT8 else None,
            "check": checked.to_dict(),
            "versions": documents.versions(),
        }


def _is_path(target: Target) -> bool:
    return bool(target.found) and target.spec.precision == FLOAT32


def _reference(plan: ExportPlan) -> Reference:
    """What Keras says of the images, and what is known of them."""
    classifier, photos = plan.classifier, plan.photos
    labels = cached = None
    names = photos.labels or ()
    if names and {name for each in names for name in each} <= {*classifier.class_names}:
        labels = classifier.task.encode(names, classifier.class_names)
    if plan.source:
        rows = plan.source.probabilities(photos.digests)
        cached = rows if np.isfinite(rows).all() else None
    types = plan.source.types if plan.source else ()
    return reference_of(classifier, photos.pixels, labels=labels, cached=cached, cached_types=types)

"""What an export is asked for: all checks, before anything is written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fastcls import files
from fastcls.data.dataset import Dataset
from fastcls.errors import OptionError
from fastcls.evaluation.from_cache import CachedRun, cache_of
from fastcls.exporting import documents
from fastcls.exporting.export_record import ExportRecord, read_record
from fastcls.exporting.photos import Photos, known_photos, to_calibrate, to_check
from fastcls.exporting.runtimes import RUNTIMES, fault_of, is_export
from fastcls.exporting.verifier import needs_path
from fastcls.inference.classifier import Classifier
from fastcls.runs import Run, is_complete
from fastcls.sizes import format_bytes
from fastcls.specs.exporting import FLOAT32, INT8, ExportCheckSpec, ExportSpec
from fastcls.wording import count_of

EXPORTS = "exports"
_LEAST = 4  # images; fewer show no more than one would
_ROOM = 2  # times the classifier: int8 is written beside float32


@dataclass(frozen=True, eq=False)
class Target:
    """One export.

    Attributes:
        spec: Its format and precision.
        folder: Where it is to be.
        found: The record of the same one, where it is there already.
    """

    spec: ExportSpec
    folder: Path
    found: ExportRecord | None


@dataclass(frozen=True, eq=False)
class ExportPlan:
    """Everything that was checked and decided before an export.

    Attributes:
        classifier: What is exported.
        digests: Of what an export depends on.
        targets: To what.
        check: On how many images it is checked, and what it takes.
        photos: The images to check exports on.
        calibration: The images to calibrate int8 with; None where nothing is written in int8.
        source: The run with its cache; None where there is none.
    """

    classifier: Classifier
    digests: dict[str, str]
    targets: tuple[Target, ...]
    check: ExportCheckSpec
    photos: Photos
    calibration: Photos | None
    source: CachedRun | None

    def __str__(self) -> str:
        lines = [f"Export of {self.classifier.source}, checked on {count_of(len(self.photos), 'image')}"]
        if self.calibration:
            lines.append(f"int8 is calibrated on {count_of(len(self.calibration), 'image')}")
        lines += [f"  {each.folder}{' (is there already)' if each.found else ''}" for each in self.targets]
        return "\n".join(lines)


def plan_export(
    run: Path,
    specs: Sequence[ExportSpec],
    check: ExportCheckSpec,
    out: Path | None = None,
    dataset: Dataset | None = None,
) -> ExportPlan:
    """Check what is asked for.

    Args:
        run: A run folder, or the file of a classifier.
        specs: Formats and precisions.
        check: How exports are checked, and what they take.
        out: The folder for a folder of each; None for `exports` in the run.
        dataset: Images to check on and to calibrate with; None for those of the run.

    Raises:
        OptionError: There is no such classifier, another export is in its place, a format cannot hold it, or
            there are no images.
        MissingExtraError: A package is not installed.
    """
    if is_export(run) and not is_complete(run):
        raise OptionError(f"{run} is an export itself. Give the run that it was made of")
    classifier = Classifier.load(run)
    specs = list(dict.fromkeys(specs))
    _require_able(classifier, specs, check)
    digests = documents.digests(classifier)
    folder = out or _place(run)
    targets = tuple(find_target(folder / spec.name, spec, digests, check) for spec in specs)
    new = [target.spec for target in targets if not target.found]
    _require_room(folder, classifier, new)
    source = cache_of(Run.of(run)) if dataset is None else None
    photos, calibration = _photos(run, classifier, new, check, dataset or known_photos(source))
    return ExportPlan(classifier, digests, targets, check, photos, calibration, source)


def _require_able(classifier: Classifier, specs: Sequence[ExportSpec], check: ExportCheckSpec) -> None:
    if check.bytes_input and not any(spec.kind.takes_bytes for spec in specs):
        raise OptionError("--bytes-input has an effect on --format savedmodel alone. Remove it")
    for spec in specs:
        spec.kind.require(spec.format, spec.precision)
        if spec.name == "litert-int8" and needs_path(classifier, FLOAT32):
            raise OptionError(
                "A knn head cannot be exported to litert in int8: almost half of the images get other "
                "neighbors. Use --precision float16, or train a head of another kind, such as logreg"
            )


def _place(run: Path) -> Path:
    known = Run.of(run)
    if known is None:
        raise OptionError(f"{run} is in no run folder. Say where exports go with --out")
    return known.folder / EXPORTS


def find_target(folder: Path, spec: ExportSpec, digests: dict[str, str], check: ExportCheckSpec) -> Target:
    """An export that is to be in a folder, with what is there already.

    Raises:
        OptionError: Something else is there, or the export is of another classifier, damaged, or takes other
            inputs.
    """
    if not os.path.lexists(folder):
        files.require_writable(folder)
        return Target(spec, folder, None)
    record = read_record(folder, f"Choose another --out, or remove {folder} first")
    if record is None or (record["format"], record["precision"]) != (spec.format, spec.precision):
        raise files.is_taken(folder)
    if record["digests"] != digests:
        raise OptionError(
            f"{folder} is an export of another classifier, or of an earlier one of this run. Choose another "
            "--out, or remove it first"
        )
    if fault := fault_of(folder / RUNTIMES[spec.format].name):
        raise OptionError(f"{fault}. Choose another --out, or remove {folder} first")
    if spec.kind.takes_bytes and bool(record["image_bytes"]) != check.bytes_input:
        state = "with" if record["image_bytes"] else "without"
        raise OptionError(
            f"{folder} was made {state} --bytes-input. Choose another --out, or remove it first"
        )
    return Target(spec, folder, record)


def _require_room(folder: Path, classifier: Classifier, specs: Sequence[ExportSpec]) -> None:
    place = folder.absolute()
    while not place.is_dir():
        place = place.parent
    assert classifier.source
    needed = _ROOM * len(specs) * classifier.source.stat().st_size
    free = shutil.disk_usage(place).free
    if free < needed:
        raise OptionError(
            f"{folder} has {format_bytes(free)} left, and the exports may take {format_bytes(needed)}. Free "
            "some space, or choose another --out"
        )


def _photos(
    run: Path,
    classifier: Classifier,
    specs: Sequence[ExportSpec],
    check: ExportCheckSpec,
    dataset: Dataset | None,
) -> tuple[Photos, Photos | None]:
    if dataset is None:
        raise OptionError(
            f"The images of {run} are not known here, and each export is checked on some. Give --data"
        )
    photos = to_check(dataset, classifier, check.check_images if specs else 0)
    is_int8 = any(spec.precision == INT8 for spec in specs)
    calibration = to_calibrate(dataset, classifier) if is_int8 else None
    for each, purpose in ((photos, "to check exports on"), (calibration, "to calibrate int8 with")):
        if specs and each is not None and len(each) < _LEAST:
            raise OptionError(
                f"{dataset.given} has {count_of(len(each), 'readable image')} {purpose}, and {_LEAST} are "
                "needed. Give others with --data"
            )
    return photos, calibration

"""Runs exported classifiers with the runtime of their format alone: without Keras."""

from __future__ import annotations

import json
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fastcls import archives, files
from fastcls.backend import import_tensorflow, stderr_kept_for_errors
from fastcls.errors import FastclsError, OptionError
from fastcls.exporting.export_record import read_record
from fastcls.machine import cores
from fastcls.optional import require
from fastcls.run_record import read_described
from fastcls.runs import EXPORT_RECORD

# What travels with the model, as JSON: the name of a file, or of a property inside of the model.
MEMBER = "fastcls.json"
ONNX_KEY = "fastcls"
OPENVINO_KEYS = ("fastcls", "described")
INPUT, OUTPUT = "image", "probabilities"
Run = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Export:
    """An exported classifier, opened.

    Attributes:
        path: Its file; the folder of a SavedModel.
        format: A name in `RUNTIMES`.
        described: What travels with it: class names, task, thresholds, pixels, provenance; and, as "export",
            the format, the precision and the digest of the classifier that it was made of.
    """

    path: Path
    format: str
    described: dict[str, Any]
    _run: Run = field(repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def run(self, images: np.ndarray) -> np.ndarray:
        """Forward a batch.

        Args:
            images: (B, H, W, 3) uint8 RGB.

        Returns:
            Probabilities, (B, C) float32.
        """
        with self._lock:  # not every runtime may be called by two threads at once
            return np.asarray(self._run(images), np.float32)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of its images in pixels."""
        height, width = self.described["pixels"]["size"]
        return height, width


@dataclass(frozen=True)
class Runtime:
    """How a format is run.

    Attributes:
        name: Of the file, or of the folder of a SavedModel, in the folder of an export.
        open: Its path -> what travels with it as JSON, and what runs it.
    """

    name: str
    open: Callable[[Path], tuple[str | bytes, Run]]


def open_export(path: Path) -> Export:
    """Open an exported classifier.

    Args:
        path: Its file, whatever it is called, the folder of a SavedModel, or the folder that `fastcls export`
            has written. Where the record of the export is, the files must be those that it names.

    Raises:
        OptionError: There is none, it was not exported by fastcls, or it is damaged.
        MissingExtraError: The runtime of its format is not installed.
    """
    place = find_export(path)
    require_whole(place)
    export = open_unchecked(place)
    try:
        found = export.run(np.zeros((1, *export.size, 3), np.uint8))
        if found.shape != (1, len(export.described["class_names"])) or not np.isfinite(found).all():
            raise ValueError(f"a black image gives {found.tolist()}")
    except Exception as error:  # runtimes fail on a damaged file anywhere
        raise _unusable(place, error) from error
    return export


def open_unchecked(place: Path) -> Export:
    """Open what `find_export` has found, without a look at what it gives.

    Raises:
        OptionError: As there.
        MissingExtraError: As there.
    """
    name, more = format_of(place), _beside(place)
    if more and not more.is_file():
        raise OptionError(
            f"{place} needs {more.name} beside it, which `fastcls export` writes too. Copy both"
        )
    try:
        text, run = RUNTIMES[name].open(place)
        described = read_described(json.loads(text))
    except FastclsError:
        raise
    except Exception as error:  # runtimes fail on a damaged file anywhere
        raise _unusable(place, error) from error
    return Export(place, name, described, run)


def is_export(path: Path) -> bool:
    """Whether a path looks like an export, by names alone."""
    return bool(_candidates(path)) if path.is_dir() else path.suffix in _SUFFIXES and path.is_file()


def find_export(path: Path) -> Path:
    """The file of an export, or the folder of a SavedModel, in what a user gives.

    Raises:
        OptionError: There is none, or more than one.
    """
    if path.name == "saved_model.pb":
        path = path.parent
    found = _candidates(path) if path.is_dir() else [path] if path.is_file() else []
    if len(found) == 1 and (found[0].is_dir() or found[0].suffix in _SUFFIXES):
        return found[0]
    if found:
        names = ", ".join(each.name for each in found)
        fact = f"{path} holds {len(found)} models ({names})" if path.is_dir() else f"{path} is no export"
    else:
        fact = f"There is no export at {path}"
    kinds = ", ".join((*_SUFFIXES, "the folder of a SavedModel"))
    raise OptionError(f"{fact}. Give the folder that `fastcls export` has written, or one model: {kinds}")


def format_of(place: Path) -> str:
    """The format of what `find_export` has found."""
    return "savedmodel" if place.is_dir() else _SUFFIXES[place.suffix]


def parts(place: Path) -> list[Path]:
    """The files of what `find_export` has found."""
    if place.is_dir():
        return sorted(path for path in place.rglob("*") if path.is_file())
    more = _beside(place)
    return [place, more] if more and more.is_file() else [place]


def _beside(place: Path) -> Path | None:
    """The file without which this one is of no use; None where it holds all."""
    if place.is_dir():
        return None
    return {"openvino": place.with_suffix(".bin"), "graphdef": place.parent / MEMBER}.get(format_of(place))


def require_whole(place: Path) -> None:
    """Refuse an export whose files are not those that the record beside it names.

    Raises:
        OptionError: They are not.
    """
    if wrong := fault_of(place):
        raise OptionError(f"{wrong}. Export again")


def fault_of(place: Path) -> str:
    """Which file of an export is not the one that the record beside it names; "" where all are.

    Raises:
        OptionError: The record is damaged.
    """
    record = read_record(place.parent)
    named = record["files"] if record else {}
    if place.name not in {name.split("/")[0] for name in named}:
        return ""  # it was moved elsewhere, or renamed
    for name, digest in named.items():
        file = place.parent / name
        if not file.is_file() or files.file_digest(file) != digest:
            state = "damaged or was replaced" if file.is_file() else "gone"
            return f"{file} is {state}: it does not match {place.parent / EXPORT_RECORD}"
    return ""


def _candidates(folder: Path) -> list[Path]:
    if (folder / "saved_model.pb").is_file():
        return [folder]
    own = [folder / runtime.name for runtime in RUNTIMES.values()]
    found = [each for each in own if each.exists()]
    return found or sorted(each for each in folder.iterdir() if each.suffix in _SUFFIXES and each.is_file())


def _unusable(place: Path, error: Exception) -> OptionError:
    reason = " ".join(str(error).split())[:300]
    return OptionError(
        f"{place} is damaged, or was not exported by fastcls: {type(error).__name__}: {reason}"
    )


# The formats


def _open_onnx(place: Path) -> tuple[str, Run]:
    runtime = require("onnxruntime", purpose="Running an export to ONNX")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = cores(), 3
    session = runtime.InferenceSession(str(place), options, providers=["CPUExecutionProvider"])
    text = session.get_modelmeta().custom_metadata_map[ONNX_KEY]
    return text, lambda images: session.run([OUTPUT], {INPUT: images})[0]


def _open_openvino(place: Path) -> tuple[str, Run]:
    from fastcls.engines.openvino_core import core

    model = core().read_model(place)
    text = str(model.get_rt_info(list(OPENVINO_KEYS)).astype(str))
    # By default it computes in bfloat16 where the CPU can, whatever the precision of the file.
    hints = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": cores(),
    }
    compiled = core().compile_model(model, "CPU", hints)
    return text, lambda images: compiled({INPUT: images})[OUTPUT].copy()


def _open_litert(place: Path) -> tuple[bytes, Run]:
    runtime = require("ai_edge_litert.interpreter", purpose="Running an export to LiteRT")
    with zipfile.ZipFile(place) as archive:
        if wrong := archive.testzip():
            raise ValueError(f"the checksum of its {wrong} does not match")
        text = json.dumps(archives.read_json(archive, MEMBER)).encode()
    with stderr_kept_for_errors():  # it tells how it runs the model
        interpreter = runtime.Interpreter(str(place), num_threads=cores())
        interpreter.allocate_tensors()
    return text, _Interpreted(interpreter).run


class _Interpreted:
    """A LiteRT model, which is made anew for each other number of images."""

    def __init__(self, interpreter: Any) -> None:
        self._interpreter, self._shape = interpreter, ()
        (entry,), (end,) = interpreter.get_input_details(), interpreter.get_output_details()
        self._entry, self._end = entry["index"], end["index"]

    def run(self, images: np.ndarray) -> np.ndarray:
        if images.shape != self._shape:
            self._interpreter.resize_tensor_input(self._entry, images.shape, strict=True)
            self._interpreter.allocate_tensors()
            self._shape = images.shape
        self._interpreter.set_tensor(self._entry, images)
        self._interpreter.invoke()
        found: np.ndarray = self._interpreter.get_tensor(self._end)  # a copy
        return found


def _open_saved_model(place: Path) -> tuple[bytes, Run]:
    from fastcls.bases.stored_models import parse_saved_model, require_closed_graphs

    tf = import_tensorflow()
    require_closed_graphs([meta.graph_def for meta in parse_saved_model(place).meta_graphs])
    text = (place / "assets" / MEMBER).read_bytes()
    loaded = tf.saved_model.load(str(place))  # whose signatures live as long as it does

    def run(images: np.ndarray) -> np.ndarray:
        found = loaded.signatures["serving_default"](**{INPUT: tf.constant(images)})
        return np.asarray(found[OUTPUT])

    return text, run


def _open_graph(place: Path) -> tuple[bytes, Run]:
    from fastcls.bases.stored_models import require_closed_graphs

    tf = import_tensorflow()
    graph = tf.compat.v1.GraphDef.FromString(place.read_bytes())
    require_closed_graphs([graph])
    wrapped = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(graph, name=""), [])
    run = wrapped.prune(f"{INPUT}:0", f"{OUTPUT}:0")
    text = (place.parent / MEMBER).read_bytes()
    return text, lambda images: run(tf.constant(images)).numpy()


RUNTIMES: dict[str, Runtime] = {
    "onnx": Runtime("classifier.onnx", _open_onnx),
    "openvino": Runtime("classifier.xml", _open_openvino),
    "litert": Runtime("classifier.tflite", _open_litert),
    "savedmodel": Runtime("saved_model", _open_saved_model),
    "graphdef": Runtime("classifier.pb", _open_graph),
}
_SUFFIXES = {Path(each.name).suffix: name for name, each in RUNTIMES.items() if Path(each.name).suffix}

"""OpenVINO runs the trunk on CPUs: faster than TensorFlow at the same precision, and down to int8.

The trunk is converted once, normalization included, and kept beside it: workers do without
TensorFlow, whose import alone takes seconds.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from fastcls import files
from fastcls.cache import checked_files
from fastcls.engines import Engine, kernels, sensitivity
from fastcls.engines.fusion import fuse, has_attention, in_products
from fastcls.engines.openvino_core import core, import_openvino
from fastcls.engines.trunk import Trunk
from fastcls.errors import CacheError, ConversionError, InfidelityError, OptionError
from fastcls.optional import require
from fastcls.records import made
from fastcls.wording import count_of

_ROOM_BYTES = 1 << 20  # a disk with less is full
# Threads with images of their own wait for each other once a batch, in place of once an operation. So many
# images are in a batch by default: more streams would be idle.
_STREAMS = 8
logger = logging.getLogger(__name__)


class OpenVINOEngine(Engine):
    """Runs a trunk on batches of images, in float32.

    Args:
        trunk: A saved Keras model, RGB uint8 image (B, H, W, 3) -> bottleneck (B, ...), for which
            `prepare` was called.
        threads: Threads for inference, 0 for OpenVINO's choice.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        CacheError: What `prepare` made is damaged.
        ConversionError: OpenVINO cannot compile the trunk for this CPU.
    """

    converts = True
    _folder = "openvino"
    _hint = "f32"
    _capability = "FP32"

    def __init__(self, trunk: Path, threads: int = 0) -> None:
        import_openvino()
        checked_files.require_whole(*self._files(trunk))
        streams = min(threads or 1, _STREAMS)
        self._model = _compile_for(self.place(trunk), self._hint, threads, streams)
        self._requests = [self._model.create_infer_request() for _ in range(streams)]

    @classmethod
    def require(cls) -> None:
        """Raise OptionError on a CPU that does not compute in this precision natively."""
        if cls._capability not in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise OptionError(f"this CPU has no native {cls._capability} support in OpenVINO")

    @classmethod
    def prepare(cls, trunk: Trunk, read_images: Callable[[], np.ndarray]) -> None:
        """Make the file that the engine loads, if it is not there yet.

        Raises:
            ConversionError: OpenVINO does not know an operation of the trunk.
        """
        if cls.damage(trunk.path):
            model = _convert(trunk)
            cls._save(lambda place: _write(model, place), trunk.path)

    def run(self, images: np.ndarray) -> np.ndarray:
        """Forward a batch, a part of it in each stream.

        Args:
            images: (B, H, W, 3) uint8 RGB.

        Returns:
            (B, ...) float32.
        """
        parts = np.array_split(images, min(len(self._requests), len(images)))
        requests = self._requests[: len(parts)]
        for request, part in zip(requests, parts, strict=True):
            request.start_async([part], share_inputs=True)
        for request in requests:
            request.wait()
        return np.concatenate([request.get_output_tensor(0).data for request in requests])

    @classmethod
    def place(cls, trunk: Path) -> Path:
        """The file that the engine loads."""
        return trunk.with_name(cls._folder) / "trunk.xml"

    @classmethod
    def damage(cls, trunk: Path) -> str:
        """What is wrong with what `prepare` made; "" when it is whole."""
        return checked_files.damage(*cls._files(trunk))

    @classmethod
    def _files(cls, trunk: Path) -> tuple[Path, ...]:
        place = cls.place(trunk)
        return place, place.with_suffix(".bin")

    @classmethod
    def _save(cls, write: Callable[[Path], None], trunk: Path) -> None:
        """Put a model where the engine finds it, in place of a damaged one.

        Args:
            write: Writes the model's files: the .xml to the path that it is given, the others beside it.
            trunk: The trunk.
        """
        place = cls.place(trunk)
        if place.parent.exists():
            logger.warning("%s. It will be recreated", cls.damage(trunk))
            shutil.rmtree(place.parent)
        try:
            with files.atomic_folder(place.parent) as temporary:
                write(temporary / place.name)
                checked_files.note_all(temporary)
        except OSError:
            if cls.damage(trunk):  # else another process was first, where there are no leases
                raise


class SixteenBitEngine(OpenVINOEngine):
    """Computes in 16 bits, but for the few layers that rounding disturbs most: they stay in float32."""

    _precision = ""

    def __init__(self, trunk: Path, threads: int = 0) -> None:
        super().__init__(trunk, threads)
        lost = set(self._choice(trunk).ids) - kernels.float32_ids(self._model)
        if lost:
            raise ConversionError(f"OpenVINO computes {', '.join(sorted(lost))} in {self._precision} here")

    @classmethod
    def prepare(cls, trunk: Trunk, read_images: Callable[[], np.ndarray]) -> None:
        """Choose the layers that stay in float32, unless that was done before.

        Raises:
            ConversionError: OpenVINO does not know an operation of the trunk.
            InfidelityError: However they are chosen, the bottlenecks move too far.
        """
        OpenVINOEngine.prepare(trunk, read_images)
        if cls.damage(trunk.path):
            cls._save(lambda place: cls._choose(trunk, place), trunk.path)

    @classmethod
    def float32_layers(cls, trunk: Path) -> tuple[str, ...]:
        """The layers that stay in float32: their kind and their place among the convolutions and products.

        Raises:
            CacheError: What `prepare` made is damaged.
        """
        checked_files.require_whole(*cls._files(trunk))
        return cls._choice(trunk).layers

    @classmethod
    def _choice(cls, trunk: Path) -> sensitivity.Choice:
        path = _choice_path(cls.place(trunk))
        try:
            return made(sensitivity.Choice, files.read_json(path))
        except ValueError as error:
            raise CacheError(
                f"{path} is damaged: {error}. Delete this file and run the same `fastcls extract` again: it "
                "recreates the file, and no bottleneck is lost"
            ) from error

    @classmethod
    def _files(cls, trunk: Path) -> tuple[Path, ...]:
        return (*super()._files(trunk), _choice_path(cls.place(trunk)))

    @classmethod
    def _choose(cls, trunk: Trunk, place: Path) -> None:
        """Write the trunk with its sensitive layers marked; its weights are those of the exact one."""
        exact = OpenVINOEngine.place(trunk.path)
        choice = sensitivity.choose_float32(exact, cls._hint, _compile_for, place, trunk.float32_layers)
        if not choice.error <= sensitivity.LIMIT:
            kept = count_of(len(choice.layers), "layer")
            raise InfidelityError.of(
                f"openvino in {cls._precision} is too far from float32 at this cut: median relative error "
                f"{choice.error:.3g} on crops of sample photos with {kept} in float32; allowed is "
                f"{sensitivity.LIMIT:g}"
            )
        files.link_or_copy(exact.with_suffix(".bin"), place.with_suffix(".bin"))
        files.write_json(_choice_path(place), asdict(choice))


class Bfloat16Engine(SixteenBitEngine):
    """Computes in bfloat16, on CPUs that have it (AVX-512 BF16 or AMX)."""

    _folder = "openvino-bfloat16"
    _precision = "bfloat16"
    _hint = "bf16"
    _capability = "BF16"


class Float16Engine(SixteenBitEngine):
    """Computes in float16, on CPUs that have it (AMX FP16, ARM)."""

    _folder = "openvino-float16"
    _precision = "float16"
    _hint = "f16"
    _capability = "FP16"


class Int8Engine(OpenVINOEngine):
    """Computes in int8, with weights and activations quantized after training by NNCF.

    The ranges of the activations, and a correction of the biases for what rounding does to the mean of
    each channel, come from images of the user; so the file is part of what a bottleneck depends on.
    """

    _folder = "openvino-int8"
    _capability = "INT8"
    is_calibrated = True

    @classmethod
    def require(cls) -> None:
        """Raise OptionError or MissingExtraError where NNCF or native int8 is missing."""
        super().require()
        require("nncf", purpose="The precision int8")

    @classmethod
    def prepare(cls, trunk: Trunk, read_images: Callable[[], np.ndarray]) -> None:
        """Quantize the trunk on images (N, H, W, 3) uint8, unless that was done before."""
        if not cls.damage(trunk.path):
            return
        quantized = quantize(_convert(trunk), read_images())
        _compile(quantized, {})
        cls._save(lambda place: _write(quantized, place), trunk.path)


def quantize(model: Any, images: np.ndarray) -> Any:
    """An OpenVINO model with weights and activations in int8.

    Of a transformer, attention and normalization stay as they are, and what is large in few channels of the
    activations is moved into the weights (SmoothQuant, https://arxiv.org/abs/2211.10438).

    Args:
        model: It takes images; it may be changed.
        images: (N, H, W, 3) uint8, to find the ranges of activations on.

    Raises:
        MissingExtraError: NNCF is not installed.
        ConversionError: It does not know an operation of the model.
    """
    nncf = require("nncf", purpose="The precision int8")
    advanced = require("nncf.quantization.advanced_parameters", purpose="The precision int8")
    # Not by its own function, which also changes handlers that others have added.
    logging.getLogger("nncf").setLevel(logging.ERROR)
    is_transformer = has_attention(model)
    try:
        with contextlib.redirect_stdout(None):  # bars
            return nncf.quantize(
                model,
                nncf.Dataset([image[None] for image in images]),
                subset_size=len(images),
                model_type=nncf.ModelType.TRANSFORMER if is_transformer else None,
                fast_bias_correction=is_transformer,
                # By default depthwise convolutions get a range for each channel of their input, which
                # this CPU does not compile everywhere, and which comes no nearer to float32.
                advanced_parameters=advanced.AdvancedQuantizationParameters(
                    activations_quantization_params=advanced.QuantizationParameters(per_channel=False)
                ),
            )
    except Exception as error:  # whatever NNCF raises, it does not know an operation
        raise ConversionError(f"NNCF cannot quantize this network: {_reason(error)}") from error


def _convert(trunk: Trunk) -> Any:
    openvino, graph = import_openvino(), trunk.graph
    try:
        with contextlib.redirect_stdout(None):  # it reports there wherever a command line says --verbose
            model = openvino.convert_model(graph)
            fuse(model)
            return model
    except Exception as error:  # whatever the converter raises, it does not know an operation
        raise ConversionError(f"OpenVINO cannot convert this trunk: {_reason(error)}") from error


def _compile_for(model: Any, hint: str, threads: int = 0, streams: int = 1) -> Any:
    """Compile a model, or that of a file, for a precision; 0 threads for OpenVINO's choice."""
    options: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": hint,
        "NUM_STREAMS": streams,
        # Else each of several workers pins its threads to the same first cores.
        "ENABLE_CPU_PINNING": False,
    }
    if threads:
        options["INFERENCE_NUM_THREADS"] = threads
    return _compile(model, options)


def _compile(model: Any, options: dict[str, Any]) -> Any:
    try:
        model = core().read_model(model) if isinstance(model, Path) else model
        return core().compile_model(in_products(model), "CPU", options)
    except Exception as error:  # whatever the plugin raises, it lacks an operation, or the file is damaged
        raise ConversionError(f"OpenVINO cannot compile this trunk: {_reason(error)}") from error


def _choice_path(place: Path) -> Path:
    return place.with_name("float32-layers.json")


def _reason(error: Exception) -> str:
    """The last line of an error's text: before it, OpenVINO tells where in its code it was."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1][:300]


def _write(model: Any, path: Path) -> None:
    """Save a model; raises OSError when the disk is full, or fails."""
    try:
        import_openvino().save_model(model, path, compress_to_fp16=False)
    except RuntimeError as error:  # of C++ streams, which do not tell why
        is_full = shutil.disk_usage(path.parent).free < _ROOM_BYTES
        code = errno.ENOSPC if is_full else errno.EIO
        raise OSError(code, f"OpenVINO cannot write ({error})") from error

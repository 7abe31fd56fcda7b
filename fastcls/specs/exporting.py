"""What a run is exported to."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

from fastcls.errors import MissingExtraError, OptionError
from fastcls.optional import resolve
from fastcls.specs.checks import check_choice
from fastcls.specs.option import option, required
from fastcls.specs.options import described, settle

FLOAT32, FLOAT16, INT8 = EXPORT_PRECISIONS = ("float32", "float16", "int8")


@dataclass(frozen=True)
class FormatKind:
    """A format of exports.

    Attributes:
        path: The function that writes it, "module:function": see `fastcls.exporting.formats`.
        precisions: In which it is written, float32 first.
        packages: Modules that write and run it; the packages to install are named like them.
        quantizer: More of them, for int8.
        takes_bytes: Whether it can take encoded images too.
    """

    path: str
    precisions: tuple[str, ...] = (FLOAT32,)
    packages: tuple[str, ...] = ()
    quantizer: tuple[str, ...] = ()
    takes_bytes: bool = False

    @property
    def write(self) -> Callable[..., None]:
        """The function that writes it."""
        found: Callable[..., None] = resolve(self.path)
        return found

    def require(self, name: str, precision: str) -> None:
        """Refuse what cannot be written here.

        Args:
            name: Its name.
            precision: One of its precisions.

        Raises:
            MissingExtraError: A package that it needs is not installed.
        """
        missing = [module for module in self._needed(precision) if not importlib.util.find_spec(module)]
        if missing:
            packages = " ".join(module.replace("_", "-") for module in missing)
            raise MissingExtraError(
                f"--format {name} --precision {precision} needs packages that are not installed. Install "
                f"them with: pip install {packages}"
            )

    def _needed(self, precision: str) -> tuple[str, ...]:
        return (*self.packages, *self.quantizer) if precision == INT8 else self.packages


_WRITERS = "fastcls.exporting.formats"
# A format is one entry.
FORMATS = {
    "onnx": FormatKind(
        f"{_WRITERS}.onnx:write",
        (FLOAT32, FLOAT16),
        ("onnx", "tf2onnx", "onnxruntime"),
    ),
    "openvino": FormatKind(f"{_WRITERS}.openvino:write", EXPORT_PRECISIONS, ("openvino",), ("nncf",)),
    "litert": FormatKind(f"{_WRITERS}.litert:write", EXPORT_PRECISIONS, ("ai_edge_litert",)),
    "savedmodel": FormatKind(f"{_WRITERS}.savedmodel:write", takes_bytes=True),
    "graphdef": FormatKind(f"{_WRITERS}.graphdef:write"),
}


@described
@dataclass(frozen=True)
class ExportSpec:
    """A format, and its precision."""

    format: str = required("Format to write; give it several times for several.", choices=FORMATS)
    precision: str = option(
        FLOAT32,
        "Of the weights (float16), or of weights and computation (int8, of openvino and litert); give it "
        "several times for several.",
        choices=EXPORT_PRECISIONS,
    )

    def __post_init__(self) -> None:
        settle(self)
        check_choice("format", self.format, FORMATS)
        known = FORMATS[self.format].precisions
        if self.precision not in known:
            raise OptionError(
                f"{self.format} is written in {' or '.join(known)}. Received: --precision {self.precision}"
            )

    @property
    def kind(self) -> FormatKind:
        """What is known of the format."""
        return FORMATS[self.format]

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.format}-{self.precision}"


@described
@dataclass(frozen=True)
class ExportCheckSpec:
    """On which images exports are checked, and what they take."""

    data: str | None = option(
        None,
        "Images to check exports on and to calibrate int8 with: what `fastcls test` takes, or a folder of "
        "images without classes.",
        metavar="DATA",
        shown="those of the run, by its cache",
    )
    check_images: int = option(32, "How many images an export is checked on.", low=4, high=10_000)
    bytes_input: bool = option(
        False,
        "savedmodel: a second signature, image_bytes, that takes encoded JPEG and PNG files and makes the "
        "pixels of fastcls of them.",
    )

    def __post_init__(self) -> None:
        settle(self)

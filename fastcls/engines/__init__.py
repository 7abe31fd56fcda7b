"""Engines run the trunk on a batch: images (B, H, W, 3) uint8 -> bottlenecks (B, ...) float32.

`specs.ENGINES` is the table of those that have a name.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import platform
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fastcls import machine
from fastcls.optional import resolve
from fastcls.specs import ENGINES

if TYPE_CHECKING:
    from fastcls.engines.trunk import Trunk


class Engine:
    """What runs the trunk on a batch, in one precision; what others must know of it, it says itself.

    Args:
        trunk: A saved Keras model, RGB uint8 image (B, H, W, 3) -> bottleneck (B, ...), for which `prepare`
            was called.
        threads: Threads for one batch; 0 for the engine's choice.

    Attributes:
        uses_gpu: Whether it runs on the GPUs of a machine that has some.
        converts: Whether it converts the trunk, which may fail; an engine that does not then replaces it.
        is_calibrated: Whether it learns from images of the user what its rows then depend on.
        is_reference: Whether its rows are kept without a comparison with Keras in float32.
    """

    uses_gpu = False
    converts = False
    is_calibrated = False
    is_reference = False

    def __init__(self, trunk: Path, threads: int = 0) -> None:
        raise NotImplementedError

    def run(self, images: np.ndarray) -> np.ndarray:
        """Forward (B, H, W, 3) uint8 RGB images to (B, ...) float32 bottlenecks."""
        raise NotImplementedError

    @classmethod
    def require(cls) -> None:
        """Raise OptionError or MissingExtraError where this machine or installation cannot run it."""

    @classmethod
    def prepare(cls, trunk: Trunk, read_images: Callable[[], np.ndarray]) -> None:
        """Make, once per cache, the files beside the trunk that the engine loads.

        Args:
            trunk: The trunk.
            read_images: Reads images (N, H, W, 3) uint8; called only by those who learn from them.

        Raises:
            ConversionError: The engine does not know an operation of the trunk.
        """

    @classmethod
    def damage(cls, trunk: Path) -> str:
        """What is wrong with what `prepare` made; "" when it is whole."""
        return ""

    @classmethod
    def float32_layers(cls, trunk: Path) -> tuple[str, ...]:
        """The layers of what `prepare` made that compute in float32 whatever the precision."""
        return ()

    @classmethod
    def memory(cls, trunk_bytes: int) -> int:
        """Peak memory of a worker process in bytes, for a trunk file of a given size.

        OpenVINO takes 0.2 GiB with MobileNetV2, 0.4 GiB with ResNet50.
        """
        return (300 << 20) + 3 * trunk_bytes


def engines_of(precision: str) -> list[str]:
    """Names of the engines that compute in a precision, the fastest on CPUs first."""
    return [name for name, classes in ENGINES.items() if precision in classes]


def engine_class(path: str) -> type[Engine]:
    """The class that a "module:class" names.

    Raises:
        OptionError: It cannot be imported.
    """
    found: type[Engine] = resolve(path)
    return found


@functools.cache
def made_by(path: str) -> str:
    """What rows are made with here: an engine, its version, and what the CPU can do.

    Rows of other kinds are equal within the bound of the precision, not bit for bit.

    Args:
        path: The engine, as "module:class".
    """
    told = [path.partition(":")[2]]
    for name in [name for name, classes in ENGINES.items() if path in classes.values()]:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            told.append(f"{name} {importlib.metadata.version(name)}")
    features = machine.cpu_features() or [platform.machine()]
    return f"{' '.join(told)} on {', '.join(features)}"

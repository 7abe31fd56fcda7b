"""Which layers of a trunk stay in float32 when the rest is computed in 16 bits: the most sensitive.

What an early layer gets wrong is amplified by all that follow, and float32 costs little where a layer moves
more than it multiplies. So an estimate ranks the first kernels, and each step is measured on fixed crops: the
choice depends neither on the user's images nor on a clock.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fastcls.engines.crops import COUNT, crops
from fastcls.engines.kernels import (
    Kernel,
    cost_of_float32,
    float32_ids,
    kernels_of,
    mark_precise,
    relative_errors,
    rounding_model,
)
from fastcls.engines.openvino_core import core

LIMIT = 0.06  # of the median relative error on the crops
_AIM = 0.05  # until which layers are added: some photos are harder than the crops
_MOST_COST = 0.1  # of the time
_LEAST_GAIN = 0.05  # share of the error that a layer must take away, on any machine
_RANKED = 16
_TRIES = 6
_ESTIMATED = 4  # crops
_FEWEST, _MULTIPLY_ADDS = 8, 20e9  # crops: fewer where a trunk is slow
_SIDE = 224  # of the crops, where a trunk takes any size
_BATCH = 7  # leaves a rest, so that batches of two sizes are tried


@dataclass(frozen=True)
class Choice:
    """What stays in float32.

    Attributes:
        layers: Names of the kernels, in the order in which they are computed.
        ids: What OpenVINO calls them.
        error: Median relative error on the crops that is left.
        cost: The share of the time that float32 takes.
    """

    layers: tuple[str, ...]
    ids: tuple[str, ...]
    error: float
    cost: float


def choose_float32(
    ir: Path,
    hint: str,
    compile_model: Callable[..., Any],
    marked: Path,
    layers: tuple[str, ...] | None = None,
) -> Choice:
    """Choose the kernels of a trunk that stay in float32, and mark them.

    Args:
        ir: The trunk, as OpenVINO converted it: the .xml, with the .bin beside it.
        hint: OpenVINO's name of the precision of the rest, "bf16" or "f16".
        compile_model: Compiles (model, hint) for this CPU.
        marked: Where to write the .xml of the marked trunk, which has the same .bin.
        layers: Names of the kernels, where they were chosen before.
    """
    search = _Search(ir, hint, compile_model)
    chosen, error = search.run() if layers is None else search.measure(layers)
    mark_precise(ir, marked, chosen)
    names, ids = tuple(kernel.name for kernel in chosen), tuple(kernel.id for kernel in chosen)
    return Choice(names, ids, error, cost_of_float32(search.kernels, chosen))


class _Search:
    """A greedy search on one trunk."""

    def __init__(self, ir: Path, hint: str, compile_model: Callable[..., Any]) -> None:
        self._ir, self._hint, self._compile = ir, hint, compile_model
        self._model = core().read_model(ir)
        self.kernels = kernels_of(self._model)
        sides = list(self._model.inputs[0].get_partial_shape())[1:3]
        size = [side.get_length() if side.is_static else _SIDE for side in sides]
        self._images = crops((size[0], size[1]), _count(self.kernels))
        self._reference = self._forward(compile_model(self._model, "f32"))

    def measure(self, layers: Collection[str]) -> tuple[list[Kernel], float]:
        """Some kernels by their names, and the error that is left with them."""
        chosen = [kernel for kernel in self.kernels if kernel.name in layers]
        return chosen, self._error(chosen)

    def run(self) -> tuple[list[Kernel], float]:
        """The chosen kernels, in order, and the error that is left."""
        chosen: list[Kernel] = []
        tried: set[int] = set()
        error = self._error(chosen)
        while error > _AIM and len(tried) < _TRIES:
            kernel = self._most_promising(chosen, tried)
            if not kernel:
                break
            tried.add(kernel.place)
            with_it = sorted([*chosen, kernel], key=lambda one: one.place)
            less = self._error(with_it)
            if less <= error * (1 - _LEAST_GAIN):
                chosen, error = with_it, less
        return chosen, error

    def _most_promising(self, chosen: Sequence[Kernel], tried: set[int]) -> Kernel | None:
        """The kernel that promises most for its cost, of those that can be afforded."""
        before = cost_of_float32(self.kernels, chosen)
        rates = {}
        for kernel in self.kernels[:_RANKED]:
            cost = cost_of_float32(self.kernels, [*chosen, kernel])
            if kernel.place not in tried and kernel.can_be_marked and cost <= _MOST_COST:
                rates[kernel] = self._disturbances[kernel.place] / max(cost - before, 1e-3)
        return max(rates, key=lambda kernel: rates[kernel], default=None)

    @cached_property
    def _disturbances(self) -> list[float]:
        """Of the first kernels: how much rounding disturbs each, and with it all that follow."""
        model = core().read_model(self._ir)  # which this changes
        rounding = rounding_model(model, kernels_of(model)[:_RANKED], self._hint)
        outputs = self._compile(rounding, "f32")(self._images[:_ESTIMATED])
        return [float(np.median(outputs[place])) / (place + 1) for place in range(len(rounding.outputs))]

    def _error(self, chosen: Sequence[Kernel]) -> float:
        """The median relative error on the crops; infinite where OpenVINO cannot do what was asked."""
        if chosen:
            with tempfile.TemporaryDirectory() as folder:
                marked = Path(folder) / "marked.xml"
                mark_precise(self._ir, marked, chosen)
                model = core().read_model(marked, self._ir.with_suffix(".bin"))
        else:
            model = self._model
        compiled = self._compile(model, self._hint)
        rows = self._forward(compiled)
        is_honored = {kernel.id for kernel in chosen} <= float32_ids(compiled)
        # The plugin loses the batch of some marked convolutions whose sum with another layer it fuses.
        if not is_honored or rows.shape != self._reference.shape or not np.isfinite(rows).all():
            return math.inf
        return float(np.median(relative_errors(rows, self._reference)))

    def _forward(self, compiled: Any) -> np.ndarray:
        places = range(0, len(self._images), _BATCH)
        batches = (self._images[place : place + _BATCH] for place in places)
        return np.concatenate([np.array(compiled(batch)[0]) for batch in batches])


def _count(kernels: Sequence[Kernel]) -> int:
    """How many crops to measure a trunk on."""
    affordable = _MULTIPLY_ADDS / max(sum(kernel.multiply_adds for kernel in kernels), 1)
    return int(min(max(affordable, _FEWEST), COUNT))

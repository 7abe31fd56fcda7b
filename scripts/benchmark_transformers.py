"""How much of the machine's rate in products of matrices OpenVINO reaches on a transformer.

    python scripts/benchmark_transformers.py --base keras_hub:FOLDER
    python scripts/benchmark_transformers.py --vit 768x12

Operations are counted in the graph that runs: convolutions, dense layers, and both products of attention.
Products of 2048x2048 matrices and batches of the trunk are timed in turn, so that what else the machine does
falls on both; prints the medians, and the best of each, as Markdown.
"""

from __future__ import annotations

import math
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from benchmarks.limits import openvino_product, product_operations

from fastcls.bases.loader import load_base
from fastcls.cutter import bottleneck_model, cut
from fastcls.engines import engine_class
from fastcls.engines.kernels import kernels_of
from fastcls.engines.openvino import OpenVINOEngine
from fastcls.engines.openvino_core import core
from fastcls.engines.trunk import Trunk
from fastcls.machine import cores
from fastcls.specs import ENGINES, BaseSpec
from fastcls.wording import count_of

_HEAD = 64  # channels of an attention head
_SHOWN = 8


@click.command()
@click.option("--base", help="As for `fastcls extract`.")
@click.option("--vit", help="WIDTHxDEPTH of a ViT/16 of keras_hub's with random weights, such as 768x12.")
@click.option("--batch", type=click.IntRange(min=1), default=8, show_default=True)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="By default a thread for each core; workers of an extraction have two.",
)
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--precision", "precisions", multiple=True, default=("float32", "bfloat16"), show_default=True)
def main(
    base: str | None,
    vit: str | None,
    batch: int,
    threads: int | None,
    rounds: int,
    precisions: tuple[str, ...],
) -> None:
    """Measure one base."""
    threads = threads or cores()
    model = bottleneck_model(cut(load_base(_spec(base, vit))))
    images = np.random.default_rng(0).integers(0, 256, (batch, *model.inputs[0].shape[1:]), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        trunk = Trunk(Path(folder) / "trunk.keras", model)
        OpenVINOEngine.prepare(trunk, lambda: images)
        operations = 2 * _multiply_adds(core().read_model(OpenVINOEngine.place(trunk.path)))
        click.echo(
            f"{operations / 1e9:.2f} GFLOP for an image; {count_of(threads, 'thread')}, batches of {batch}"
        )
        click.echo("| precision | limit, images/s | reached, images/s | share | share of the best |")
        click.echo("|---|---|---|---|---|")
        for precision in precisions:
            kind = engine_class(ENGINES["openvino"][precision])
            kind.prepare(trunk, lambda: images)
            engine = kind(trunk.path, threads)
            product = openvino_product(precision, threads)
            limits, reached = _rates(engine, product, images, operations, rounds)
            shares = f"{np.median(reached / limits):.2f} | {reached.max() / limits.max():.2f}"
            click.echo(f"| {precision} | {np.median(limits):.1f} | {np.median(reached):.1f} | {shares} |")
            click.echo(f"<!-- {_kinds(engine)} -->", err=True)


def _rates(
    engine: Any, product: Callable[[], Any], images: np.ndarray, operations: int, rounds: int
) -> tuple[np.ndarray, np.ndarray]:
    """Images per second that products allow, and that the engine reaches, in each round."""
    limits, reached = [], []
    for _ in range(rounds):
        limits.append(product_operations() / _seconds(product) / operations)
        reached.append(len(images) / _seconds(lambda: engine.run(images)))
    return np.array(limits), np.array(reached)


def _spec(base: str | None, vit: str | None) -> BaseSpec:
    if vit:
        # The function is found by its module's name, which shall be this module, not a copy.
        sys.modules[Path(__file__).stem] = sys.modules[__name__]
        width, depth = map(int, vit.split("x"))
        _BUILT.update(hidden_dim=width, mlp_dim=4 * width, num_heads=width // _HEAD, num_layers=depth)
        return BaseSpec(f"{Path(__file__).stem}:build_vit", size=(224, 224), normalize="0.5,0.5")
    if base is None:
        raise click.UsageError("Give --base or --vit")
    return BaseSpec(base)


_BUILT: dict[str, int] = {}


def build_vit() -> Any:
    """A ViT with random weights throughout: those that begin as 1 or 0 would be left out of the graph."""
    import keras_hub

    model = keras_hub.models.ViTBackbone(image_shape=(224, 224, 3), patch_size=16, **_BUILT)
    random = np.random.default_rng(0)
    for weight in model.weights:
        if len(weight.shape) == 1:
            weight.assign(weight + random.normal(0, 0.02, weight.shape))
    return model


def _multiply_adds(model: Any) -> int:
    """Of one image."""
    attended = [
        node for node in model.get_ordered_ops() if node.get_type_name() == "ScaledDotProductAttention"
    ]
    both = 0
    for node in attended:  # query (B, heads, T, H), key and value (B, heads, S, H)
        query, key = (_shape(node.input_value(place)) for place in (0, 1))
        both += 2 * math.prod(query[1:]) * key[2]
    return both + sum(kernel.multiply_adds for kernel in kernels_of(model))


def _shape(tensor: Any) -> list[int]:
    return [side.get_length() if side.is_static else 1 for side in tensor.get_partial_shape()]


def _seconds(function: Callable[[], Any], least: float = 1.0) -> float:
    """The best time of a call, of some calls."""
    best, end = math.inf, time.perf_counter() + least
    while time.perf_counter() < end:
        started = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - started)
    return best


def _kinds(engine: Any) -> str:
    """How many operations of each kind the compiled model has, the most first."""
    nodes = engine._model.get_runtime_model().get_ops()
    counts = Counter(str(node.get_rt_info()["layerType"].astype(str)) for node in nodes)
    return ", ".join(f"{count} {kind}" for kind, count in counts.most_common(_SHOWN))


if __name__ == "__main__":
    main()

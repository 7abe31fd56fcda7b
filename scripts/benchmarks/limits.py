"""What no extraction can exceed: the engine alone, products of matrices, decoding."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.photos import list_photos
from fastcls.bases.loader import load_base
from fastcls.cutter import cut
from fastcls.data.decoder import decode, read_image
from fastcls.machine import cores
from fastcls.specs import BaseSpec

_SECONDS = 3.0
_SIDE = 2048


def engine_alone(
    photos: str, cache: str, *, engine: str, workers: int, threads: int, batch_size: int
) -> dict[str, Any]:
    """The engine of an extraction on ready batches, in as many processes and threads."""
    workers = max(1, workers)
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(workers)
    with context.Pool(workers, _remember, (barrier,)) as pool:
        job = (photos, cache, engine, threads, batch_size)
        rates = pool.starmap(_run_engine, [job] * workers, chunksize=1)
    return {"rate": sum(rates)}


def matrix_products(precision: str) -> dict[str, Any]:
    """The best rate of this machine in products of large matrices, in GFLOP/s."""
    rates = {}
    for name, prepare in (("openvino", openvino_product), ("tensorflow", _tensorflow_product)):
        try:
            rates[name] = _rate(prepare(precision)) * product_operations() / 1e9
        except ImportError:
            continue
        except KeyError:  # a precision that it has no such product in
            continue
    who = max(rates, key=rates.__getitem__)
    return {"rate": rates[who], "who": who}


def decoding(photos: str, side: int) -> dict[str, Any]:
    """fastcls's decoder on bytes in memory, a thread per core."""
    data = [Path(path).read_bytes() for path in list_photos(Path(photos))]
    with ThreadPoolExecutor(cores()) as pool:
        started = time.perf_counter()
        list(pool.map(lambda each: decode(each, (side, side)), data))
    return {"rate": len(data) / (time.perf_counter() - started)}


def describe_base(base: str, weights: str | None) -> dict[str, Any]:
    """Multiply-adds of one image up to the cut, and the side of the input."""
    from fastcls import graph

    made = cut(load_base(BaseSpec(base, weights)))
    return {
        "multiply_adds": sum(map(graph.multiply_adds, graph.nodes(made.trunk))),
        "side": made.base.size[0],
        "layer": made.layer,
    }


_barrier: Any = None


def _remember(barrier: Any) -> None:
    global _barrier
    _barrier = barrier


def _run_engine(photos: str, cache: str, path: str, threads: int, batch_size: int) -> float:
    """Images per second of one of several engines that run at once."""
    from fastcls.cache.store import Cache
    from fastcls.engines import engine_class

    opened = Cache(Path(cache))
    engine = engine_class(path)(opened.trunk_path, threads)
    some = [read_image(Path(name), opened.manifest.size) for name in list_photos(Path(photos))[:batch_size]]
    images = np.stack((some * batch_size)[:batch_size])
    engine.run(images)
    _barrier.wait()
    return batch_size * _rate(lambda: engine.run(images))


def _rate(function: Callable[[], Any]) -> float:
    """Calls per second over some seconds, after a first one."""
    function()
    calls, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < _SECONDS:
        function()
        calls += 1
    return calls / passed


def product_operations() -> int:
    """Of one product."""
    return 2 * _SIDE**3


def openvino_product(precision: str, threads: int = 0) -> Callable[[], Any]:
    """What computes a product of two large matrices, when called; 0 threads for one on each core."""
    import openvino
    from openvino import opset13 as ops

    random = np.random.default_rng(0)
    left, right = (random.uniform(low, 1, (_SIDE, _SIDE)).astype(np.float32) for low in (0, -1))
    given = ops.parameter([_SIDE, _SIDE], np.float32)
    factors = [given, ops.constant(right)]
    if precision == "int8":  # what quantization makes of a layer
        least, none, most = map(np.float32, (-1, 0, 1))
        factors = [
            ops.fake_quantize(given, none, most, none, most, levels=256),
            ops.fake_quantize(factors[1], least, most, least, most, levels=255),
        ]
    hint = {"float32": "f32", "bfloat16": "bf16", "float16": "f16", "int8": "f32"}[precision]
    model = openvino.Model([ops.matmul(*factors, False, False)], [given])
    options = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads or cores()}
    compiled = openvino.Core().compile_model(model, "CPU", options)
    request = compiled.create_infer_request()
    return lambda: request.infer([left], share_inputs=True, share_outputs=True)


def _tensorflow_product(precision: str) -> Callable[[], Any]:
    from fastcls.backend import import_keras

    dtype = {"float32": "float32", "bfloat16": "bfloat16"}[precision]
    import_keras()
    import tensorflow as tf

    left, right = (tf.cast(tf.random.uniform((_SIDE, _SIDE), -1, 1), dtype) for _ in range(2))
    product = tf.function(tf.linalg.matmul)
    return lambda: product(left, right)[0, 0].numpy()

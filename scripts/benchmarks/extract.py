"""Extraction, from image files to HDF5: fastcls and what it replaces; and what no program can exceed."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from dataclasses import replace

from benchmarks import contenders, limits
from benchmarks.figures import Cell, Spread, Table, ratio
from benchmarks.fresh import Run, run_fresh
from benchmarks.setup import Runs, Setup, finished, in_turn, reported, skips
from fastcls.engines import engines_of
from fastcls.specs import PRECISIONS

REFERENCE = "earlier-loop"
_LABELS = {
    REFERENCE: "loop of the earlier systems (imread, resize, Keras predict per batch of 32)",
    "keras-tfdata": "Keras predict on tf.data (parallel decoding, prefetch, batches of 32)",
    "torch": "PyTorch, channels last, bfloat16, eager, decoding threads",
    "torch-compiled": "PyTorch, channels last, bfloat16, torch.compile, decoding threads",
}
_COLUMNS = (
    "contender",
    "total seconds",
    "images/s, start-up included",
    "times the loop",
    "images/s after start-up",
    "times the loop ",
    "engine alone, images/s",
    "share of it reached",
    "engine and decoding on the same cores, images/s",
    "share of that reached",
    "MiB, largest process",
    "MiB, largest worker",
    "MiB, all processes",
)
_NOTES = (
    "Total: the whole command in a fresh process, with imports, building the base, conversion, comparison "
    "with Keras, and a fresh cache. The files are in the page cache.",
    "After start-up: from the first finished batch to the last; with several workers, while all are at work.",
    "Engine alone: the same engine on ready batches of the same size, in as many processes at once with as "
    "many threads each.",
    "Engine and decoding on the same cores: what is left where decoding the photos, a thread per core, takes "
    "the cores from that engine: 1 / (1 / engine + 1 / decoding). Photos decoded during start-up (up to "
    "256 MiB of pixels: 1,783 images of 224x224) go beyond it; the more photos there are, the less.",
)


def measure(setup: Setup) -> list[Table]:
    """The contenders in turn."""
    actions = {
        name: act for name, act in _actions(setup).items() if not setup.contenders or name in setup.contenders
    }
    runs = in_turn(actions, setup.repeats)
    done = finished(runs)
    rows = [_row(name, tried, done.get(REFERENCE, [])) for name, tried in done.items()]
    return [Table("Extraction", _COLUMNS, rows, (*_NOTES, *_resources(done), *skips(runs)))]


def names() -> list[str]:
    """Of all contenders."""
    fastcls = [f"{engine}-{precision}" for precision in PRECISIONS[1:] for engine in engines_of(precision)]
    return [*_LABELS, *fastcls, "auto"]


def _actions(setup: Setup) -> dict[str, Callable[[], Run]]:
    torch_options = {"photos": str(setup.photos), "base": setup.base}
    first = {
        REFERENCE: functools.partial(setup.fresh, contenders.keras_loop, **setup.options),
        "keras-tfdata": functools.partial(setup.fresh, contenders.keras_pipeline, **setup.options),
        "torch": functools.partial(setup.fresh, contenders.torch_loop, compiled=False, **torch_options),
        "torch-compiled": functools.partial(
            setup.fresh, contenders.torch_loop, compiled=True, **torch_options
        ),
    }
    ours = {name: functools.partial(_extract, setup, name) for name in names() if name not in first}
    return {**first, **ours}


def _extract(setup: Setup, name: str) -> Run:
    """Extract into a fresh cache, then let its engine run alone."""
    engine, _, precision = name.partition("-")
    wanted = {"engine": engine, "precision": precision or "auto"}
    with tempfile.TemporaryDirectory(dir=setup.folder) as out:
        run = run_fresh(contenders.fastcls_extract, out=out, **setup.options, **wanted)
        if run.skipped:
            return run
        resources = {key: run.report[key] for key in ("cache", "engine", "workers", "threads", "batch_size")}
        alone = run_fresh(limits.engine_alone, photos=str(setup.photos), **resources).report.get("rate")
    decoded = run_fresh(limits.decoding, photos=str(setup.photos), side=run.report["side"]).report["rate"]
    both = 1 / (1 / alone + 1 / decoded) if alone else None
    return replace(run, report={**run.report, "alone": alone, "both": both})


def _row(name: str, runs: list[Run], reference: list[Run]) -> tuple[Cell, ...]:
    whole, steady = _whole(runs), reported(runs, "rate")
    return (
        _LABELS.get(name, f"fastcls, {name.replace('-', ' ')}"),
        Spread.of(run.seconds for run in runs),
        whole,
        ratio(whole, _whole(reference)),
        steady,
        ratio(steady, reported(reference, "rate")),
        reported(runs, "alone"),
        _share(runs, "alone"),
        reported(runs, "both"),
        _share(runs, "both"),
        Spread.of(run.largest_mib for run in runs),
        Spread.of(run.worker_mib for run in runs if run.worker_mib),
        Spread.of(run.together_mib for run in runs),
    )


def _share(runs: list[Run], limit: str) -> Spread | None:
    """What part of a limit the rate after start-up is."""
    reports = [run.report for run in runs if run.report.get("rate") and run.report.get(limit)]
    return Spread.of(report["rate"] / report[limit] for report in reports)


def _whole(runs: list[Run]) -> Spread | None:
    return Spread.of(run.report["images"] / run.seconds for run in runs)


def _resources(runs: Runs) -> tuple[str, ...]:
    return tuple(
        f"{name}: {tried[0].report['who']}" for name, tried in runs.items() if "who" in tried[0].report
    )


def measure_limits(setup: Setup) -> list[Table]:
    """What the machine's products of matrices and its decoding allow."""
    base = run_fresh(limits.describe_base, **setup.base_options)
    operations = 2 * base.report["multiply_adds"]
    precisions = ("float32", "bfloat16", "int8")
    actions: dict[str, Callable[[], Run]] = {
        name: functools.partial(run_fresh, limits.matrix_products, precision=name) for name in precisions
    }
    side = base.report["side"]
    actions["decoding"] = functools.partial(run_fresh, limits.decoding, photos=str(setup.photos), side=side)
    runs = in_turn(actions, setup.repeats)
    done = finished(runs)
    decoded = reported(done.get("decoding", []), "rate")
    rows: list[tuple[Cell, ...]] = []
    for name in precisions:
        products = reported(done.get(name, []), "rate")
        if products:
            limit = 1e9 * products.median / operations
            both = 1 / (1 / limit + 1 / decoded.median) if decoded else None
            rows.append((name, products, limit, decoded, both))
    columns = (
        "precision",
        "matrix products, GFLOP/s",
        "images/s at that rate",
        "decoding alone, images/s",
        "both on the same cores",
    )
    note = (
        f"{setup.base} up to {base.report['layer']}: {operations / 1e9:.2f} GFLOP for an image. Products of "
        "2048x2048 matrices on all cores, by the faster of OpenVINO and TensorFlow; a network also does what "
        "is no such product. Decoding: by fastcls from memory, a thread per core."
    )
    table = Table("Limits of the machine", columns, rows, (note, *skips(runs)))
    return [table]

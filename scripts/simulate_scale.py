"""Simulate an extraction on many nodes, with failures and slow nodes, and say where the design bends.

    python scripts/simulate_scale.py --images 1e8 --nodes 64
    python scripts/simulate_scale.py --measure flowers --base mobilenetv2 --images 1e7 --nodes 8

Simulated is what happens to each shard task: it is claimed, its images are forwarded, its shard is published.
What grows with the data set alone (plan, index, listings) is computed from the cost of one. Costs are
options, or measured on this machine by real extractions. The same options give the same output.
"""

from __future__ import annotations

import heapq
import itertools
import json
import math
import tempfile
import time
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

# A public figure: 9.67 million rows in 56 minutes on 8 GPUs.
PUBLIC = (9_670_000, 8, 56 * 60)
_KEYS = 1000  # that one request to S3 lists
_INDEX_BYTES = 24  # of each row: two halves of the digest, shard, row
_LARGE = 0.05  # share of the whole time that is worth a remedy
_MOST_SHARDS = 10**6  # files that can still be listed and copied with patience
_RAY = "--executor ray, or a part of the list for each group of machines"
_MEASURED = (64, 8)  # images of a task
_TRIED = 500
_SIZES = (10**6, 10**7, 10**8, 10**9)


@dataclass(frozen=True)
class Costs:
    """What one of each costs, in seconds, bytes, or per second.

    Attributes:
        rate: Images per second of a node.
        start_s: From the start of a node to its first image.
        task_s: Of a task, whatever its size: claim, checks, publishing.
        claims: Tasks per second that can be handed out, by a scheduler or by storage.
        plan_s: Of an image, in the plan.
        plan_bytes: Memory of an image in the plan.
        list_s: Of a request that lists.
        open_s: Of a shard whose digests are read.
        record_s: Of an image that another machine has done, to take in what came of it.
        poll_s: How often an idle node looks for expired claims.
        memory: Bytes that the driver may use.
    """

    rate: float = 360.0
    start_s: float = 30.0
    task_s: float = 0.2
    claims: float = 500.0
    plan_s: float = 30e-6
    plan_bytes: float = 560.0
    list_s: float = 0.1
    open_s: float = 1e-3
    record_s: float = 1.5e-6
    poll_s: float = 10.0
    memory: float = 32 * 2**30


@dataclass(frozen=True)
class Trouble:
    """What goes wrong.

    Attributes:
        failures: Of a node, per hour.
        restart_s: Until a failed node is back.
        expiry_s: Until the task of a failed node is taken over.
        slow: Share of the nodes that are slow.
        slowness: How many times as long they take.
    """

    failures: float = 0.0
    restart_s: float = 120.0
    expiry_s: float = 60.0
    slow: float = 0.0
    slowness: float = 3.0


@dataclass
class Outcome:
    """What happened.

    Attributes:
        seconds: Until the last shard was there.
        done: How often each task was published: once.
        lost: Attempts that a failure ended.
        copies: Attempts that came second.
        tail_s: From the moment when no task was left to begin until the end.
    """

    seconds: float = 0.0
    done: list[int] = field(default_factory=list)
    lost: int = 0
    copies: int = 0
    tail_s: float = 0.0


def simulate(
    images: int, nodes: int, shard: int, costs: Costs, trouble: Trouble, *, seed: int = 0, again: bool = True
) -> Outcome:
    """Run all tasks.

    Args:
        images: How many there are.
        nodes: How many forward them.
        shard: Images of a task.
        costs: Of one of each.
        trouble: What goes wrong.
        seed: Of the chances.
        again: Whether idle nodes run the last tasks once more; the first to finish counts.
    """
    return _Run(images, nodes, shard, costs, trouble, np.random.default_rng(seed), again).run()


class _Run:
    """Events in the order of time: a node is free, or a task comes back."""

    def __init__(
        self,
        images: int,
        nodes: int,
        shard: int,
        costs: Costs,
        trouble: Trouble,
        random: np.random.Generator,
        again: bool,
    ) -> None:
        self._costs, self._trouble, self._random, self._again = costs, trouble, random, again
        self._sizes = [min(shard, images - start) for start in range(0, images, shard)]
        self._slow = np.where(random.random(nodes) < trouble.slow, trouble.slowness, 1.0).tolist()
        self._next, self._back = 0, list[tuple[float, int]]()
        self._running: dict[int, tuple[float, int]] = {}  # task -> when it ends, how many run it
        self._door = 0.0  # when the next task can be handed out
        self._events = [(costs.start_s, number, number, -1) for number in range(nodes)]
        self._count = itertools.count(nodes)
        self._outcome = Outcome(done=[0] * len(self._sizes))
        self._begun_last = 0.0

    def run(self) -> Outcome:
        left = len(self._sizes)
        idle: list[int] = []
        while left:
            now, _, node, task = heapq.heappop(self._events)
            if task >= 0 and node >= 0:  # a node has finished
                left -= self._publish(now, task)
            if node < 0:  # a claim has expired
                heapq.heappush(self._back, (now, task))
            else:
                idle.append(node)
            idle = [one for one in idle if not self._begin(now, one)]
            self._outcome.seconds = now
        self._outcome.tail_s = self._outcome.seconds - self._begun_last
        return self._outcome

    def _publish(self, now: float, task: int) -> int:
        self._running.pop(task, None)
        if self._outcome.done[task]:
            self._outcome.copies += 1
            return 0
        self._outcome.done[task] = 1
        return 1

    def _begin(self, now: float, node: int) -> bool:
        """Give a node a task; False where there is none for it."""
        task = self._choose(now, node)
        if task is None:
            return False
        begin = self._door = max(now, self._door) + 1 / self._costs.claims
        took = self._costs.task_s + self._sizes[task] / self._costs.rate * self._slow[node]
        hourly = self._trouble.failures
        fails = self._random.exponential(3600 / hourly) if hourly else math.inf
        ends, runs = self._running.get(task, (math.inf, 0))
        if fails < took:
            self._outcome.lost += 1
            self._add(begin + fails + self._trouble.restart_s, node, -1)
            if not runs:  # else the other one goes on
                self._add(begin + fails + self._trouble.expiry_s, -1, task)
            return True
        self._running[task] = (min(ends, begin + took), runs + 1)
        self._add(begin + took, node, task)
        return True

    def _choose(self, now: float, node: int) -> int | None:
        while self._back:
            _, task = heapq.heappop(self._back)
            if not self._outcome.done[task]:
                self._begun_last = now
                return task
        if self._next < len(self._sizes):
            self._next, self._begun_last = self._next + 1, now
            return self._next - 1
        single = [(ends, task) for task, (ends, runs) in self._running.items() if runs == 1]
        if not self._again or not single:
            return None
        ends, task = max(single)
        took = self._costs.task_s + self._sizes[task] / self._costs.rate * self._slow[node]
        return task if now + took < ends else None

    def _add(self, when: float, node: int, task: int) -> None:
        heapq.heappush(self._events, (when, next(self._count), node, task))


def bends(images: int, nodes: int, shard: int, costs: Costs, seconds: float) -> list[tuple[str, str, str]]:
    """What grows with the data set: its name, its size, and the remedy where it is too large."""
    shards = math.ceil(images / shard)
    task_s = costs.task_s + shard / costs.rate
    plan_s, plan_bytes = images * costs.plan_s, images * costs.plan_bytes
    index = images * _INDEX_BYTES
    listing = math.ceil(shards / _KEYS) * costs.list_s
    claims, polls = nodes / task_s, nodes / costs.poll_s

    longer = f"shards of {_enough(images, nodes, costs, seconds):,} images"
    parts = f"extract {math.ceil(plan_bytes / costs.memory)} lists one after the other, into one cache"
    opened, empty = shards * costs.open_s, costs.task_s / task_s
    told = nodes * costs.rate * costs.record_s
    rows = [
        ("plan, seconds", f"{plan_s:,.0f}", plan_s > _LARGE * seconds, "plan the next list during a run"),
        ("plan, GiB", f"{plan_bytes / 2**30:,.1f}", plan_bytes > costs.memory, parts),
        (
            "index in memory, GiB",
            f"{index / 2**30:,.1f}",
            index > costs.memory,
            "an index that stays on disk",
        ),
        ("shards", f"{shards:,}", shards > _MOST_SHARDS, longer),
        ("one listing, seconds", f"{listing:,.1f}", listing > _LARGE * seconds, longer),
        ("opening all shards, seconds", f"{opened:,.0f}", opened > _LARGE * seconds, longer),
        ("claims per second", f"{claims:,.1f}", claims > costs.claims / 2, longer),
        ("--executor shared: cores that take in what others did", f"{told:,.2f}", told > _LARGE, _RAY),
        ("polls per second at the end", f"{polls:,.1f}", polls > costs.claims / 2, "poll less often"),
        ("time of tasks that is not work, percent", f"{100 * empty:.1f}", empty > _LARGE, longer),
        ("tasks of a node", f"{shards / nodes:,.1f}", shards < 10 * nodes, "smaller shards, or fewer nodes"),
    ]
    return [(name, size, remedy if is_large else "") for name, size, is_large, remedy in rows]


def _enough(images: int, nodes: int, costs: Costs, seconds: float) -> int:
    """The smallest shard, a power of two, for which nothing that counts shards is too large."""
    for size in (1 << power for power in range(9, 24)):
        shards, task_s = math.ceil(images / size), costs.task_s + size / costs.rate
        opened = max(shards * costs.open_s, math.ceil(shards / _KEYS) * costs.list_s)
        is_cheap = costs.task_s <= _LARGE * task_s and nodes / task_s <= costs.claims / 2
        if is_cheap and shards <= _MOST_SHARDS and opened <= _LARGE * seconds:
            return size
    return 1 << 24


def measure(folder: Path, base: str, weights: str | None, costs: Costs) -> Costs:
    """What this machine can tell, by extractions of a folder with one worker per core.

    Two numbers of images tell the rate and the start, two sizes of shards what a task costs besides.
    """
    from fastcls.data.dataset import Dataset
    from fastcls.specs import BaseSpec, CutSpec

    dataset, cut = Dataset.open(folder), CutSpec(BaseSpec(base, weights))
    half = replace(dataset, samples=dataset.samples[::2])
    _extract(
        replace(dataset, samples=dataset.samples[: _MEASURED[1]]), cut, _MEASURED[1]
    )  # converts the base
    seconds, shards, opened_s = _extract(dataset, cut, _MEASURED[0])
    half_s, _, _ = _extract(half, cut, _MEASURED[0])
    small_s, small, _ = _extract(dataset, cut, _MEASURED[1])
    task_s = max(0.0, (small_s - seconds) / max(1, small - shards))
    images = len(dataset.samples)
    forwarding = seconds - half_s - shards / 2 * task_s
    rate = (images - len(half.samples)) / max(forwarding, 1e-9)
    start_s = max(0.0, seconds - images / rate - shards * task_s)
    told = {"record_s": min(_record_s() for _ in range(3)), "open_s": opened_s / shards}
    return replace(costs, rate=rate, start_s=start_s, task_s=task_s, **told)


def _extract(dataset: Any, cut: Any, shard: int) -> tuple[float, int, float]:
    """Seconds of an extraction into a new cache, how many shards it makes, and seconds to open them."""
    from fastcls.extraction.extractor import extract
    from fastcls.specs import ExtractConfig

    with tempfile.TemporaryDirectory() as made:
        started = time.perf_counter()
        cache, _ = extract(dataset, cut, Path(made), ExtractConfig(executor="shared", shard_size=shard))
        done = time.perf_counter()
        return done - started, len(cache.index().shards), time.perf_counter() - done


def _record_s() -> float:
    """Seconds that a machine takes in what came of an image on another."""
    from fastcls.cache.samples import FileState
    from fastcls.extraction.executors.records import as_record, read_record
    from fastcls.extraction.reading import Reading
    from fastcls.extraction.worker import ShardInfo

    paths = (f"images/{number:08}.jpg" for number in range(_TRIED))
    readings = tuple(Reading(path, "0" * 32, FileState(1, 2**60, 2**60), "") for path in paths)
    told = json.dumps(as_record((ShardInfo(Path("a"), _TRIED, _TRIED, readings),), "node:1", 1.0))
    started = time.perf_counter()
    read_record(json.loads(told), [Path()])
    return (time.perf_counter() - started) / _TRIED


@click.command()
@click.option("--images", "sizes", multiple=True, type=float, default=_SIZES, help="How many; repeatable.")
@click.option("--nodes", type=int, default=8, show_default=True)
@click.option("--shard-size", "shard", type=int, default=512, show_default=True, help="Images of a task.")
@click.option("--rate", type=float, default=Costs.rate, show_default=True, help="Images/s of a node.")
@click.option(
    "--task-s", type=float, default=Costs.task_s, show_default=True, help="Seconds of an empty task."
)
@click.option("--failures", type=float, default=0.1, show_default=True, help="Of a node, per hour.")
@click.option("--slow", type=float, default=0.05, show_default=True, help="Share of slow nodes.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--measure", "folder", type=click.Path(path_type=Path, exists=True), help="Images to measure by."
)
@click.option("--base", default="mobilenetv2", show_default=True)
@click.option("--weights")
def main(
    sizes: tuple[float, ...],
    nodes: int,
    shard: int,
    rate: float,
    task_s: float,
    failures: float,
    slow: float,
    seed: int,
    folder: Path | None,
    base: str,
    weights: str | None,
) -> None:
    """Print a table of the runs, one of what bends, and the public figure."""
    costs, trouble = Costs(rate=rate, task_s=task_s), Trouble(failures=failures, slow=slow)
    costs = measure(folder, base, weights, costs) if folder else costs
    click.echo(f"{nodes} nodes of {costs.rate:.0f} images/s, shards of {shard:,} images")
    told = ", ".join(f"{each.name} {getattr(costs, each.name):.3g}" for each in fields(costs))
    click.echo(f"Costs: {told}\n")
    click.echo(
        "| images | hours | at best | lost tasks | run twice | tail, minutes |\n|---|---|---|---|---|---|"
    )
    hours = {}
    for images in map(int, sizes):
        found = simulate(images, nodes, shard, costs, trouble, seed=seed)
        hours[images] = found.seconds
        best = images / costs.rate / nodes / 3600
        spent = f"{found.seconds / 3600:,.2f} | {best:,.2f}"
        click.echo(f"| {images:,} | {spent} | {found.lost} | {found.copies} | {found.tail_s / 60:.1f} |")
    for images, seconds in hours.items():
        click.echo(f"\n{images:,} images\n\n| | size | remedy |\n|---|---|---|")
        for row in bends(images, nodes, shard, costs, seconds):
            click.echo(f"| {' | '.join(row)} |")
    rows, gpus, seconds = PUBLIC
    rate = rows / gpus / seconds
    own = simulate(rows, gpus, shard, replace(costs, rate=rate), trouble, seed=seed)
    click.echo(
        f"\nA public run made {rows:,} rows on {gpus} GPUs in {seconds / 60:.0f} minutes: {rate:.0f} images/s"
        f" each. At that rate, with these failures and slow nodes: {own.seconds / 60:.0f} minutes."
    )


if __name__ == "__main__":
    main()

"""The simulation of many nodes: nothing is lost, nothing is faster than it can be."""

from __future__ import annotations

import importlib
import math
from pathlib import Path

import pytest
from click.testing import CliRunner


@pytest.fixture
def scale(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "scripts")
    return importlib.import_module("simulate_scale")


@pytest.mark.parametrize(("images", "nodes", "shard"), [(1, 1, 1), (1000, 3, 100), (997, 8, 10), (50, 64, 7)])
def test_simulate__without_trouble_is_the_closed_form(scale, images, nodes, shard):
    costs = scale.Costs(rate=50.0, claims=math.inf)
    found = scale.simulate(images, nodes, shard, costs, scale.Trouble())
    tasks = math.ceil(images / shard)
    rounds = math.ceil(tasks / nodes)
    longest = costs.start_s + rounds * (costs.task_s + shard / costs.rate)
    last = shard - (images - (tasks - 1) * shard)  # what the last task has less
    is_alone = tasks - (rounds - 1) * nodes == 1
    assert found.seconds == pytest.approx(longest - (last / costs.rate if is_alone else 0))
    assert found.done == [1] * tasks and found.lost == 0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("again", [False, True])
def test_simulate__each_task_is_done_once_and_no_faster_than_by_all(scale, seed, again):
    trouble = scale.Trouble(failures=40.0, slow=0.2)
    costs = scale.Costs(rate=50.0)
    found = scale.simulate(30_000, 7, 100, costs, trouble, seed=seed, again=again)
    assert found.done == [1] * 300 and found.lost > 0
    assert found.seconds > costs.start_s + 30_000 / costs.rate / 7
    assert found.copies == 0 or again
    assert scale.simulate(30_000, 7, 100, costs, trouble, seed=seed, again=again) == found


def test_simulate__running_the_last_tasks_twice_shortens_the_tail(scale):
    trouble = scale.Trouble(slow=0.2, slowness=20.0)
    lone, twice = (
        sum(
            scale.simulate(4000, 10, 100, scale.Costs(), trouble, seed=seed, again=again).seconds
            for seed in range(10)
        )
        for again in (False, True)
    )
    assert twice < lone


def test_simulate__claims_limit_the_rate(scale):
    costs = scale.Costs(rate=1e6, task_s=0.0, start_s=0.0, claims=10.0)
    assert scale.simulate(1000, 50, 1, costs, scale.Trouble()).seconds == pytest.approx(100, rel=0.01)


def test_main__says_where_it_bends(scale):
    run = CliRunner().invoke(scale.main, ["--images", "1e5", "--nodes", "1000", "--rate", "300"])
    assert run.exit_code == 0, run.output
    assert "| tasks of a node | 0.2 | smaller shards, or fewer nodes |" in run.output
    assert "9,670,000 rows on 8 GPUs in 56 minutes: 360 images/s" in run.output


@pytest.mark.parametrize("images", [10**6, 10**8, 10**9])
def test_bends__its_own_remedy_mends_what_counts_shards(scale, images):
    costs, seconds = scale.Costs(), images / 360 / 64

    def told(shard):
        rows = scale.bends(images, 64, shard, costs, seconds)
        return [remedy for *_, remedy in rows if remedy.startswith("shards of")]

    size = int(told(16)[0].split()[2].replace(",", ""))
    assert told(size) == []

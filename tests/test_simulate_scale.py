"""The simulation of many nodes: nothing is lost, nothing is faster than it can be."""

from __future__ import annotations

import importlib
import math
from pathlib import Path

import numpy as np
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


class Chances:
    """Node 0 is slow; the second attempt ends after a second."""

    def __init__(self):
        self._lives = iter([1e9, 1.0])

    def random(self, count):
        return np.array([0.0, 0.9])[:count]

    def exponential(self, scale):
        return next(self._lives, 1e9)


def test_simulate__a_failure_and_a_slow_node_by_hand(scale):
    costs = scale.Costs(rate=50.0, start_s=30.0, task_s=0.2, claims=math.inf)
    trouble = scale.Trouble(failures=1.0, restart_s=120.0, expiry_s=60.0, slow=0.5, slowness=3.0)
    found = scale._Run(300, 2, 100, costs, trouble, Chances(), False).run()
    # Node 0 takes 0.2 + 3 * 2 s: tasks 0 and 2 from 30 to 42.4 s. Node 1 fails at 31 s, and is back at 151 s.
    # The claim of task 1 expires at 91 s; node 0 ends it at 97.2 s.
    assert found.seconds == pytest.approx(97.2) and found.tail_s == pytest.approx(6.2)
    assert (found.done, found.lost, found.copies) == ([1, 1, 1], 1, 0)


def test_simulate__the_last_task_of_a_slow_node_is_run_again_by_hand(scale):
    costs = scale.Costs(rate=50.0, start_s=30.0, task_s=0.2, claims=math.inf)
    chances = Chances()
    chances._lives = iter(())
    found = scale._Run(300, 2, 100, costs, scale.Trouble(slow=0.5, slowness=20.0), chances, True).run()
    # Node 1 ends tasks 1 and 2 at 34.4 s, then begins task 0 again, which node 0 would end at 70.2 s.
    assert found.seconds == pytest.approx(36.6) and found.done == [1, 1, 1]


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

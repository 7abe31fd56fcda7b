"""The executors of this machine: what every executor must do, and what is special of each."""

import os

import pytest
from executor_contract import ExecutorContract
from extraction_support import (
    by,
    check_complete,
    fill,
    forwarded,
    write_images,
)

from fastcls.errors import OptionError
from fastcls.extraction.executors.inline import InlineExecutor
from fastcls.extraction.executors.pool import _environment
from fastcls.specs import EXECUTORS, ExecutorKind, ExtractConfig


class TestInline(ExecutorContract):
    """This process."""

    name = "inline"

    def test_workers_have_no_effect(self):
        with pytest.raises(OptionError, match="--workers has no effect with --executor inline"):
            ExtractConfig(executor="inline", workers=2)


class TestProcesses(ExecutorContract):
    """Worker processes."""

    name = "processes"

    @pytest.mark.parametrize("workers, shards", [(1, 6), (4, 8)])
    def test_the_rows_are_the_same_whatever_the_workers(self, data, root, workers, shards):
        write_images(data, 50)
        done = fill(data, root, by(self.name, workers, batch_size=7, shard_size=9))
        assert done.shards == shards
        check_complete(root, 50)


class TestShared(ExecutorContract):
    """Machines that see the same cache."""

    name = "shared"


def test_every_executor_of_the_table_keeps_the_contract():
    elsewhere = {"ray"}  # test_ray_cluster.py
    assert {kind.name for kind in ExecutorContract.__subclasses__()} | elsewhere == set(EXECUTORS)


class ReversingExecutor(InlineExecutor):
    """Runs the last task first."""

    def run(self, tasks, spec, workers, on_progress):
        return super().run(tasks[::-1], spec, workers, on_progress)


def test_an_executor_is_one_entry_of_the_table(data, root, monkeypatch):
    monkeypatch.setitem(EXECUTORS, "reversing", ExecutorKind(f"{__name__}:ReversingExecutor"))
    write_images(data, 10)
    fill(data, root, ExtractConfig(executor="reversing", batch_size=1, shard_size=4))
    assert forwarded(root)[:2] == [7, 9]
    check_complete(root, 10)


@pytest.mark.parametrize(
    ("visible", "gpus", "expected"),
    [
        (None, 2, ["0", "1", "0"]),
        ("", 2, ["0", "1", "0"]),
        ("3,5", 2, ["3", "5", "3"]),
        ("GPU-8f,GPU-2a,GPU-77", 3, ["GPU-8f", "GPU-2a", "GPU-77"]),
        ("7", 1, ["7", "7", "7"]),
    ],
)
def test_workers__have_a_gpu_each_of_those_that_may_be_used(monkeypatch, visible, gpus, expected):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = [_environment(place, gpus)["CUDA_VISIBLE_DEVICES"] for place in range(3)]
    assert found == expected


@pytest.mark.parametrize("visible", [None, "0,1"])
def test_workers__without_gpus_keep_the_environment(monkeypatch, visible):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert _environment(1, 0).get("CUDA_VISIBLE_DEVICES") == os.environ.get("CUDA_VISIBLE_DEVICES")

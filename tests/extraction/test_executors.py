"""What every executor must do, and what is special of each."""

import os
import random

import pytest
from extraction_support import (
    OVERFLOW,
    RAISE,
    by,
    check_complete,
    extract_arguments,
    fill,
    forwarded,
    leftovers,
    living,
    only_cache,
    prepare,
    run_command,
    start_command,
    wait_until,
    write_images,
)

from fastcls import files
from fastcls.errors import OptionError, WorkerError
from fastcls.extraction.executors import InlineExecutor, _environment, find_executor
from fastcls.extraction.shard_tasks import ShardTask, Wanted
from fastcls.extraction.worker import WorkerSpec
from fastcls.specs import EXECUTORS, ExecutorKind, ExtractConfig, ViewSpec


def shards_of(root):
    """The shards as they are found, and every row in them."""
    index = only_cache(root).index()
    rows = index.locate(index.digests.astype(str).tolist()).read()
    return [path.name for path in index.shards], index.digests.tolist(), index.row.tolist(), rows.tobytes()


class ExecutorContract:
    """What an executor must do.

    Attributes:
        name: Of the executor.
    """

    name = ""

    def test_every_image_has_its_row(self, data, root):
        write_images(data, 50)
        done = fill(data, root, by(self.name, batch_size=7, shard_size=9))
        assert (done.images, done.forwarded, done.reused, done.failures, done.missing) == (50, 50, 0, 0, 0)
        assert done.shards == 6
        check_complete(root, 50)

    def test_the_shards_are_those_of_this_process(self, data, tmp_path):
        write_images(data, 20)
        here = fill(data, tmp_path / "here", by("inline", batch_size=4, shard_size=6))
        done = fill(data, tmp_path / "there", by(self.name, workers=1, batch_size=4, shard_size=6))
        assert (done.forwarded, done.rows) == (here.forwarded, here.rows)
        assert shards_of(tmp_path / "there") == shards_of(tmp_path / "here")

    def test_progress_counts_every_image(self, data, root):
        told = []
        with_results(self.name, write_images(data, 10), root, told.append)
        assert sum(told) == 10 and 0 in told

    def test_an_image_that_gives_no_row_is_a_failure(self, data, root):
        write_images(data, 8, {3: OVERFLOW})
        (data / "a" / "broken.png").write_bytes(b"not an image")
        config = by(self.name, batch_size=1, shard_size=4)
        done = fill(data, root, config, dtype="float16")
        assert (done.forwarded, done.failures) == (7, 2)
        assert [failure.path for failure in only_cache(root).failures()] == ["a/broken.png", "b/000003.png"]

    def test_an_engine_that_raises_stops_the_run(self, data, root):
        write_images(data, 8, {5: RAISE})
        with pytest.raises(WorkerError, match="A batch of 1 image failed: ValueError: the engine does not"):
            fill(data, root, by(self.name, batch_size=1, shard_size=4))
        assert leftovers(root) == []

    def test_too_many_failures_stop_the_run_and_what_is_finished_is_kept(self, data, root):
        write_images(data, 40)
        for number in range(20, 40, 2):
            (data / "a" / f"{number:06}.png").write_bytes(b"%d" % number)
        config = by(self.name, batch_size=1, shard_size=4, max_failures=5)
        with pytest.raises(WorkerError, match="more than --max-failures 5"):
            fill(data, root, config)
        kept = len(only_cache(root).index())
        assert leftovers(root) == []
        assert len(only_cache(root).failures()) > 5
        done = fill(data, root)
        assert (done.forwarded, done.reused, done.failures) == (30 - kept, kept, 10)
        with pytest.raises(WorkerError, match="max-failures"):
            fill(data, root, config)

    def test_work_ends_when_the_results_are_closed(self, data, root, monkeypatch):
        token = f"{os.getpid()}-closed-{self.name}"
        monkeypatch.setenv("TEST_TOKEN", token)
        with_results(self.name, write_images(data, 24), root, lambda images: None, most=1)
        own = {os.getpid()}
        assert wait_until(lambda: not set(living(token)) - own)
        files.remove_leftovers(only_cache(root).shards_folder)  # as an extraction does when it ends
        assert leftovers(root) == [] and len(only_cache(root).index()) >= 4

    def test_a_run_that_was_killed_ends_as_if_it_had_not_been(self, data, root, tmp_path):
        write_images(data, 40)
        prepare(root)
        moments = random.Random(5)
        for kill in range(3):
            token = f"{os.getpid()}-{self.name}-{kill}"
            small = ("--batch-size", "1", "--shard-size", "4")
            arguments = extract_arguments(data, root, "--executor", self.name, *small)
            process = start_command(*arguments, token=token, TEST_DELAY_S="0.004")
            goal = len(forwarded(root)) + moments.randint(1, 9)
            assert wait_until(lambda: len(forwarded(root)) >= goal)  # noqa: B023
            process.kill()
            process.communicate()
            assert wait_until(lambda: not living(token))  # noqa: B023
        code, _, err = run_command(*arguments)
        assert code == 0, err
        check_complete(root, 40)


def with_results(name, dataset, root, on_progress, most=None):
    """Run tasks of four images by an executor, and close its results after so many."""
    prepare(root)
    cache = only_cache(root)
    wanted = [Wanted(sample.path) for sample in dataset.samples]
    tasks = [
        ShardTask(dataset.root.absolute(), tuple(wanted[start : start + 4]), ViewSpec())
        for start in range(0, len(wanted), 4)
    ]
    spec = WorkerSpec((cache.folder,), cache.trunk_path, 1, 1, "extraction_support:PixelEngine")
    results = find_executor(name).run(tasks, spec, 2, on_progress)
    for count, (info,) in enumerate(results, 1):
        assert info.forwarded == len(info.readings)
        if count == most:
            results.close()


class TestInline(ExecutorContract):
    """This process."""

    name = "inline"

    def test_workers_have_no_effect(self):
        with pytest.raises(OptionError, match="--workers has no effect with --executor inline"):
            ExtractConfig(executor="inline", workers=2)


class TestProcesses(ExecutorContract):
    """Worker processes."""

    name = "processes"

    @pytest.mark.parametrize("workers, shards", [(1, 6), (2, 6), (4, 8)])
    def test_the_rows_are_the_same_whatever_the_workers(self, data, root, workers, shards):
        write_images(data, 50)
        done = fill(data, root, by(self.name, workers, batch_size=7, shard_size=9))
        assert done.shards == shards
        check_complete(root, 50)


def test_every_executor_of_the_table_keeps_the_contract():
    assert {kind.name for kind in ExecutorContract.__subclasses__()} == set(EXECUTORS)


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

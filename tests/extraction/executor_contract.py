"""What every executor must do."""

import os
import random

import pytest
from extraction_support import (
    ABORT,
    ENGINE,
    OVERFLOW,
    RAISE,
    SIZE,
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
from fastcls.caching.describer import cache_info
from fastcls.data.decoder import pixel_rule
from fastcls.engines import made_by
from fastcls.errors import WorkerError
from fastcls.extraction.executors.base import find_executor
from fastcls.extraction.read_ahead import ReadAhead
from fastcls.extraction.shard_tasks import ShardTask, Wanted
from fastcls.extraction.worker import WorkerSpec
from fastcls.specs import EXECUTORS, ExtractConfig, ViewSpec


def rows_of(root):
    """Every row, by its digest."""
    index = only_cache(root).index()
    rows = index.locate(index.digests.astype(str).tolist()).read()
    return {digest: row.tobytes() for digest, row in zip(index.digests.tolist(), rows, strict=True)}


class ExecutorContract:
    """What an executor must do.

    Attributes:
        name: Of the executor.
        workers: Processes that run tasks, where it has some.
    """

    name = ""
    workers = 2

    def by(self, workers=None, **options):
        """How to extract by it."""
        return by(self.name, workers or self.workers, **options)

    def test_every_image_has_its_row(self, data, root):
        write_images(data, 50)
        done = fill(data, root, self.by(batch_size=7, shard_size=9))
        assert (done.images, done.forwarded, done.reused, done.failures, done.missing) == (50, 50, 0, 0, 0)
        assert done.shards == 6 and cache_info(only_cache(root)).makers == {made_by(ENGINE): 6}
        check_complete(root, 50)
        assert fill(data, root, self.by()).reused == 50  # and nothing is in the way of another run

    def test_the_rows_are_those_of_this_process(self, data, tmp_path):
        write_images(data, 20)
        here = fill(data, tmp_path / "here", by("inline", batch_size=4, shard_size=6))
        done = fill(data, tmp_path / "there", self.by(workers=1, batch_size=4, shard_size=6))
        assert (done.forwarded, done.rows) == (here.forwarded, here.rows)
        assert rows_of(tmp_path / "there") == rows_of(tmp_path / "here")

    def test_progress_counts_every_image(self, data, root):
        told = []
        infos = self.with_results(write_images(data, 10), root, told.append)
        assert sum(told) == 10 and 0 in told
        assert sorted(len(info.readings) for info in infos) == [2, 4, 4]  # every task has its results

    def test_an_image_that_gives_no_row_is_a_failure(self, data, root):
        write_images(data, 8, {3: OVERFLOW})
        (data / "a" / "broken.png").write_bytes(b"not an image")
        config = self.by(batch_size=1, shard_size=4)
        done = fill(data, root, config, dtype="float16")
        assert (done.forwarded, done.failures) == (7, 2)
        assert [failure.path for failure in only_cache(root).failures()] == ["a/broken.png", "b/000003.png"]

    def test_an_image_that_kills_its_process_is_set_aside(self, data, root):
        if not EXECUTORS[self.name].has_workers:
            pytest.skip("a crash ends this process")
        write_images(data, 6, {5: ABORT})
        done = fill(data, root, self.by(batch_size=1, shard_size=2))
        assert (done.forwarded, done.failures) == (5, 1)
        (failure,) = only_cache(root).failures()
        assert failure.path == "b/000005.png" and failure.reason.startswith("crashes the worker: ")
        check_complete(root, 6, without=(5,))

    def test_a_full_disk_stops_the_run(self, data, tmp_path, mount):
        write_images(data, 100)
        place = mount(tmp_path / "disk", "tmpfs", "size=100k")
        with pytest.raises(OSError, match="No space left on device"):
            fill(data, place / "cache", self.by(batch_size=1, shard_size=4))
        assert wait_until(lambda: not left_behind(place / "cache"))

    def test_read_ahead_is_harmless(self, data, root):
        dataset = write_images(data, 8)
        paths = tuple(sample.path for sample in dataset.samples)
        order = ReadAhead(data, paths, pixel_rule(SIZE), None, 1 << 20, 1, ENGINE)
        self.with_results(dataset, root, lambda images: None, orders=[order])
        assert len(only_cache(root).index()) == 8

    def test_an_engine_that_raises_stops_the_run(self, data, root):
        write_images(data, 8, {5: RAISE})
        with pytest.raises(WorkerError, match="A batch of 1 image failed: ValueError: the engine does not"):
            fill(data, root, self.by(batch_size=1, shard_size=4))
        assert wait_until(lambda: not left_behind(root))

    def test_too_many_failures_stop_the_run_and_what_is_finished_is_kept(self, data, root):
        write_images(data, 40)
        for number in range(20, 40, 2):
            (data / "a" / f"{number:06}.png").write_bytes(b"%d" % number)
        config = self.by(batch_size=1, shard_size=4, max_failures=5)
        with pytest.raises(WorkerError, match="more than --max-failures 5"):
            fill(data, root, config)
        kept = len(only_cache(root).index())
        assert wait_until(lambda: not left_behind(root))
        assert len(only_cache(root).failures()) > 5
        done = fill(data, root)
        assert (done.forwarded, done.reused, done.failures) == (30 - kept, kept, 10)
        with pytest.raises(WorkerError, match="max-failures"):
            fill(data, root, config)

    def test_work_ends_when_the_results_are_closed(self, data, root, monkeypatch):
        token = f"{os.getpid()}-closed-{self.name}"
        monkeypatch.setenv("TEST_TOKEN", token)
        self.with_results(write_images(data, 24), root, lambda images: None, most=1)
        own = {os.getpid()}
        assert wait_until(lambda: not set(living(token)) - own)
        assert wait_until(lambda: not left_behind(root)) and len(only_cache(root).index()) >= 4

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

    def with_results(self, dataset, root, on_progress, most=None, orders=()):
        """Run tasks of four images, and close its results after so many; those that came."""
        prepare(root)
        cache = only_cache(root)
        wanted, images = [Wanted(sample.path) for sample in dataset.samples], dataset.root.absolute()
        tasks = [
            ShardTask(images, tuple(wanted[start : start + 4]), ViewSpec(), name=f"{start:032x}")
            for start in range(0, len(wanted), 4)
        ]
        spec = WorkerSpec((cache.folder,), cache.trunk_path, 1, 1, "extraction_support:PixelEngine")
        executor = find_executor(ExtractConfig(executor=self.name))
        executor.read_ahead(orders)
        results, found = executor.run(tasks, spec, self.workers, on_progress), []
        for (info,) in results:
            assert info.forwarded == len(info.readings)
            found.append(info)
            if len(found) == most:
                results.close()
        executor.stop()
        return found


def left_behind(root):
    """Unfinished files that the next extraction does not remove, as whoever writes them lives."""
    files.remove_leftovers(only_cache(root).shards_folder)
    return leftovers(root)

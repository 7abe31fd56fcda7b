"""How a machine is shared among workers; the machines are made up."""

import pytest

from fastcls.engines.openvino import OpenVINOEngine
from fastcls.engines.tensorflow import TensorFlowEngine
from fastcls.errors import OptionError
from fastcls.extraction import resources as module
from fastcls.extraction.resources import Resources, allocate, require_room
from fastcls.specs import ExtractConfig


@pytest.fixture
def resources(monkeypatch):
    """`allocate` for a made up machine."""

    def run(missing, *, cores=8, gib=64.0, gpus=0, engine=OpenVINOEngine, has_workers=True, **config):
        monkeypatch.setattr(module, "cores", lambda: cores)
        monkeypatch.setattr(module, "available_memory", lambda: int(gib * 2**30))
        monkeypatch.setattr(module, "gpus", lambda: [(8, 0)] * gpus)
        made = allocate(
            ExtractConfig(**config), engine, rows=missing, trunk_bytes=1 << 20, has_workers=has_workers
        )
        return made.workers, made.threads, made.batch_size, made.gpus

    return run


def test_allocate__cores(resources):
    assert resources(10_000) == (4, 2, 8, 0)
    assert resources(10_000, cores=3) == (1, 3, 8, 0)
    assert resources(10_000, cores=1) == (1, 1, 8, 0)


def test_allocate__no_more_workers_than_the_memory_holds(resources):
    assert resources(10_000, gib=1) == (3, 2, 8, 0)
    assert resources(10_000, gib=1, engine=TensorFlowEngine) == (1, 8, 8, 0)
    assert resources(10_000, gib=0.1) == (1, 8, 8, 0)


def test_allocate__few_images_do_not_wait_for_many_workers(resources):
    assert resources(1) == (1, 8, 8, 0)
    assert resources(65) == (2, 4, 8, 0)
    assert resources(300, batch_size=200) == (2, 4, 200, 0)


def test_allocate__a_worker_per_gpu_but_only_for_tensorflow(resources):
    assert resources(4_000, gpus=2, engine=TensorFlowEngine) == (2, 4, 64, 2)
    assert resources(10, gpus=1, engine=TensorFlowEngine) == (1, 8, 64, 1)
    assert resources(10_000, gpus=2) == (4, 2, 8, 0)


def test_allocate__several_workers_feed_a_gpu_of_many_images(resources):
    assert resources(100_000, cores=16, gpus=1, engine=TensorFlowEngine) == (4, 4, 64, 1)
    assert resources(5_000, cores=16, gpus=1, engine=TensorFlowEngine) == (2, 8, 64, 1)
    assert resources(100_000, cores=64, gpus=1, engine=TensorFlowEngine) == (4, 16, 64, 1)
    assert resources(100_000, cores=2, gpus=1, engine=TensorFlowEngine) == (1, 2, 64, 1)
    assert resources(100_000, cores=16, gib=3, gpus=1, engine=TensorFlowEngine) == (3, 5, 64, 1)


def test_allocate__the_user_decides(resources):
    assert resources(10_000, workers=3, batch_size=5) == (3, 2, 5, 0)
    assert resources(10_000, workers=20) == (20, 1, 8, 0)
    assert resources(10_000, has_workers=False) == (0, 8, 8, 0)
    assert resources(10_000, workers=4, batch_size=5, gpus=2, engine=TensorFlowEngine) == (4, 2, 5, 2)


def test_allocate__no_batch_has_more_places_than_a_shard_has_images(resources):
    assert resources(10_000, batch_size=10_000)[2] == 512
    assert resources(10_000, batch_size=10_000, shard_size=600)[2] == 600
    assert resources(10_000, batch_size=10_000, shard_size=3)[2] == 8


def test_allocate__a_batch_does_not_depend_on_how_many_images_are_left(resources):
    assert {resources(rows, batch_size=100)[2] for rows in (1, 3, 99, 10_000)} == {100}
    assert {resources(rows, batch_size=2)[2] for rows in (1, 3, 10_000)} == {2}
    assert {resources(rows, batch_size=16, gpus=1, engine=TensorFlowEngine)[2] for rows in (3, 99)} == {16}


def test_require_room__of_workers_that_are_more_than_cores_and_memory(monkeypatch):
    monkeypatch.setattr(module, "cores", lambda: 8)
    monkeypatch.setattr(module, "available_memory", lambda: 6 << 30)
    require_room(ExtractConfig(workers=20))
    with pytest.raises(OptionError, match=r"--workers 21 is more than .* 300 MiB\. Choose 20 or fewer"):
        require_room(ExtractConfig(workers=21))
    require_room(ExtractConfig(workers=21, executor="ray"))
    monkeypatch.setattr(module, "available_memory", lambda: 1 << 20)
    require_room(ExtractConfig(workers=8))  # its cores are always granted


@pytest.mark.parametrize(
    ("resources", "text"),
    [
        (Resources(1, 1, 8, 0), "1 worker x 1 thread, batches of 8"),
        (Resources(2, 4, 64, 2), "2 workers x 4 threads on 2 GPUs, batches of 64"),
        (Resources(0, 2, 8, 0), "this process x 2 threads, batches of 8"),
    ],
)
def test_resources__in_words(resources, text):
    assert str(resources) == text


def test_config__no_workers_is_no_other_executor():
    with pytest.raises(OptionError, match=r"Received: 0.*executor='inline'"):
        ExtractConfig(workers=0)

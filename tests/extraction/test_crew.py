"""How a machine is shared among workers; the machines are made up."""

import pytest

from fastcls.engines.openvino import OpenVINOEngine
from fastcls.engines.tensorflow import TensorFlowEngine
from fastcls.errors import OptionError
from fastcls.extraction import crew as crews
from fastcls.extraction.crew import Crew, share_machine
from fastcls.specs import ExtractConfig


@pytest.fixture
def crew(monkeypatch):
    """`share_machine` for a made up machine."""

    def run(missing, *, cores=8, gib=64.0, gpus=0, engine=OpenVINOEngine, has_workers=True, **config):
        monkeypatch.setattr(crews, "cores", lambda: cores)
        monkeypatch.setattr(crews, "available_memory", lambda: int(gib * 2**30))
        monkeypatch.setattr(crews, "gpus", lambda: [(8, 0)] * gpus)
        made = share_machine(
            ExtractConfig(**config), engine, rows=missing, trunk_bytes=1 << 20, has_workers=has_workers
        )
        return made.workers, made.threads, made.batch_size, made.gpus

    return run


def test_share_machine__cores(crew):
    assert crew(10_000) == (8, 1, 8, 0)
    assert crew(10_000, cores=1) == (1, 1, 8, 0)


def test_share_machine__no_more_workers_than_the_memory_holds(crew):
    assert crew(10_000, gib=1) == (3, 2, 8, 0)
    assert crew(10_000, gib=1, engine=TensorFlowEngine) == (1, 8, 8, 0)
    assert crew(10_000, gib=0.1) == (1, 8, 8, 0)


def test_share_machine__few_images_do_not_wait_for_many_workers(crew):
    assert crew(1) == (1, 8, 8, 0)
    assert crew(65) == (2, 4, 8, 0)
    assert crew(300, batch_size=200) == (2, 4, 200, 0)


def test_share_machine__a_worker_per_gpu_but_only_for_tensorflow(crew):
    assert crew(10_000, gpus=2, engine=TensorFlowEngine) == (2, 4, 64, 2)
    assert crew(10, gpus=1, engine=TensorFlowEngine) == (1, 8, 64, 1)
    assert crew(10_000, gpus=2) == (8, 1, 8, 0)


def test_share_machine__the_user_decides(crew):
    assert crew(10_000, workers=3, batch_size=5) == (3, 2, 5, 0)
    assert crew(10_000, workers=20) == (20, 1, 8, 0)
    assert crew(10_000, has_workers=False) == (0, 8, 8, 0)
    assert crew(10_000, workers=4, batch_size=5, gpus=2, engine=TensorFlowEngine) == (4, 2, 5, 2)


@pytest.mark.parametrize(
    ("crew", "text"),
    [
        (Crew(1, 1, 8, 0), "1 worker x 1 thread, batches of 8"),
        (Crew(2, 4, 64, 2), "2 workers x 4 threads on 2 GPUs, batches of 64"),
        (Crew(0, 2, 8, 0), "this process x 2 threads, batches of 8"),
    ],
)
def test_crew__in_words(crew, text):
    assert str(crew) == text


def test_config__no_workers_is_no_other_executor():
    with pytest.raises(OptionError, match=r"Received: 0.* executor='inline'"):
        ExtractConfig(workers=0)

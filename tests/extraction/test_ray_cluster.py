"""A Ray cluster of nodes on this machine: one is lost, one comes, and the driver is killed."""

import os
import sys
import tempfile
from pathlib import Path

import pytest
from executor_contract import ExecutorContract, left_behind, rows_of
from extraction_support import (
    by,
    check_complete,
    extract_arguments,
    fill,
    forwarded,
    only_cache,
    prepare,
    run_command,
    start_command,
    wait_until,
    write_images,
)

from fastcls.errors import OptionError, WorkerError
from fastcls.extraction.executors import ray_cluster

ray = pytest.importorskip("ray")
ENVIRONMENT = {
    "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)]),
    "RAY_AUTH_MODE": "disabled",  # no token is left in the home folder
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_prestart_worker_first_driver": "0",
}
NODE = {
    "num_cpus": 1,
    "object_store_memory": 80 << 20,
    "plasma_directory": tempfile.gettempdir(),  # /dev/shm of a container may be too small
    "include_dashboard": False,
    "dashboard_agent_listen_port": None,  # one that is free
}


@pytest.fixture(scope="module")
def cluster():
    """One node of two cores, to which tests add others; this process is connected."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        for name, value in {**ENVIRONMENT, "RAY_TMPDIR": folder}.items():  # as short as sockets need
            patch.setenv(name, value)
        nodes = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 2})
        patch.setenv("RAY_ADDRESS", nodes.address)
        ray.init(nodes.address, log_to_driver=False, logging_level="ERROR")
        yield nodes
        ray.shutdown()
        nodes.shutdown()


@pytest.fixture(autouse=True)
def connected(cluster, monkeypatch):
    """Every test has the cluster; what is slow is found soon."""
    monkeypatch.setattr(ray_cluster, "_GROW_S", 0.5)
    return cluster


class TestRay(ExecutorContract):
    """Actors of a cluster."""

    name = "ray"
    workers = 1
    test_read_ahead_is_harmless = None  # it does not read ahead
    # See below.
    test_the_rows_are_those_of_this_process = None
    test_a_run_that_was_killed_ends_as_if_it_had_not_been = None


def test_a_node_is_lost_another_comes_and_the_driver_is_killed(connected, data, root, tmp_path):
    count = 120  # so many that the driver is not through when it is killed
    write_images(data, count)
    prepare(root)
    small = ("--executor", "ray", "--batch-size", "1", "--shard-size", "4")
    lost, _ = (connected.add_node(wait=False, **NODE) for _ in range(2))
    slow = only_cache(root).folder / "slow"
    slow.touch()
    driver = start_command(*extract_arguments(data, root, *small))
    assert wait_until(lambda: len(forwarded(root)) > 4, 60)
    connected.remove_node(lost)
    connected.add_node(wait=False, **NODE)
    assert wait_until(lambda: len(only_cache(root).index()) >= 12, 60)
    driver.kill()
    driver.communicate()
    slow.unlink()
    kept = len(only_cache(root).index())
    code, out, error = run_command(*extract_arguments(data, root, *small, "--workers", "1"))
    assert code == 0 and "images/s" in error, error
    assert 12 <= kept < count and f"{count - kept} " in out, out
    check_complete(root, count)
    fill(data, tmp_path / "here", by("inline", batch_size=1))
    assert rows_of(root) == rows_of(tmp_path / "here")


def test_a_task_that_takes_too_long_is_run_twice_and_counts_once(data, root, monkeypatch):
    write_images(data, 8)
    monkeypatch.setattr(ray_cluster, "_SLOW_S", 0.0)
    monkeypatch.setattr(ray_cluster, "_SLOW", 0.0)
    done = fill(data, root, by("ray", batch_size=1, shard_size=4))
    assert (done.forwarded, done.missing) == (8, 0)
    assert wait_until(lambda: not left_behind(root))  # by the slower one, which is ended
    check_complete(root, 8)


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("fastcls.__version__", "9.9", "it has fastcls .* there is 9.9"),
        (
            "fastcls.extraction.executors.ray_cluster.folder_of",
            lambda task: "/nowhere",
            "/nowhere .the images. is",
        ),
    ],
)
def test_a_node_that_cannot_take_part_is_named(data, root, monkeypatch, name, value, message):
    write_images(data, 4)
    monkeypatch.setattr(name, value)
    with pytest.raises(WorkerError, match=f"The node .* cannot take part: .*{message}"):
        fill(data, root, by("ray"))


@pytest.mark.parametrize("kind", [ConnectionError, ray.exceptions.RayError])
def test_no_cluster_at_the_address(data, root, monkeypatch, kind):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)

    def refuse(address, **_):
        raise kind("No cluster is here, or no token.")

    monkeypatch.setattr(ray, "init", refuse)
    write_images(data, 4)
    with pytest.raises(OptionError, match=r"No Ray .* --address auto.* RAY_AUTH_MODE=token. Ray .* here"):
        fill(data, root, by("ray"))

"""Machines that see the same cache: here processes, which know nothing of each other but that folder."""

import json
import os
import signal
from dataclasses import replace
from types import SimpleNamespace

import pytest
from extraction_support import (
    ENGINE,
    by,
    check_complete,
    extract_arguments,
    fill,
    forwarded,
    living,
    only_cache,
    prepare,
    requested,
    start_command,
    wait_until,
    write_images,
)

from fastcls import published
from fastcls.cache.lease import Leases
from fastcls.errors import OptionError
from fastcls.extraction import extractor
from fastcls.extraction.executors import board as boards
from fastcls.extraction.executors import shared
from fastcls.extraction.executors.board import Board
from fastcls.extraction.executors.places import Place, StoredPlace
from fastcls.extraction.extractor import extract
from fastcls.specs import ViewSpec

SHARED = ("--executor", "shared", "--workers", "1", "--batch-size", "1", "--shard-size", "4")


def start(data, root, token="", **environment):
    """Another machine, which takes a second without a beat for an end."""
    own = {"TEST_EXPIRES_S": "1", "TEST_DELAY_S": "0.02", **environment}
    return start_command(*extract_arguments(data, root, *SHARED), token=token, **own)


def ended(processes):
    """What the machines print, all of which must end well."""
    told = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(told), told
    return told


def test_machines_share_the_work_and_each_knows_all_of_it(data, root):
    write_images(data, 32)
    (data / "a" / "broken.png").write_bytes(b"not an image")
    prepare(root)
    told = ended([start(data, root) for _ in range(2)])
    assert len(forwarded(root)) == 32  # by all together
    assert all("33 images" in out and "1 unreadable" in out for out, _ in told), told
    assert any("images/s" in error for _, error in told)
    check_complete(root, 32)
    assert len(only_cache(root).samples()) == 33 and len(only_cache(root).failures()) == 1
    assert not (only_cache(root).folder / boards.FOLDER).exists()
    late = fill(data, root, by("shared"))
    assert (late.reused, late.forwarded, late.failures) == (32, 0, 1)


def test_machines_that_are_killed_or_stopped_are_replaced_and_one_that_goes_on_does_no_harm(data, root):
    write_images(data, 28)
    prepare(root)
    tokens = [f"{os.getpid()}-{name}" for name in ("killed", "stopped")]
    killed, stopped = (start(data, root, token, TEST_DELAY_S="0.1") for token in tokens)
    assert wait_until(lambda: len(forwarded(root)) > 4, 60)
    claims = only_cache(root).folder / boards.FOLDER
    assert wait_until(lambda: len([*claims.glob("*.claim.*")]) == 2, 60)
    killed.kill()
    for process in living(tokens[1]):
        os.kill(process, signal.SIGSTOP)
    killed.communicate()
    ended([start(data, root)])
    assert len(only_cache(root).index()) == 28
    for process in living(tokens[1]):
        os.kill(process, signal.SIGCONT)
    ended([stopped])
    check_complete(root, 28)


def test_a_second_run_goes_on_from_the_shards_of_a_machine_that_was_killed(data, root):
    write_images(data, 24)
    prepare(root)
    machine = start(data, root, TEST_DELAY_S="0.05")
    shards = only_cache(root).shards_folder
    assert wait_until(lambda: len([*shards.glob("*.h5")]) >= 2, 60)
    machine.kill()
    machine.communicate()
    kept = len(only_cache(root).index())
    done = fill(data, root, by("shared", 1, batch_size=1, shard_size=4))  # no claim is waited for
    assert kept < 24 and done.missing == 0
    check_complete(root, 24)


def test_what_machines_do_not_have_in_common_is_refused(data, root, monkeypatch):
    write_images(data, 12)
    prepare(root)
    machine = start(data, root, TEST_DELAY_S="0.5")
    assert wait_until((only_cache(root).folder / boards.FOLDER / "run.json").exists, 60)
    config = by("shared", 1, batch_size=1, shard_size=4, engine=ENGINE)

    def refused(theirs, ours, config=config, views=None):
        with pytest.raises(OptionError, match=rf"same command, .* has {theirs}; .* has {ours}\. Give"):
            extract(data, requested(root), root, config, views=views)

    refused("--shard-size 4", "--shard-size 5", replace(config, shard_size=5))
    refused("--views 1", "--views 3, --augment flip=0.5, --view-seed 0", views=ViewSpec(3, "flip"))
    write_images(data, 13)
    refused(r"12 images \(paths \w+\)", r"13 images \(paths \w+\)")
    (data / "a" / "000012.png").unlink()
    monkeypatch.setattr(shared, "fastcls", SimpleNamespace(__version__="9.9"))
    refused("fastcls [0-9.]+", "fastcls 9.9")
    machine.kill()
    machine.communicate()


def test_another_extraction_waits_for_machines_that_share_a_cache(data, root):
    write_images(data, 8)
    prepare(root)
    with Leases(is_shared=True) as ours, Leases(is_shared=True) as theirs:
        ours.take([only_cache(root).folder])
        ours.end_planning()
        theirs.take([only_cache(root).folder])
        assert len(ours.alone) == 1 and theirs.alone == [] and ours.last() == []
        process = start_command(*extract_arguments(data, root))
        assert "Waiting for it to end" in process.stderr.readline()
    ended([process])
    check_complete(root, 8)


def test_a_task_that_ends_whoever_is_at_it_is_given_up_until_the_next_run(data, root, monkeypatch):
    write_images(data, 8)
    prepare(root)
    monkeypatch.setattr(boards, "EXPIRES_S", 0.2)
    made, config = extractor.named_tasks, by("shared", 1, batch_size=1, shard_size=4)

    def claimed(filling, size):
        """Five machines have claimed the first task, one after the other, and are gone."""
        tasks = made(filling, size)
        board = Board(Place(filling.filled[0].cache.folder / boards.FOLDER))
        assert all(board.claim(tasks[0].name, number) for number in range(1, 6))
        return tasks

    monkeypatch.setattr(extractor, "named_tasks", claimed)
    done = fill(data, root, config)
    assert (done.forwarded, done.failures) == (4, 4)
    reasons = {failure.reason for failure in only_cache(root).failures()}
    assert len(reasons) == 1 and "was not ended in 5 trials" in reasons.pop()
    monkeypatch.setattr(extractor, "named_tasks", made)
    assert fill(data, root, config).failures == 0
    check_complete(root, 8)


def test_what_is_damaged_is_made_again(data, root, monkeypatch):
    write_images(data, 12)
    monkeypatch.setattr(extractor, "close_boards", lambda caches: None)
    config = by("shared", 1, batch_size=1, shard_size=4)
    fill(data, root, config)
    cache = only_cache(root)
    first, second, _ = sorted((cache.folder / boards.FOLDER).glob("[0-9a-f]*.json"))
    first.write_bytes(first.read_bytes()[:-9])
    shard = cache.shards_folder / json.loads(second.read_bytes())[0]["results"][0]["path"]
    assert shard.stem == second.stem
    shard.write_bytes(shard.read_bytes()[:999])
    for table in (cache.listing.samples_path, cache.listing.report_path):
        table.unlink()  # nothing is known of any image but from the board
    done = fill(data, root, config)
    assert done.missing == 0 and len(forwarded(root)) == 12 + 4
    check_complete(root, 12)


def test_a_machine_that_would_fill_another_cache_is_refused(data, root, monkeypatch):
    write_images(data, 8)
    config = by("shared", 1, batch_size=1, shard_size=4)
    fill(data, root, config)
    (data / "a" / "000000.png").unlink()
    write_images(data, 9)
    known = extractor.choose

    def choose(*arguments):
        filling, chosen = known(*arguments)
        (target,) = filling.targets
        other = replace(target, cache=target.caches.known())
        other.cache.folder = root / "another"
        return replace(filling, targets=(other,)), chosen

    monkeypatch.setattr(extractor, "choose", choose)
    with pytest.raises(OptionError, match=r"was begun in float32, which this machine .* cannot do"):
        fill(data, root, config)


@pytest.mark.parametrize("has_links", [True, False])
def test_publish__the_first_keeps_the_place(tmp_path, monkeypatch, has_links):
    if not has_links:

        def refuse(*_):
            raise OSError(1, "Operation not permitted")

        monkeypatch.setattr(published.os, "link", refuse)
    place = tmp_path / "place"
    assert published.publish_bytes(b"one", place) and not published.publish_bytes(b"two", place)
    assert place.read_bytes() == b"one" and [*tmp_path.iterdir()] == [place]


def test_publish__a_link_whose_answer_was_lost_counts(tmp_path):
    """An NFS client repeats its request, and is told that the file is there."""
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "place").hardlink_to(tmp_path / "file")
    assert published.publish(tmp_path / "file", tmp_path / "place")


@pytest.mark.parametrize("damage", [b"", b'{"who"', b"[1]", b"\xff\x00", b"1"])
def test_board__whatever_is_damaged_is_nobodys_or_refused(tmp_path, monkeypatch, damage):
    place = Place(tmp_path)
    one, other = Board(place), Board(place)
    place.create("t.claim.later", b"")
    with one.joined({"fastcls": "1"}):
        assert one.claim("t", 1) and one.publish("u", {"from": "one"})
        for name in place.names():
            (tmp_path / name).write_bytes(damage)
        with pytest.raises(OptionError, match=r"run\.json in .* is damaged\. End them, remove this folder"):
            other.joined({"fastcls": "1"}).__enter__()
        assert other.look().claims == {"t": 1} and other.claimants("t", 1) == []
        assert other.record("u") is None
        monkeypatch.setattr(boards, "EXPIRES_S", 0.0)
        assert wait_until(lambda: other.is_abandoned("t", 1)) and other.claim("t", 2)


@pytest.mark.parametrize("kind", ["folder", "store"])
def test_board__claims_and_results_are_those_of_the_first(tmp_path, monkeypatch, kind):
    place = Place(tmp_path) if kind == "folder" else StoredPlace(f"memory://{tmp_path.name}/tasks")
    one, other = Board(place), Board(place)
    with one.joined({"fastcls": "1"}):
        assert one.claim("t", 1) and not other.claim("t", 1) and other.claim("u", 1)
        assert other.look().claims == {"t": 1, "u": 1} and not other.is_abandoned("t", 1)
        assert one.publish("t", {"from": "one"}) and not other.publish("t", {"from": "other"})
        assert other.record("t") == {"from": "one"} and other.look().done == {"t"}
        with (
            pytest.raises(OptionError, match=r"has 1; .* has 2\. Give the same on all"),
            other.joined({"fastcls": "2"}),
        ):
            pass
        place.write("t.json", b"[1, 2]")
        assert other.record("t") is None and other.look().done == set()
        monkeypatch.setattr(boards, "EXPIRES_S", 0.0)
        assert wait_until(lambda: other.is_abandoned("u", 1))  # nobody beats for it
    assert one.look().claims == {"u": 1}
    if kind == "store":
        one.close()
        assert place.names() == []

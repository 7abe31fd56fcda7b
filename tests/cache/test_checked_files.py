"""Files that are known to be whole, and what is said of those that are not."""

import random

import pytest

from fastcls.cache import checked_files
from fastcls.errors import CacheError


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "cache" / "trunk.keras"
    checked_files.keep(path, lambda place: place.write_bytes(b"trunk" * 100), of="print")
    checked_files.keep(path.with_name("tail.keras"), lambda place: place.write_bytes(b"tail"), of="print")
    return path


def test_record__whatever_is_changed_is_found(model):
    whole, chance = model.read_bytes(), random.Random(1)
    assert checked_files.damage(model) == "" and checked_files.is_noted(model, of="print")
    for _ in range(50):
        place = chance.randrange(len(whole))
        model.write_bytes(
            whole[:place] + bytes([whole[place] ^ 1 << chance.randrange(8)]) + whole[place + 1 :]
        )
        assert checked_files.damage(model) == f"{model} is damaged: its digest does not match"
        model.write_bytes(whole[:place])
        assert checked_files.damage(model)
    model.write_bytes(model.with_name("tail.keras").read_bytes())  # swapped
    with pytest.raises(CacheError, match=r"trunk.keras is damaged.*Delete this file and run the same"):
        checked_files.require_whole(model.with_name("tail.keras"), model)
    model.unlink()
    assert checked_files.damage(model) == f"{model} is missing" and not checked_files.is_noted(
        model, of="print"
    )


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"{}", b'{"checksum": "x"}', b"[" * 100_000])
def test_record__without_it_nothing_is_trusted(model, data):
    (model.parent / checked_files.FILE).write_bytes(data)
    assert "cannot be checked" in checked_files.damage(model) and not checked_files.is_noted(
        model, of="print"
    )
    (model.parent / checked_files.FILE).unlink()
    assert "cannot be checked" in checked_files.damage(model)
    checked_files.keep(model, lambda place: place.write_bytes(b"anew"), of="print")
    assert checked_files.damage(model) == "" and checked_files.damage(model.with_name("tail.keras"))


def test_record__of_another_cache_is_no_record(model):
    assert not checked_files.is_noted(model, of="another")
    checked_files.keep(model, lambda place: place.write_bytes(b"trunk of another"), of="another")
    assert checked_files.damage(model) == "" and checked_files.damage(model.with_name("tail.keras"))


def test_record__a_kill_between_noting_and_placing_heals(model, monkeypatch):
    """The digest is noted first: what is there has it, or is made anew."""

    def killed(*_):
        raise KeyboardInterrupt

    for before in (model.read_bytes(), None):
        if before is None:
            model.unlink()
        with monkeypatch.context() as patch:
            patch.setattr("pathlib.Path.replace", _only_json(killed))
            with pytest.raises(KeyboardInterrupt):
                checked_files.keep(model, lambda place: place.write_bytes(b"new"), of="print")
        assert checked_files.damage(model) and checked_files.damage(model.with_name("tail.keras")) == ""
        checked_files.keep(model, lambda place: place.write_bytes(b"new"), of="print")
        assert checked_files.damage(model) == ""


def _only_json(killed):
    from pathlib import Path

    replace = Path.replace
    return lambda path, target: replace(path, target) if target.name == checked_files.FILE else killed()


def test_load_model__names_a_whole_file_that_cannot_be_loaded(model):
    with pytest.raises(CacheError, match=r"trunk\.keras is intact, but cannot be loaded: ValueError"):
        checked_files.load_model(model)

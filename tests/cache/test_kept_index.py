"""The index in a file says what the shards say, whatever became of them or of it."""

import itertools
import random

import numpy as np
import pytest

from fastcls import files
from fastcls.cache import kept_index
from fastcls.cache.index import Index
from fastcls.cache.shard import ShardWriter, read_digests

PRINT = "f" * 32


@pytest.fixture(autouse=True)
def kept(monkeypatch):
    """Small caches have an index, too."""
    monkeypatch.setattr(kept_index, "LEAST_ROWS", 1)


def write(folder, chance, fingerprint=PRINT):
    digests = [files.digest(chance.randbytes(8)) for _ in range(chance.randint(1, 9))]
    with ShardWriter(folder, (2,), "float16", {"fingerprint": fingerprint}) as writer:
        writer.append(digests, np.zeros((len(digests), 2)))
        return writer.finish()


def told(index):
    """Where each digest is."""
    keys = index.digests.tolist()
    assert keys == sorted(keys)
    names = (index.shards[place].name for place in index.shard)
    return sorted(zip(keys, names, index.row.tolist(), strict=True))


def expected(folder):
    found = []
    for path in sorted(folder.glob("*.h5")):
        try:
            found += [(key, path.name, row) for row, key in enumerate(read_digests(path, PRINT).tolist())]
        except Exception:
            continue
    return sorted(found)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_index__notices_each_shard_that_came_changed_or_went(tmp_path, seed):
    chance, folder = random.Random(seed), tmp_path / "shards"
    write(folder, chance)
    for _ in range(25):
        path = chance.choice(sorted(folder.glob("*.h5")))
        change = chance.choice(["new", "new", "foreign", "gone", "damaged", "replaced"])
        if change == "gone" and len([*folder.iterdir()]) > 1:
            path.unlink()
        elif change == "damaged":
            path.write_bytes(b"damaged")
        elif change == "replaced":
            write(tmp_path, chance).replace(path)
        else:
            write(folder, chance, "another" if change == "foreign" else PRINT)
        for _ in range(chance.randint(1, 2)):
            index = Index.read(folder, PRINT, warn=False)
            assert told(index) == expected(folder)
            rows = index.locate(index.digests[::-1])
            assert rows.present.all() and not index.locate([files.digest(b"none"), ""]).present.any()
            assert [rows.shards[place].parent for place in rows.shard] == [folder] * len(rows)


def test_index__a_damaged_file_is_made_again(tmp_path):
    chance, folder = random.Random(3), tmp_path / "shards"
    for _ in range(4):
        write(folder, chance)
    right = told(Index.read(folder, PRINT))
    path = tmp_path / kept_index.FILE
    whole = path.read_bytes()
    for place in range(0, len(whole), 17):
        path.write_bytes(
            whole[:place] + bytes([whole[place] ^ 1 << chance.randrange(8)]) + whole[place + 1 :]
        )
        assert told(Index.read(folder, PRINT)) == right
    for damaged in (b"", whole[:-1], whole + b"x", whole[:100], b"{}\n", b"[]\n", b"\xff\n"):
        path.write_bytes(damaged)
        assert kept_index.damage(path, PRINT) and told(Index.read(folder, PRINT)) == right
        assert path.read_bytes() == whole and not kept_index.damage(path, PRINT)
    assert kept_index.load(path, "another") is None


def test_index__is_not_read_from_shards_while_the_file_is_right(tmp_path, monkeypatch):
    chance, folder = random.Random(4), tmp_path / "shards"
    for _ in range(3):
        write(folder, chance)
    right, opened = told(Index.read(folder, PRINT)), []
    real = read_digests
    monkeypatch.setattr(
        "fastcls.cache.shard.read_digests", lambda path, of: opened.append(path) or real(path, of)
    )
    assert told(Index.read(folder, PRINT)) == right and opened == []
    new = write(folder, chance)
    assert len(told(Index.read(folder, PRINT))) > len(right) and opened == [new]


def test_index__a_cache_that_cannot_be_written_to_does_without(tmp_path, monkeypatch):
    folder = tmp_path / "shards"
    write(folder, random.Random(5))

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(files, "put", refuse)
    assert told(Index.read(folder, PRINT)) == expected(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["shards"]


def test_locate__finds_rows_that_share_half_their_digests(tmp_path):
    halves = [f"{n:016x}" for n in (0, 1, 2**64 - 1)]
    keys = ["".join(pair) for pair in itertools.product(halves, repeat=2)]
    index = Index.of(np.array(keys[::2], "S32"))
    assert index.locate(keys).present.tolist() == [True, False] * 4 + [True]

import json
import subprocess
import sys

import h5py
import numpy as np
import pytest

from fastcls import files
from fastcls.cache import shard
from fastcls.cache.shard import ShardWriter, empty_rows, read_digests, read_into, read_quality
from fastcls.data.pixel_quality import COLUMNS
from fastcls.errors import CacheError

COUNT = 40
ROWS = np.random.default_rng(0).normal(size=(COUNT, 2, 3)).astype(np.float32)
QUALITY = np.random.default_rng(2).normal(size=(COUNT, len(COLUMNS))).astype(np.float32)
DIGESTS = [files.digest(bytes([number])) for number in range(COUNT)]


def write(
    folder, rows=ROWS, digests=DIGESTS, fingerprint="print", dtype="float32", parts=3, quality=None, **options
):
    described = {"fingerprint": fingerprint}
    with ShardWriter(folder, rows.shape[1:], dtype, described, **options) as writer:
        for chosen in np.array_split(np.arange(len(rows)), parts):
            own = None if quality is None else [quality[place] for place in chosen]
            writer.append([digests[place] for place in chosen], rows[chosen], own)
        return writer.finish()


def read_rows(path, indices):
    output = empty_rows(path, len(indices))
    read_into(output, np.arange(len(indices)), path, indices)
    return output


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_shard__gives_back_what_was_put_in(tmp_path, dtype):
    path = write(tmp_path, dtype=dtype)
    assert read_digests(path, "print").tolist() == [digest.encode() for digest in DIGESTS]
    places = np.array([7, 0, 39, 7, 12])
    rows = read_rows(path, places)
    assert rows.dtype == dtype and np.array_equal(rows, ROWS.astype(dtype)[places])
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("shape", [(5,), (700,), (3, 4, 30)], ids=str)
@pytest.mark.parametrize("compress", [False, True])
def test_read_rows__are_those_of_the_array(tmp_path, shape, dtype, compress):
    random = np.random.default_rng(5)
    rows = random.normal(size=(200, *shape)).astype(dtype)
    rows[:100] = rows[:100].clip(0)  # as after a ReLU; the others cannot be compressed
    digests = [files.digest(bytes([number])) for number in range(200)]
    path = write(tmp_path, rows, digests, dtype=dtype, parts=7, compress=compress)
    chosen = [random.integers(0, 200, size) for size in (1, 2, 20, 300)]
    chosen += [
        np.arange(200),
        np.arange(200)[::-1],
        np.arange(63, 66),
        np.flatnonzero(random.random(200) < 0.8),
    ]
    for indices in chosen:
        np.testing.assert_array_equal(read_rows(path, indices), rows[indices])
    with pytest.raises(CacheError, match="damaged"):
        read_rows(path, np.array([200]))


def test_compressed_shard__is_smaller_and_read_by_hdf5_alike(tmp_path):
    rows = np.random.default_rng(0).normal(size=(COUNT, 600)).clip(0).astype(np.float16)
    plain = write(tmp_path / "plain", rows, dtype="float16")
    packed = write(tmp_path / "packed", rows, dtype="float16", compress=True)
    assert packed.stat().st_size < 0.8 * plain.stat().st_size
    with h5py.File(packed) as file:
        np.testing.assert_array_equal(file["bottlenecks"][:], rows)
    whole = packed.read_bytes()
    packed.write_bytes(whole[:3000] + bytes(3000) + whole[6000:])
    with pytest.raises(CacheError, match="damaged"):
        read_rows(packed, np.arange(COUNT))


def test_read_rows__bear_a_damaged_row_between_them(tmp_path):
    path = write(tmp_path)
    read_rows(path, np.arange(COUNT))
    whole = path.read_bytes()
    path.write_bytes(whole.replace(ROWS[7].tobytes(), ROWS[8].tobytes()))
    np.testing.assert_array_equal(read_rows(path, np.array([6, 8])), ROWS[[6, 8]])
    for indices in ([7], [0, 7, 9], [6, 7, 8], [8, 7]):
        with pytest.raises(CacheError, match=rf"{path} is damaged: row 7 does not match its checksum"):
            read_rows(path, np.array(indices))
    path.write_bytes(whole[: whole.index(ROWS[20].tobytes())])
    with pytest.raises(CacheError, match="damaged"):
        read_rows(path, np.array([30]))


def test_quality__lies_beside_the_rows_and_is_unknown_where_it_was_not_measured(tmp_path):
    views = [None if place % 4 else QUALITY[place] for place in range(COUNT)]
    found = read_quality(write(tmp_path / "views", quality=views))
    np.testing.assert_array_equal(found[::4], QUALITY[::4])
    assert np.isnan(np.delete(found, np.s_[::4], axis=0)).all()
    assert np.isnan(read_quality(write(tmp_path / "none"))).all()
    path = write(tmp_path / "other", quality=QUALITY)
    with h5py.File(path, "a") as file:
        assert file["quality"].attrs["columns"].astype(str).tolist() == [*COLUMNS]
        file["quality"].attrs["columns"] = np.array([f"{name}2" for name in COLUMNS], "S")
    found = read_quality(path)
    assert found.shape == QUALITY.shape and np.isnan(found).all()


def test_shard__same_rows_take_the_same_place(tmp_path):
    assert write(tmp_path, parts=1) == write(tmp_path, parts=7)
    assert len(list(tmp_path.iterdir())) == 1


def test_shard__an_unfinished_or_empty_one_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), ShardWriter(tmp_path, (6,), "float32", {}) as writer:
        writer.append(DIGESTS[:1], np.zeros((1, 6), np.float32))
        raise KeyboardInterrupt
    with ShardWriter(tmp_path, (6,), "float32", {}) as writer:
        writer.append([], np.zeros((0, 6), np.float32))
        assert writer.finish() is None
    assert list(tmp_path.iterdir()) == []


def test_shard__is_not_much_larger_than_its_rows(tmp_path):
    assert write(tmp_path).stat().st_size < ROWS.nbytes + 40 * COUNT + 4096
    many = np.zeros((256, 2048), np.float32)
    path = write(tmp_path, many, [files.digest(bytes([number])) for number in range(256)])
    assert path.stat().st_size < 1.05 * many.nbytes


def check_never_wrong(path):
    """Either an error that names the file, or the very rows."""
    shard._layout.cache_clear()  # two changes can have the same time
    try:
        digests = read_digests(path, "print")
        rows = read_rows(path, np.arange(COUNT))
        quality = read_quality(path)
    except CacheError as error:
        assert str(path) in str(error)
        return False
    assert digests.tolist() == [digest.encode() for digest in DIGESTS]
    assert rows.dtype == np.float32 and np.array_equal(rows, ROWS)
    assert quality.dtype == np.float32 and np.array_equal(quality, QUALITY)
    return True


def test_shard__a_flipped_bit_is_never_another_row(tmp_path):
    path = write(tmp_path, quality=QUALITY)
    whole = path.read_bytes()
    random = np.random.default_rng(1)
    harmless = 0
    for place in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << random.integers(8)
        path.write_bytes(damaged)
        harmless += check_never_wrong(path)
    assert harmless < len(whole) / 3 / 4  # unused bytes


def test_shard__a_truncated_one_is_refused(tmp_path):
    path = write(tmp_path, quality=QUALITY)
    whole = path.read_bytes()
    for length in range(0, len(whole), 101):
        path.write_bytes(whole[:length])
        assert not check_never_wrong(path)


def test_shard__another_cache_or_version_or_no_shard(tmp_path):
    path = write(tmp_path, fingerprint="other")
    with pytest.raises(CacheError, match="belongs to another cache"):
        read_digests(path, "print")
    with h5py.File(path, "a") as file:
        file.attrs["version"] = 2
    with pytest.raises(CacheError, match="not a fastcls shard of version 1"):
        read_digests(path, "other")
    with h5py.File(tmp_path / "else.h5", "w") as file:
        file["data"] = 1
    with pytest.raises(CacheError, match="is damaged"):
        read_digests(tmp_path / "else.h5", "print")


def test_shard__a_full_disk_is_an_error_and_no_crash(tmp_path, mount):
    # In a process of its own: HDF5 used to take the process down when it ended.
    disk = mount(tmp_path / "disk", "tmpfs", "size=300k")
    code = f"""
import errno, json, pathlib, sys
import numpy as np
from fastcls.cache.shard import ShardWriter
rows = np.ones((32, 1000), np.float32)
try:
    with ShardWriter(pathlib.Path({str(disk)!r}), (1000,), "float32", {{}}) as writer:
        for batch in range(int(sys.argv[1])):
            writer.append([f"{{batch:016}}{{row:016}}" for row in range(32)], rows)
        writer.finish()
except OSError as error:
    print(json.dumps([error.errno == errno.ENOSPC, [p.name for p in pathlib.Path({str(disk)!r}).iterdir()]]))
"""
    for batches in (2, 3, 20):  # the disk is full while closing, or while appending
        done = subprocess.run([sys.executable, "-c", code, str(batches)], capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr
        full, entries = json.loads(done.stdout) if done.stdout else (False, [1])
        assert len(entries) == (0 if full else 1) and full == (batches > 2)
        for entry in disk.iterdir():
            entry.unlink()

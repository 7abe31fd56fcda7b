"""The checksum of rows that follow each other, from those of each."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from fastcls import files
from fastcls.cache import checksums, shard
from fastcls.cache.shard import ShardWriter
from fastcls.errors import CacheError


@pytest.mark.parametrize(("count", "width"), [(1, 1), (2, 1), (7, 3), (100, 400), (300, 5120)])
def test_of_run__is_that_of_zlib(count, width):
    random = np.random.default_rng(count)
    rows = random.integers(0, 256, (count, width), np.uint8)
    rows[: count // 3] = 0
    sums = checksums.running(checksums.checksums(rows), width)
    pairs = np.sort(random.integers(0, count + 1, (40, 2)))
    for first, stop in [(0, count), (count - 1, count), *pairs.tolist()]:
        expected = zlib.crc32(rows[first:stop].tobytes())
        assert checksums.of_run(sums, first, stop, width) == expected


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("bit", [0, 3, 7])
def test_read_into__names_the_damaged_row_of_a_run(tmp_path, dtype, bit):
    rows = np.random.default_rng(1).normal(size=(90, 50)).astype(dtype)
    with ShardWriter(tmp_path, (50,), dtype, {"fingerprint": "print"}) as writer:
        writer.append([files.digest(b"%d" % number) for number in range(90)], rows)
        path = writer.finish()
    data = bytearray(path.read_bytes())
    data[data.index(rows[70].tobytes()) + 49] ^= 1 << bit
    path.write_bytes(data)
    output = shard.empty_rows(path, 70)
    shard.read_into(output, np.arange(70), path, np.arange(70))
    assert np.array_equal(output, rows[:70])
    with pytest.raises(CacheError, match="row 70 does not match its checksum"):
        shard.read_into(output, np.arange(70), path, np.arange(20, 90))

"""A table of millions of images is read in few hundred bytes of memory for each."""

from __future__ import annotations

import tracemalloc

from fastcls.data.dataset import Dataset
from fastcls.data.readers import places


def test_from_csv__takes_little_more_than_the_path_of_each_image(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "_is_file", lambda root, path: True)
    table, count = tmp_path / "list.csv", 20_000

    def write(rows):
        lines = [f"images/{place // 1000:06}/{place:010}.jpg,class {place % 100:03}" for place in range(rows)]
        table.write_text("\n".join(["path,label", *lines]))

    write(200)
    Dataset.from_csv(table)  # what is imported and kept once
    write(count)
    tracemalloc.start()
    try:
        samples = Dataset.from_csv(table).samples
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(samples) == count
    assert peak < 600 * count

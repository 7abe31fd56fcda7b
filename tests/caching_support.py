"""Caches as extractions leave them, made of nothing: every row follows from its key."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from manifest_support import some_manifest

from fastcls import files, runs
from fastcls.cache import checked_files, shard
from fastcls.cache.listing import Listing, Report, listings
from fastcls.cache.samples import Failure, FileState, SampleRow
from fastcls.cache.shard import ShardWriter
from fastcls.cache.store import Cache
from fastcls.data.pixel_quality import COLUMNS
from fastcls.data.views import row_key
from fastcls.specs import ViewSpec
from fastcls.tasks import TASKS
from fastcls.used_images import UsedImage, write_images

SHAPE = (2, 3)
VIEWS = ViewSpec(3, "flip", 5)
MANIFEST = some_manifest(
    "f" * 32,
    SHAPE,
    base="resnet50",
    weights="imagenet",
    layer="add",
    normalize="tf",
    size=(8, 6),
    tail_digest="t",
)
_ROWS = {"shape": SHAPE, "dtype": "float32", "attributes": {"fingerprint": MANIFEST.fingerprint}}
CHANGES = {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link"}


def row_of(key: str) -> np.ndarray:
    """The bottleneck that belongs to a key."""
    return np.random.default_rng(int(key[:12], 16)).normal(size=SHAPE).astype(np.float32)


@dataclass
class DataSet:
    """Images of one data set: their digests by path."""

    name: str
    images: dict[str, str]
    views: ViewSpec = field(default_factory=ViewSpec)
    failures: tuple[Failure, ...] = ()

    @property
    def keys(self) -> list[str]:
        """Of all its rows."""
        counts = {path: self.views.of_split(_split(path)) for path in self.images}
        return [row_key(own, self.views, n) for path, own in self.images.items() for n in range(counts[path])]

    def list_in(self, cache: Cache) -> None:
        """Write its tables."""
        rows = [
            SampleRow(path, (f"class{len(path) % 3}",), _split(path), "", digest, FileState(1, 2, 3))
            for path, digest in sorted(self.images.items())
        ]
        rows += [SampleRow(failure.path, ("class0",), "train") for failure in self.failures]
        report = Report(f"/data/{self.name}", "/data", views=self.views)
        Listing(cache.folder, self.name).write(report, sorted(rows, key=lambda row: row.path), self.failures)


def _split(path: str) -> str:
    return ("train", "val", "test")[int(path.split(".")[0][-1], 16) % 3]


def make_sets(seed: int, count: int = 30) -> list[DataSet]:
    """Three data sets that share images; one has copies, one views, one a failure."""
    chance = random.Random(seed)
    known = [files.digest(chance.randbytes(8)) for _ in range(count)]
    sets = []
    for name, views in (("a", ViewSpec()), ("b", VIEWS), ("c", ViewSpec())):
        chosen = chance.sample(known, chance.randint(count // 4, count // 2))
        images = {f"{name}/{number:03}.jpg": digest for number, digest in enumerate(chosen)}
        images[f"{name}/copy0.jpg"] = chosen[0]
        failures = (Failure(f"{name}/broken1.jpg", "", "it is empty"),) if name == "c" else ()
        sets.append(DataSet(name, images, views, failures))
    return sets


def make_cache(root: Path, seed: int, sets: Iterable[DataSet]) -> Cache:
    """A cache of some data sets, with all that an extraction makes."""
    cache = Cache.create(root, MANIFEST)
    of = MANIFEST.fingerprint
    for path in cache.models:
        checked_files.keep(path, lambda temporary: temporary.write_bytes(os.urandom(200)), of=of)
    with files.atomic_folder(cache.folder / "openvino") as engine:
        for name in ("trunk.xml", "trunk.bin"):
            (engine / name).write_bytes(os.urandom(300))
        checked_files.note_all(engine)
    fill(
        cache, [key for each in sets for key in each.keys], {k for s in sets for k in s.images.values()}, seed
    )
    for each in sets:
        each.list_in(cache)
    return cache


def fill(cache: Cache, keys: Iterable[str], measured: set[str], seed: int = 0) -> None:
    """Do what an extraction does: forward what is missing, in shards of a few rows."""
    chance, known = random.Random(seed), rows_in(cache)
    missing = sorted({*keys} - known.keys())
    chance.shuffle(missing)
    while missing:
        part, missing = missing[:9], missing[9:]
        quality = [np.full(len(COLUMNS), 0.5, np.float32) if key in measured else None for key in part]
        with ShardWriter(cache.shards_folder, **_ROWS, compress=chance.random() < 0.3) as writer:
            writer.append(part, np.stack([*map(row_of, part)]), quality)
            writer.finish()


def rows_in(cache: Cache, *, once: bool = False) -> dict[str, bytes]:
    """The rows of a cache by their keys, read as a training reads them; each is the right one."""
    shard.forget_layouts()
    index = cache.index()
    keys = index.digests.astype("U32").tolist()
    assert not once or len({*keys}) == len(keys)
    found = index.locate(keys).read() if keys else np.empty((0, *SHAPE), np.float32)
    rows = {key: row.tobytes() for key, row in zip(keys, found, strict=True)}
    assert all(row == row_of(key).tobytes() for key, row in rows.items())
    return rows


def tables_in(cache: Cache) -> dict[str, list[SampleRow]]:
    """The data sets of a cache."""
    return {listing.name: [*listing.samples()] for listing in listings(cache.folder)}


def make_run(folder: Path, digests: Iterable[str]) -> Path:
    """A run that was trained on some images."""
    folder.mkdir(parents=True)
    task = TASKS["one label"]
    write_images(folder / runs.IMAGES, (UsedImage("x", ("a",), "train", own) for own in digests), task)
    record = {"images": {"complete": True}, "asked": {}, "decided_by": {}, "class_names": ["a"]}
    record |= {"thresholds": None, "figures": {}, "train_count": 1, "val_count": 0}
    record |= {"task": task.name, "cache": {"fingerprint": MANIFEST.fingerprint}}
    runs.write_record(folder, record)
    return folder


def bytes_below(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Content and time of each file."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def is_killed(number: int, act: Callable[[], object]) -> bool:
    """Do something in a child process that is killed before its n-th change to any file; whether it was."""
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, 9)
        return code == 9
    try:
        _die_at(number)
        act()
    except BaseException:
        os._exit(1)
    os._exit(0)


def _die_at(number: int) -> None:
    count = 0

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        is_write = event == "open" and bool(int(arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))  # type: ignore[call-overload]
        if event in CHANGES or is_write:
            count += 1
            if count == number:
                os._exit(9)

    sys.addaudithook(watch)

"""Who goes where, and that an output grows, resumes and never loses or moves an image."""

import csv
import errno
import os
import random
import shutil
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import pytest

from fastcls.data.dataset import SPLITS, Dataset
from fastcls.data.split_table import SPLIT_PLAN
from fastcls.data.splitter import assign_splits, split
from fastcls.data.writers import split as split_writer
from fastcls.data.writers.split import write_split
from fastcls.errors import DataError, OptionError
from fastcls.files import digest
from fastcls.specs import SplitSpec

SPEC = SplitSpec(test=0.1)


def expected_counts(total: int, val: int, test: int) -> dict[str, int]:
    """Exact counts from percentages, in whole numbers."""
    counts = {"val": max(1, (total * val + 50) // 100), "test": max(1, (total * test + 50) // 100)}
    return {"train": total - sum(counts.values()), **counts}


def make_keys(count: int, name: str = "") -> list[str]:
    return [digest(f"{name}{index}".encode()) for index in range(count)]


def make_photos(root: Path, sizes: dict[str, int], first: int = 0) -> Path:
    for name, size in sizes.items():
        for index in range(first, first + size):
            file = root / name / f"sub {index % 2}" / f"{index}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(f"{name} {index}".encode())
    return root


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def read_table(out: Path) -> list[dict[str, str]]:
    with (out / "split.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def places(out: Path) -> dict[str, str]:
    return {row["digest"]: row["path"] for row in read_table(out)}


# Choosing splits


@pytest.mark.parametrize(("val", "test"), [(20, 10), (29, 14), (15, 15), (40, 5)])
def test_assign_splits__counts_are_exact(val, test):
    sizes = [3, 5, 10, 14, 50, 105]
    labels = [str(size) for size in sizes for _ in range(size)]
    splits = assign_splits(make_keys(len(labels)), labels, SplitSpec(val / 100, test / 100))
    table = Counter(zip(labels, splits, strict=True))
    for size in sizes:
        assert {s: table[str(size), s] for s in SPLITS} == expected_counts(size, val, test)


def test_assign_splits__order_does_not_matter_and_the_seed_does():
    rng = random.Random(0)
    keys = make_keys(200) + make_keys(20)
    labels = [rng.choice("abc") for _ in keys]
    groups = [rng.choice(["", "", "", *"pqrs"]) for _ in keys]
    order = rng.sample(range(len(keys)), len(keys))
    straight = assign_splits(keys, labels, SPEC, groups=groups)
    mixed = [[column[index] for index in order] for column in (keys, labels, groups)]
    assert assign_splits(mixed[0], mixed[1], SPEC, groups=mixed[2]) == [straight[index] for index in order]
    assert assign_splits(keys, labels, replace(SPEC, seed=1), groups=groups) != straight


def test_assign_splits__units_stay_together_and_counts_come_near():
    for seed in range(30):
        rng = random.Random(seed)
        keys = [digest(str(rng.randrange(250)).encode()) for _ in range(300)]
        labels = [key[0] > "7" for key in keys]
        groups = [rng.choice(["", "", "", key[:2]]) for key in keys]
        splits = assign_splits(keys, labels, SPEC, groups=groups)
        for column in (keys, groups):
            homes = defaultdict(set)
            for name, side in zip(column, splits, strict=True):
                homes[name].add(side)
            assert all(len(sides) == 1 for name, sides in homes.items() if name)
        table = Counter(zip(labels, splits, strict=True))
        for label, total in Counter(labels).items():
            assert {s: table[label, s] for s in SPLITS} == expected_counts(total, 20, 10)


def test_assign_splits__large_groups_leave_no_split_empty():
    groups = ["a"] * 6 + ["b"] * 2 + ["c"] * 2
    splits = assign_splits(make_keys(10), [0] * 10, SplitSpec(0.4, 0.1), groups=groups)
    assert set(splits) == set(SPLITS)
    assert splits[0] == "train"


def test_assign_splits__earlier_images_stay_and_new_ones_even_out():
    rng = random.Random(0)
    keys, labels = make_keys(500), [rng.choice("abc") for _ in range(500)]
    fixed: dict[str, str] = {}
    for size in (30, 31, 100, 107, 500):
        splits = assign_splits(keys[:size], labels[:size], SPEC, fixed=fixed)
        assert all(fixed[key] == side for key, side in zip(keys, splits, strict=False) if key in fixed)
        fixed = dict(zip(keys, splits, strict=False))
        table = Counter(zip(labels, splits, strict=False))
        for label, total in Counter(labels[:size]).items():
            assert {s: table[label, s] for s in SPLITS} == expected_counts(total, 20, 10)


def test_assign_splits__newcomers_join_their_group():
    keys = make_keys(40)
    fixed = {keys[0]: "test", keys[1]: "test", keys[2]: "val"}
    splits = assign_splits(keys, [0] * 40, SPEC, groups=["g"] * 8 + [""] * 32, fixed=fixed)
    assert splits[:8] == ["test", "test", "val"] + ["test"] * 5


def test_assign_splits__what_joins_an_earlier_image_counts_before_larger_groups():
    keys = make_keys(12)
    groups = ["g"] * 5 + ["h"] * 6 + [""]
    splits = assign_splits(keys, [0] * 12, SplitSpec(0.4, 0.1), groups=groups, fixed={keys[0]: "train"})
    assert splits == ["train"] * 5 + ["val"] * 6 + ["test"]


def test_assign_splits__small_class(caplog):
    keys, labels = make_keys(23), ["big"] * 20 + ["tiny"] * 2 + ["lone"]
    with pytest.raises(DataError, match=r"'lone' \(images: 1, separable: 1\), 'tiny' \(images: 2"):
        assign_splits(keys, labels, SPEC)
    splits = assign_splits(keys, labels, SPEC, allow_small=True)
    assert sorted(splits[20:22]) == ["train", "val"]
    assert splits[22] == "train"
    assert "'tiny'" in caplog.text


def test_assign_splits__identical_images_make_a_class_small():
    with pytest.raises(DataError, match=r"'a' \(images: 9, separable: 1\)"):
        assign_splits(make_keys(1) * 9 + make_keys(9, "b"), ["a"] * 9 + ["b"] * 9, SPEC)


def test_assign_splits__a_split_may_be_unwanted():
    assert Counter(assign_splits(make_keys(10), [0] * 10, SplitSpec(0.25, 0))) == {"train": 7, "val": 3}


@pytest.mark.parametrize(
    ("val", "test", "complaint"),
    [
        (-0.1, 0.1, "val must be 0 or more and below 1"),
        (0.5, 0.5, "leave images for train"),
        (0.1, float("nan"), "test must be 0 or more and below 1"),
    ],
)
def test_split_spec__bad_fractions(val, test, complaint):
    with pytest.raises(OptionError, match=complaint):
        SplitSpec(val, test)


def test_split__keeps_the_dataset_and_names_what_it_cannot_read(tmp_path):
    dataset = Dataset.from_folder(make_photos(tmp_path, {"a": 10, "b": 10}))
    done = split(dataset, SPEC)
    assert [replace(sample, split="") for sample in done.samples] == list(dataset.samples)
    assert done.counts() == {name: {"train": 7, "val": 2, "test": 1} for name in "ab"}
    with pytest.raises(DataError, match="is already split"):
        split(done, SPEC)
    (tmp_path / "a/sub 0/0.jpg").unlink()
    with pytest.raises(DataError, match=r"sub 0/0\.jpg' cannot be read"):
        split(dataset, SPEC)


# Writing a split folder


@pytest.mark.parametrize("mode", ["link", "copy", "symlink"])
def test_write_split__writes_what_it_says_and_leaves_the_source_alone(tmp_path, mode):
    photos = make_photos(tmp_path / "photos", {"a b": 10, "new\nline é": 10})
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in photos.rglob("*.jpg")}
    result = write_split(Dataset.from_folder(photos), tmp_path / "out", SPEC, mode=mode)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in photos.rglob("*.jpg")} == before
    assert Dataset.from_folder(tmp_path / "out") == result.dataset
    assert Dataset.open(tmp_path / "out/split.csv") == result.dataset
    for row in read_table(tmp_path / "out"):
        target, source = tmp_path / "out" / row["path"], Path(row["source"])
        assert row["path"] == f"{row['split']}/{source.relative_to(photos).as_posix()}"
        assert target.read_bytes() == source.read_bytes()
        assert target.is_symlink() == (mode == "symlink")
        assert target.samefile(source) == (mode != "copy")


def test_write_split__copies_where_links_fail(tmp_path, monkeypatch, caplog):
    def fail(*_):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", fail)
    photos = make_photos(tmp_path / "photos", {"a": 5, "b": 5})
    result = write_split(Dataset.from_folder(photos), tmp_path / "out", SPEC)
    assert Dataset.from_folder(tmp_path / "out") == result.dataset
    assert "Copied 10 images" in caplog.text


def test_write_split__a_link_in_the_source_gives_a_real_file(tmp_path):
    photos = make_photos(tmp_path / "photos", {"a": 5, "b": 5})
    (tmp_path / "elsewhere.jpg").write_bytes(b"elsewhere")
    (photos / "a/link.jpg").symlink_to("../../elsewhere.jpg")
    write_split(Dataset.from_folder(photos), tmp_path / "out", SPEC)
    target = tmp_path / "out" / places(tmp_path / "out")[digest(b"elsewhere")]
    assert target.read_bytes() == b"elsewhere"
    assert not target.is_symlink()


def test_write_split__grows_without_moving(tmp_path):
    photos, out = make_photos(tmp_path / "photos", {"a": 10, "b": 15}), tmp_path / "out"
    write_split(Dataset.from_folder(photos), out, SPEC)
    before, files = places(out), snapshot(out)
    (photos / "a/sub 0/2.jpg").rename(photos / "a/renamed.jpg")
    (photos / "b/sub 1/3.jpg").unlink()
    make_photos(photos, {"a": 20, "c": 10}, first=100)
    result = write_split(Dataset.from_folder(photos), out, SPEC)
    assert (result.added, result.vanished) == (30, 1)
    after = places(out)
    assert {key: after[key] for key in before} == before
    assert files.items() - {("split.csv", files["split.csv"])} <= snapshot(out).items()
    assert Dataset.from_folder(out) == result.dataset
    assert result.dataset.counts() == {
        name: expected_counts(total, 20, 10) for name, total in (("a", 30), ("b", 15), ("c", 10))
    }


@pytest.mark.parametrize("mode", ["link", "copy", "symlink"])
def test_write_split__changed_image(tmp_path, mode):
    """A replaced image is a new one. Where source and output share the bytes, there is only one image."""
    photos, out = make_photos(tmp_path / "photos", {"a": 10, "b": 10}), tmp_path / "out"
    write_split(Dataset.from_folder(photos), out, SPEC, mode=mode)
    (photos / "a/sub 0/0.jpg").write_bytes(b"changed")
    result = write_split(Dataset.from_folder(photos), out, SPEC, mode=mode)
    assert (result.added, result.vanished) == ((1, 1) if mode == "copy" else (0, 0))
    for row in read_table(out):
        assert digest((out / row["path"]).read_bytes()) == row["digest"]
    assert Dataset.from_folder(out) == result.dataset


def test_write_split__restores_what_the_user_deleted(tmp_path):
    photos, out = make_photos(tmp_path / "photos", {"a": 10, "b": 10}), tmp_path / "out"
    write_split(Dataset.from_folder(photos), out, SPEC)
    before = snapshot(out)
    shutil.rmtree(out / "train/a")
    assert write_split(Dataset.from_folder(photos), out, SPEC).added == 7
    assert snapshot(out) == before


def test_write_split__refuses_a_changed_class(tmp_path):
    photos, out = make_photos(tmp_path / "photos", {"a": 10, "b": 10}), tmp_path / "out"
    write_split(Dataset.from_folder(photos), out, SPEC)
    before = places(out)[digest(b"a 0")]
    (photos / "a/sub 0/0.jpg").rename(photos / "b/moved.jpg")
    with pytest.raises(DataError, match=f"1 image changed class.*'{before}' is now 'b'"):
        write_split(Dataset.from_folder(photos), out, SPEC)
    (out / before).unlink()
    write_split(Dataset.from_folder(photos), out, SPEC)
    assert places(out)[digest(b"a 0")] == f"{before.split('/')[0]}/b/moved.jpg"


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


@pytest.mark.parametrize("mode", ["link", "copy"])
@pytest.mark.parametrize("extending", [False, True])
def test_write_split__killed_at_any_point_then_rerun_equals_uninterrupted(
    tmp_path, monkeypatch, mode, extending
):
    photos = make_photos(tmp_path / "photos", {"a": 10, "b": 10})
    steps = {"link": (os, "link"), "copy": (shutil, "copyfile")}

    def run(out: Path, kill_at: float = float("inf")) -> int:
        calls = 0

        def dying(owner, name):
            real = getattr(owner, name)

            def step(*args, **options):
                nonlocal calls
                calls += 1
                if calls == kill_at:
                    raise Killed
                return real(*args, **options)

            patch.setattr(owner, name, step)

        with monkeypatch.context() as patch:
            for owner, name in (
                steps[mode],
                (split_writer, "write_split_rows"),
                (split_writer, "place_files"),
                (Path, "rename"),
            ):
                dying(owner, name)
            write_split(Dataset.from_folder(photos), out, SPEC, mode=mode)
        return calls

    if extending:
        run(tmp_path / "start")
        make_photos(photos, {"a": 4, "b": 6}, first=50)
    else:
        (tmp_path / "start").mkdir()
    shutil.copytree(tmp_path / "start", tmp_path / "whole")
    steps_of_whole = run(tmp_path / "whole")
    for kill_at in range(1, steps_of_whole + 1):
        out = tmp_path / f"killed-{kill_at}"
        shutil.copytree(tmp_path / "start", out)
        with pytest.raises(Killed):
            run(out, kill_at)
        if (out / SPLIT_PLAN).exists():
            with pytest.raises(DataError, match="Run the same split-data again"):
                Dataset.from_folder(out)
        run(out)
        assert snapshot(out) == snapshot(tmp_path / "whole")


def test_write_split__removes_what_a_killed_run_left_half_written(tmp_path):
    photos, out = make_photos(tmp_path / "photos", {"a": 5, "b": 5}), tmp_path / "out"
    write_split(Dataset.from_folder(photos), out, SPEC)
    before = snapshot(out)
    missing = out / places(out)[digest(b"a 0")]
    missing.unlink()
    for folder in (out, missing.parent):
        (folder / ".tmp-fastcls-0").mkdir()
        (folder / ".tmp-fastcls-0/half.jpg").touch()
    write_split(Dataset.from_folder(photos), out, SPEC)
    assert snapshot(out) == before


def test_write_split__csv_with_equal_file_names(tmp_path):
    lines = ["path,label,group"]
    for index in range(12):
        file = tmp_path / f"{index}" / "photo.jpg"
        file.parent.mkdir()
        file.write_bytes(b"same" if index < 4 else bytes([index]))
        lines.append(f"{index}/photo.jpg,{'ab'[index % 2]},{'g' if index > 9 else ''}")
    (tmp_path / "table.csv").write_text("\n".join(lines))
    result = write_split(Dataset.open(tmp_path / "table.csv"), tmp_path / "out", SPEC)
    assert result.tied == 6
    assert Counter(row["label"] for row in read_table(tmp_path / "out")) == {"a": 6, "b": 6}
    for row in read_table(tmp_path / "out"):
        assert digest((tmp_path / "out" / row["path"]).read_bytes()) == row["digest"]
    assert write_split(Dataset.open(tmp_path / "table.csv"), tmp_path / "out", SPEC).added == 0


@pytest.mark.parametrize(
    ("path", "label"), [("1.jpg", "a/b"), ("1.jpg", ".a"), (".1.jpg", "a"), ("1.txt", "a"), ("1.jpg", "..")]
)
def test_write_split__names_that_folders_cannot_show(tmp_path, path, label):
    for name in (path, "2.jpg"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "table.csv").write_text(f"path,label\n{path},{label}\n2.jpg,b\n")
    with pytest.raises(DataError, match="would not be found in a folder per class"):
        write_split(Dataset.open(tmp_path / "table.csv"), tmp_path / "out", SPEC, allow_small=True)


def test_write_split__refuses_other_outputs(tmp_path):
    photos = make_photos(tmp_path / "photos", {"a": 5, "b": 5})
    dataset = Dataset.from_folder(photos)
    make_photos(tmp_path / "other", {"a": 1})
    (tmp_path / "table").mkdir()
    (tmp_path / "table/split.csv").write_text("path,label\n")
    (tmp_path / "binary").mkdir()
    (tmp_path / "binary/split.csv").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "file").touch()
    for name, message in {
        "other": "was not made by split-data: it holds 'a'",
        "table": "was not made by split-data or is damaged",
        "binary": "was not made by split-data or is damaged",
        "file": "is a file",
        "photos": "lies in the source",
        "photos/out": "lies in the source",
    }.items():
        before = snapshot(tmp_path)
        with pytest.raises(DataError, match=message):
            write_split(dataset, tmp_path / name, SPEC)
        assert snapshot(tmp_path) == before
    with pytest.raises(OptionError, match="Unknown mode"):
        write_split(dataset, tmp_path / "out", SPEC, mode="move")


def test_write_split__full_disk(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    photos = make_photos(tmp_path / "photos", {"a": 5, "b": 5})
    monkeypatch.setattr(shutil, "copyfile", fail)
    with pytest.raises(DataError, match=r"No space left on device.*Free disk space"):
        write_split(Dataset.from_folder(photos), tmp_path / "out", SPEC, mode="copy")

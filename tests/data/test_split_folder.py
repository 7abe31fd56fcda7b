"""A split folder among processes, and in the hands of a user: its table says what is in it."""

from __future__ import annotations

import contextlib
import csv
import itertools
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from fastcls import files
from fastcls.data.dataset import Dataset
from fastcls.data.writers.split import write_split
from fastcls.data.writers.tfrecord import write_tfrecords
from fastcls.errors import DataError, OptionError
from fastcls.specs import SplitSpec

SPEC = SplitSpec(test=0.1)
FASTCLS = [sys.executable, "-m", "fastcls"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name, index in itertools.product("ab", range(20)):
        file = tmp_path / "photos" / name / f"{index}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(f"{name} {index}".encode())
    return tmp_path / "photos"


@pytest.fixture
def out(photos: Path, tmp_path: Path) -> Path:
    write_split(Dataset.from_folder(photos), tmp_path / "out", SPEC)
    return tmp_path / "out"


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "split.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def images(out: Path) -> list[str]:
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*.jpg"))


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Several at once


def test_write_split__one_process_at_a_time(photos, tmp_path):
    for name in ("new", "made"):
        (tmp_path / name).mkdir()
    write_split(Dataset.from_folder(photos), tmp_path / "made", SPEC)
    for name in ("new", "made"):
        before = tree(tmp_path)
        with (
            files.locked(tmp_path / name, "busy"),
            pytest.raises(OptionError, match=f"Another process is writing to .*{name}. Wait for"),
        ):
            write_split(Dataset.from_folder(photos), tmp_path / name, SPEC)
        assert tree(tmp_path) == before


@pytest.mark.parametrize("mode", ["link", "copy"])
def test_split_data__at_once_with_several_seeds_no_image_is_in_two_splits(photos, tmp_path, mode):
    out = tmp_path / "out"
    command = [*FASTCLS, "split-data", str(photos), "--out", str(out), "--mode", mode, "--seed"]
    started = [subprocess.Popen([*command, str(n)], stderr=subprocess.PIPE, text=True) for n in range(3)]
    ended = [(process.communicate()[1], process.returncode) for process in started]
    assert any(code == 0 for _, code in ended)
    assert all("Another process is writing to" in error for error, code in ended if code)
    homes = defaultdict(set)
    for path in images(out):
        homes[(out / path).read_bytes()].add(path.split("/")[0])
    assert len(homes) == 40 and all(len(splits) == 1 for splits in homes.values())
    assert images(out) == sorted(row["path"] for row in rows(out))


def test_write_tfrecords__one_process_at_a_time(photos, tmp_path):
    (tmp_path / "packed.unfinished").mkdir()
    with (
        files.locked(tmp_path / "packed.unfinished", "busy"),
        pytest.raises(OptionError, match="Another process is writing to"),
    ):
        write_tfrecords(Dataset.from_folder(photos), tmp_path / "packed")


# What a user does there


def test_from_folder__an_image_that_the_table_does_not_name_is_refused(photos, out):
    shutil.copy(photos / "a/0.jpg", out / "val/a/added.jpg")
    (out / "notes.jpg").touch()  # in no class, so in no split
    before = tree(out)
    for read in (
        lambda: Dataset.open(out),
        lambda: write_split(Dataset.from_folder(photos), out, SPEC),
    ):
        with pytest.raises(DataError, match=r"holds 1 image .* not name: 'val/a/added\.jpg'.*Move them"):
            read()
    assert tree(out) == before
    (out / "val/a/added.jpg").unlink()
    assert len(Dataset.open(out).samples) == 40
    (out / "train/b/new.jpg").touch()
    (out / "split.csv").unlink()
    assert len(Dataset.open(out).samples) == 41


def test_from_folder__what_the_user_deleted_is_left_out_and_split_data_brings_it_back(photos, out, caplog):
    whole = Dataset.open(out)
    gone = whole.samples[3].path
    (out / gone).unlink()
    assert [s.path for s in Dataset.open(out).samples] == [s.path for s in whole.samples if s.path != gone]
    assert f"images listed in split.csv that no longer exist are left out (1): {gone!r}" in caplog.text
    assert write_split(Dataset.from_folder(photos), out, SPEC).added == 1
    assert Dataset.open(out) == whole


def test_from_folder__the_groups_of_a_split_folder_are_those_of_its_table(photos, tmp_path):
    lines = [f"photos/{name}/{index}.jpg,{name},{name}{index // 2}" for name in "ab" for index in range(20)]
    (tmp_path / "table.csv").write_text("\n".join(["path,label,group", *lines]))
    result = write_split(Dataset.open(tmp_path / "table.csv"), tmp_path / "out", SPEC)
    assert Dataset.open(tmp_path / "out") == result.dataset
    assert all(sample.group for sample in result.dataset.samples)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (rb"train/a/\d+", b"train/a/none"),
        (rb",train,", b",test,"),
        (rb",a,train", b",b,train"),
        (rb"\n[^\n]+\n$", b"\n"),
        (rb"train", b"tr\xff"),
        (rb",[^,]+$", b""),
        (rb"\n(train[^\n]+)", rb"\n\1\n\1"),
    ],
)
def test_from_folder__a_damaged_table_is_refused(out, old, new):
    table = (out / "split.csv").read_bytes()
    damaged = re.sub(old, new, table, count=1)
    assert damaged != table
    (out / "split.csv").write_bytes(damaged)
    with pytest.raises(DataError, match=r"damaged|does not name"):
        Dataset.open(out)


def test_from_folder__a_table_of_the_users_own_is_not_ours(tmp_path):
    for path in ("train/a/1.jpg", "train/b/1.jpg", "val/a/2.jpg"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / "split.csv").write_text("path,label\n")
    assert len(Dataset.open(tmp_path).samples) == 3


# Files that are none, and names


def test_from_folder__pipes_and_links_to_nowhere_are_no_images(photos, tmp_path, caplog):
    os.mkfifo(photos / "a/pipe.jpg")
    (photos / "a/self.jpg").symlink_to("self.jpg")
    (photos / "b/nowhere.jpg").symlink_to("none")
    (photos / "b/there.jpg").symlink_to("../a/0.jpg")
    dataset = Dataset.from_folder(photos)
    assert len(dataset.samples) == 41 and dataset.left_out == 3
    assert "3 entries that are named like images but are not files" in caplog.text
    assert "'a/pipe.jpg', 'a/self.jpg', 'b/nowhere.jpg'" in caplog.text
    write_split(dataset, tmp_path / "out", SPEC)
    (tmp_path / "table.csv").write_text("path,label\nphotos/a/pipe.jpg,a\nphotos/b/1.jpg,b\n")
    with pytest.raises(
        DataError, match=r"lists files that do not exist or are not regular files \(1\): .*pipe"
    ):
        Dataset.open(tmp_path / "table.csv")


def test_write_split__an_image_that_becomes_a_pipe_is_named_and_hangs_nobody(photos, tmp_path):
    dataset = Dataset.from_folder(photos)
    (photos / "a/0.jpg").unlink()
    os.mkfifo(photos / "a/0.jpg")
    with pytest.raises(DataError, match=r"0\.jpg' cannot be read: it is not a regular file"):
        write_split(dataset, tmp_path / "out", SPEC)
    assert not (tmp_path / "out").exists()


def test_write_split__a_link_to_where_its_image_was_is_mended(photos, tmp_path, caplog):
    out = tmp_path / "out"
    write_split(Dataset.from_folder(photos), out, SPEC, mode="symlink")
    whole = Dataset.open(out)
    photos.rename(tmp_path / "moved")
    (tmp_path / "moved/a/0.jpg").rename(tmp_path / "moved/a/renamed.jpg")
    with pytest.raises(DataError, match="empty class"):
        Dataset.open(out)
    assert "images listed in split.csv that no longer exist are left out (40)" in caplog.text
    write_split(Dataset.from_folder(tmp_path / "moved"), out, SPEC, mode="symlink")
    assert Dataset.open(out) == whole


@pytest.mark.parametrize("mode", ["link", "copy", "symlink"])
def test_write_split__takes_every_legal_name(photos, tmp_path, mode):
    for name in "ab":
        (photos / name / ("dot." + "y" * 247 + ".jpg")).write_bytes(name.encode())
        (photos / name / ("é" * 125 + ".jpg")).write_bytes(name.encode() * 2)
    result = write_split(Dataset.from_folder(photos), tmp_path / "out", SPEC, mode=mode)
    assert Dataset.open(tmp_path / "out") == result.dataset and len(result.dataset.samples) == 44


def test_write_split__long_names_that_meet_are_cut_and_told_apart(tmp_path):
    name, lines = "é" * 125 + ".jpg", ["path,label"]
    for index in range(40):
        (tmp_path / str(index)).mkdir()
        (tmp_path / str(index) / name).write_bytes(bytes([index]))
        lines.append(f"{index}/{name},{'ab'[index % 2]}")
    (tmp_path / "table.csv").write_text("\n".join(lines))
    result = write_split(Dataset.open(tmp_path / "table.csv"), tmp_path / "out", SPEC)
    assert Dataset.open(tmp_path / "out") == result.dataset and len(result.dataset.samples) == 40


def test_write_split__a_name_that_no_folder_can_have_leaves_nothing(photos, tmp_path):
    lines = [f"photos/{name}/{index}.jpg,{name * 300}" for name in "ab" for index in range(20)]
    (tmp_path / "table.csv").write_text("\n".join(["path,label", *lines]))
    before = tree(tmp_path)
    with pytest.raises(DataError, match=r"needs a file name of 300 bytes, but .* allows 255.*to-csv"):
        write_split(Dataset.open(tmp_path / "table.csv"), tmp_path / "out", SPEC)
    assert tree(tmp_path) == before and not (tmp_path / "out").exists()


def test_write_split__clears_what_a_kill_left_beside_the_last_file(photos, tmp_path):
    out = tmp_path / "out"
    write_split(Dataset.from_folder(photos), out, SplitSpec(), mode="copy")
    before = tree(out)
    (out / "split.csv").rename(out / ".split-plan.csv")
    folder = next(path for path in sorted(out.rglob("*.*")) if path.suffix != ".csv").parent
    with contextlib.suppress(KeyboardInterrupt), files.atomic_path(folder / "x.png") as temporary:
        shutil.copytree(temporary.parent, folder / f"{temporary.parent.name}0")
        raise KeyboardInterrupt
    write_split(Dataset.from_folder(photos), out, SplitSpec(), mode="copy")
    assert tree(out) == before
    assert not list(out.rglob(".tmp-*"))

"""What a cache knows of its data sets: tables that come back as they were, or not at all."""

import dataclasses
import random
import re
from pathlib import Path

import pytest

from fastcls import files
from fastcls.cache.listing import Listing, Report, check_name, choose_listing, find_listing
from fastcls.cache.samples import Failure, FileState, SampleRow
from fastcls.errors import CacheError, OptionError
from fastcls.specs import ViewSpec
from fastcls.tasks import ONE_LABEL, SEVERAL_LABELS

DIGESTS = [files.digest(bytes([number])) for number in range(3)]
SAMPLES = [
    SampleRow("a/1.png", ("a",), "train", "", DIGESTS[0], FileState(1, 2, 3)),
    SampleRow('b/quo"te,\nnew line\r.png', ("b",), "", "group 1", "", FileState()),
    SampleRow("b/\udcff.png", ("žluťoučký",), "val"),
]
FAILURES = [
    Failure("a/1.png", "", "cannot be read: no such file"),
    Failure("b/\udcff.png", DIGESTS[1], "x\ny"),
]
REPORT = Report(
    "/data/\udcff", "/data", views=ViewSpec(3, "flip", 2), extraction={"images": 3, "fidelity": None}
)


@pytest.fixture
def listing(tmp_path):
    listing = Listing(tmp_path, "photos")
    listing.write(REPORT, SAMPLES, FAILURES)
    return listing


def everything(listing):
    return listing.samples(), listing.failures(), dataclasses.replace(listing.report(), written="")


def test_listing__gives_back_what_was_put_in(listing):
    samples, failures, report = everything(listing)
    assert (samples, failures) == (SAMPLES, FAILURES)
    assert (report.data, report.views, report.extraction) == (REPORT.data, REPORT.views, REPORT.extraction)
    assert (report.samples.lines, report.failures.lines) == (3, 2)
    listing.write(REPORT, None, [])
    assert listing.samples() == SAMPLES and listing.failures() == []
    assert not listing.failures_path.exists()
    recalled = listing.recall()
    assert (recalled.samples, recalled.failures, recalled.is_last) == (SAMPLES, [], True)


def test_listing__several_labels_come_back_whatever_their_names(listing):
    names = ("a", 'b", "c', "d$e|f;g,h", '["i"]', "new\nline", "日本", "")
    counts = zip(SAMPLES, (0, 1, 8), strict=True)
    several = [dataclasses.replace(row, labels=names[:count]) for row, count in counts]
    listing.write(dataclasses.replace(REPORT, task=SEVERAL_LABELS), several, [])
    assert listing.samples() == several and listing.report().task is SEVERAL_LABELS
    listing.write(REPORT, SAMPLES, [])
    assert listing.samples() == SAMPLES and listing.report().task is ONE_LABEL


def damaged(data, chance):
    """Some bytes, changed in one of the ways in which files are."""
    place = chance.randrange(len(data))
    lines = data.splitlines(keepends=True)
    return chance.choice(
        [
            lambda: data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :],
            lambda: data[:place] + bytes([chance.randrange(128, 256)]) + data[place + 1 :],
            lambda: data[:place],
            lambda: b"".join(lines[: chance.randrange(len(lines))]),  # whole lines
            lambda: data.replace(b"train", b"val", 1),
            lambda: data + lines[-1],
            lambda: b"\0" * len(data),
            lambda: b"[" * 100_000,
        ]
    )()


@pytest.mark.parametrize("kind", ["samples", "failures", "report"])
def test_listing__whatever_is_changed_is_refused_or_means_the_same(listing, kind, caplog):
    right, chance = everything(listing), random.Random(kind)
    path = getattr(listing, f"{kind}_path")
    whole = path.read_bytes()
    refused = 0
    for _ in range(300):
        path.write_bytes(damaged(whole, chance))
        try:
            assert everything(listing) == right
        except CacheError as error:
            refused += 1
            assert str(path) in str(error) and "Run the same `fastcls extract` again" in str(error)
            assert "\n" not in str(error)
        recalled = listing.recall()
        assert recalled.samples in (right[0], []) and recalled.failures in (right[1], [])
    assert refused > 200 and all("It is recreated" in message for message in caplog.messages)
    listing.write(REPORT, SAMPLES, FAILURES)
    assert everything(listing)[:2] == right[:2]


@pytest.mark.parametrize("kept", [("samples", "failures"), ("samples",)])
def test_listing__a_kill_between_its_files_loses_nothing(listing, kept):
    """The report is first, so that it speaks of tables that are not there yet."""
    tables = {name: getattr(listing, f"{name}_path") for name in kept}
    before = {path: path.read_bytes() for path in tables.values()}
    more = [*SAMPLES, SampleRow("c/2.png", ("a",), "val", "", DIGESTS[2], FileState(1, 2, 3))]
    listing.write(REPORT, more, FAILURES[:1])
    for path, data in before.items():
        path.write_bytes(data)
    with pytest.raises(CacheError, match=r"interrupted.*Run the same `fastcls extract` again"):
        listing.samples()
    recalled = listing.recall()
    failures = FAILURES if "failures" in kept else FAILURES[:1]
    assert (recalled.samples, recalled.failures, recalled.is_last) == (SAMPLES, failures, False)
    listing.write(REPORT, SAMPLES[:1], FAILURES)  # killed again, before a table has its place
    for path, data in before.items():
        path.write_bytes(data)
    assert listing.recall().samples == SAMPLES
    listing.write(REPORT, more, [])
    assert listing.samples() == more and listing.failures() == []


def test_listing__tables_of_others_are_refused(listing, tmp_path):
    other = Listing(tmp_path, "other")
    other.write(REPORT, SAMPLES[:2], FAILURES[:1])
    for name in ("samples_path", "failures_path", "report_path"):
        ours, theirs = getattr(listing, name), getattr(other, name)
        swapped = ours.read_bytes(), theirs.read_bytes()
        ours.write_bytes(swapped[1])
        with pytest.raises(CacheError, match="damaged"):
            everything(listing)
        ours.write_bytes(swapped[0])
    assert everything(listing)[0] == SAMPLES


def test_listing__without_a_table_of_failures_they_are_tried_again(listing):
    listing.failures_path.unlink()
    assert listing.failures() == [] == listing.recall().failures


# Names


def test_find_listing__takes_the_only_one_or_asks(tmp_path):
    with pytest.raises(CacheError, match=r"holds no samples. Run `fastcls extract` first"):
        find_listing(tmp_path, None)
    for name in ("b.v2", "a"):
        Listing(tmp_path, name).write(dataclasses.replace(REPORT, data=f"/{name}"), SAMPLES, [])
        assert find_listing(tmp_path, name).name == name
        if name == "b.v2":
            assert find_listing(tmp_path, None).name == name
    with pytest.raises(CacheError) as several:
        find_listing(tmp_path, None)
    assert re.search(
        r"serves several data sets. Choose one with --name:\n  a: 3 images of /a, extracted \d{4}-.*Z\n"
        r"  b.v2: 3 images of /b.v2, extracted ",
        str(several.value),
    )
    with pytest.raises(CacheError, match=r"has no data set 'c'\. Choose one with --name:\n  a: 3 images"):
        find_listing(tmp_path, "c")
    Listing(tmp_path, "a").report_path.write_bytes(b"{")
    with pytest.raises(CacheError, match=r"a.json is damaged"):
        find_listing(tmp_path, None)


def test_choose_listing__two_data_sets_of_one_name_do_not_quarrel(tmp_path, caplog):
    cache, one, other = (tmp_path / name for name in ("cache", "one/photos", "other/photos"))

    def write(data, **options):
        listing = choose_listing(cache, "photos", data, is_asked=False, **options)
        listing.write(dataclasses.replace(REPORT, data=str(data)), SAMPLES, [])
        return listing.name

    for data in (one, other):
        data.mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to(one)
    assert [write(one), write(link), write(one)] == ["photos"] * 3
    second = write(other)
    assert re.fullmatch(r"photos-[0-9a-f]{6}", second) and second == write(other)
    one.rename(tmp_path / "moved")  # it keeps its table where it goes
    assert write(tmp_path / "moved") == "photos" and write(other) == second
    assert caplog.messages == []
    assert choose_listing(cache, "photos", other, is_asked=True).name == "photos"
    assert caplog.messages == [f"{cache / 'samples/photos.csv'} described {tmp_path / 'moved'}. Replacing it"]


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "a b", "x" * 121, "new\nline"])
def test_check_name__only_names_of_files(name):
    with pytest.raises(OptionError, match="Invalid --name"):
        check_name(name)
    check_name("Fotos_2024.v2-ž")


def test_dataset_name__is_that_of_its_folder_or_file(tmp_path):
    from fastcls.data.dataset import Dataset

    def named(source, root="/somewhere/root"):
        return Dataset(Path(root), ("a", "b"), (), source=source).name

    folder = tmp_path / "photos.v2"
    folder.mkdir()
    assert named(folder) == "photos.v2" and named(tmp_path / "scenes 1.csv") == "scenes_1"
    assert named(None) == "root" and named(None, "/") == "data"
    assert named(tmp_path / "train-*") == "train" and named(tmp_path / "*.tfrecord") == "root"
    for odd in ("....", "ž" * 200, "a\nb.csv", "../.."):
        check_name(named(tmp_path / odd))

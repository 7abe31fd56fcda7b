"""Images sorted into folders of their classes."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from fastcls.data.decoder import pixel_rule
from fastcls.errors import DataError, OptionError
from fastcls.inference.classifier import Classifier
from fastcls.inference.results import ImageResult, Predictions
from fastcls.specs import AnswerSpec
from fastcls.tasks import ONE_LABEL, SEVERAL_LABELS

PLAIN = AnswerSpec()


def predictions(paths, rows, class_names, *, thresholds=None, answer=PLAIN):
    task = SEVERAL_LABELS if thresholds else ONE_LABEL
    classifier = Classifier(None, class_names, pixel_rule((8, 8)), {}, thresholds, task)
    return Predictions(
        ImageResult(
            index, path, None if row is None else np.array(row), classifier, answer=answer, name=str(path)
        )
        for index, (path, row) in enumerate(zip(paths, rows, strict=True))
    )


def write(folder, *names):
    """Files that hold their names."""
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(path))
    return paths


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()
    }


def test_sort_into__links_and_leaves_the_images_alone(tmp_path):
    paths = write(tmp_path / "photos", "a.jpg", "b.jpg", "one/b.jpg", "two/B.JPG", "broken.jpg")
    rows = [[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.1, 0.9], None]
    results = predictions([*paths, paths[1]], [*rows, rows[1]], ("cat", "dog"))
    assert results.sort_into(tmp_path / "sorted") == {"cat": 1, "dog": 3}
    assert content(tmp_path / "sorted") == {
        "cat/a.jpg": str(paths[0]),
        "dog/b.jpg": str(paths[1]),
        "dog/b-2.jpg": str(paths[2]),
        "dog/B-3.JPG": str(paths[3]),
    }
    assert paths[0].samefile(tmp_path / "sorted" / "cat" / "a.jpg")
    assert all(path.read_text() == str(path) for path in paths)


def test_sort_into__several_labels_unsure_and_no_class(tmp_path):
    paths = write(tmp_path / "photos", "both.jpg", "none.jpg")
    labels = predictions(paths, [[0.9, 0.8], [0.1, 0.2]], ("a", "b"), thresholds=(0.5, 0.5))
    assert labels.sort_into(tmp_path / "labels") == {"a": 1, "b": 1, "no class": 1}
    assert set(content(tmp_path / "labels")) == {"a/both.jpg", "b/both.jpg", "no class/none.jpg"}
    answer = AnswerSpec(min_confidence=0.85)
    sure = predictions(paths, [[0.9, 0.1], [0.2, 0.8]], ("a", "b"), answer=answer)
    assert sure.sort_into(tmp_path / "sure") == {"a": 1, "unsure": 1}


def test_sort_into__class_names_become_names_of_folders(tmp_path):
    names = ("../up", ".hidden", "", "a/b", "a_b", "A_B", "new\nline", "x" * 300, "x" * 301, "..", "no class")
    paths = write(tmp_path / "photos", *(f"{number}.jpg" for number in range(len(names))))
    results = predictions(paths, np.eye(len(names)), names)
    counts = results.sort_into(tmp_path / "out" / "sorted")
    assert len(counts) == len(names) and set(counts.values()) == {1}
    folders = sorted(path.name for path in (tmp_path / "out" / "sorted").iterdir())
    expected = [
        "_._up",
        "_hidden",
        "_",
        "a_b",
        "a_b-2",
        "A_B-3",
        "new_line",
        "x" * 200,
        "x" * 200 + "-2",
        "_.",
    ]
    assert folders == sorted([*expected, "no class"]) == sorted(counts)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["sorted"]


def test_sort_into__cuts_long_names_that_are_taken(tmp_path):
    long = f"{'ä' * 120}.jpg"
    paths = write(tmp_path / "photos", f"one/{long}", f"two/{long}")
    predictions(paths, [[1.0], [1.0]], ("a",)).sort_into(tmp_path / "sorted")
    assert set(content(tmp_path / "sorted").values()) == set(map(str, paths))


def test_sort_into__copies_where_links_are_not_possible(tmp_path, monkeypatch, caplog):
    (path,) = write(tmp_path / "photos", "a.jpg")
    monkeypatch.setattr(
        os, "link", lambda *_: (_ for _ in ()).throw(OSError(18, "Invalid cross-device link"))
    )
    predictions([path], [[1.0]], ("a",)).sort_into(tmp_path / "sorted")
    copied = tmp_path / "sorted" / "a" / "a.jpg"
    assert copied.read_text() == str(path) and not path.samefile(copied)
    assert f"Copied 1 image, as {tmp_path / 'sorted'} does not take hard links" in caplog.text


@pytest.mark.parametrize("name", [None, Path("data.tfrecord#12")])
def test_sort_into__needs_files_and_leaves_nothing_behind(name, tmp_path):
    (path,) = write(tmp_path / "photos", "a.jpg")
    with pytest.raises(DataError, match="Only image files can be sorted"):
        predictions([path, name], [[1.0], [1.0]], ("a",)).sort_into(tmp_path / "sorted")
    assert [entry.name for entry in tmp_path.iterdir()] == ["photos"]


def test_sort_into__writes_over_nothing(tmp_path):
    paths = write(tmp_path / "photos", "a.jpg")
    results = predictions(paths, [[1.0]], ("a",))
    for place in (tmp_path / "photos", paths[0]):
        with pytest.raises(OptionError, match="already exists"):
            results.sort_into(place)
    assert content(tmp_path) == {"photos/a.jpg": str(paths[0])}
    (tmp_path / "empty").mkdir()
    assert results.sort_into(tmp_path / "empty") == {"a": 1}


def test_sort_into__a_full_disk_is_that_of_the_folder(tmp_path, monkeypatch):
    write(tmp_path / "photos", "a.png")
    full = OSError(errno.ENOSPC, "No space left on device", "photos/a.png")

    def fail(source, target):
        raise full

    monkeypatch.setattr("fastcls.inference.sorted_images.placer", lambda mode: fail)
    with pytest.raises(OSError, match="No space") as caught:
        predictions([tmp_path / "photos/a.png"], [[0.9, 0.1]], ("a", "b")).sort_into(
            tmp_path / "out" / "sorted"
        )
    assert caught.value.filename == str(tmp_path / "out")
    assert not (tmp_path / "out" / "sorted").exists()

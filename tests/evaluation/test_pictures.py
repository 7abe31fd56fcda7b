import subprocess
import sys
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest

from fastcls.evaluation import pictures
from fastcls.evaluation.pictures import draw_confusion, draw_history

ODD_NAMES = ["$a_b$", "$\\frac$", "$", "two\nlines", "花", "long " * 30, "_hidden", "%&{}~^#"]
HISTORY = [
    {"epoch": epoch, "loss": 1 / epoch, "accuracy": 0.9, "val_loss": 2 / epoch, "val_accuracy": 0.8}
    for epoch in range(1, 6)
]


@pytest.fixture(autouse=True)
def _warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def check_picture(path):
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    image = cv2.imread(str(path))
    assert min(image.shape[:2]) >= 400 and max(image.shape[:2]) <= 2400
    assert image.std() > 5
    return image


def random_confusion(class_count):
    rng = np.random.default_rng(class_count)
    return np.diag(rng.integers(20, 50, class_count)) + rng.integers(0, 3, (class_count, class_count))


@pytest.mark.parametrize("class_count", [1, 2, 5, 20, 100, 1000])
def test_draw_confusion__any_number_of_classes(class_count, tmp_path):
    names = [f"class {label}" for label in range(class_count)]
    draw_confusion(random_confusion(class_count), names, tmp_path / "confusion.png")
    check_picture(tmp_path / "confusion.png")
    assert len(list(tmp_path.iterdir())) == 1


def test_draw_confusion__every_cell_of_very_many_classes_is_seen(tmp_path):
    confusion = np.zeros((4001, 4001), int)
    confusion[:, 1234] = 1  # one column of 4,001: narrower than a dot
    draw_confusion(confusion, [f"c{label}" for label in range(4001)], tmp_path / "confusion.png")
    image = cv2.imread(str(tmp_path / "confusion.png"))
    image = image[:, : int(image.shape[1] * 0.9)]  # without the bar of colors
    columns = np.flatnonzero((image.max(axis=2) < 130).mean(axis=0) > 0.6)
    left, *seen, right = (
        group.mean() for group in np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)
    )
    assert [(each - left) / (right - left) for each in seen] == pytest.approx([1234 / 4001], abs=0.005)


def test_draw_confusion__odd_names(tmp_path):
    draw_confusion(random_confusion(len(ODD_NAMES)), ODD_NAMES, tmp_path / "confusion.png")
    check_picture(tmp_path / "confusion.png")


def test_draw_confusion__class_without_images(tmp_path):
    confusion = np.array([[3, 1, 0], [0, 0, 0], [1, 0, 2]])
    draw_confusion(confusion, ["a", "b", "c"], tmp_path / "confusion.png")
    check_picture(tmp_path / "confusion.png")


def test_draw_confusion__true_classes_run_downwards(tmp_path):
    # All images are of the first class and taken for the second: the dark cell is at the top right.
    draw_confusion(np.array([[0, 9], [0, 0]]), ["a", "b"], tmp_path / "confusion.png")
    image = check_picture(tmp_path / "confusion.png")
    dark = np.argwhere((image[..., 0] > image[..., 2] + 60) & (image.sum(axis=2) < 250))
    dark = dark[dark[:, 1] < 0.8 * image.shape[1]]  # without the color bar
    row, column = dark.mean(axis=0) / image.shape[:2]
    assert row < 0.4 and column > 0.5


@pytest.mark.parametrize("epoch_count", [1, 2, 5])
def test_draw_history__with_validation(epoch_count, tmp_path):
    draw_history(HISTORY[:epoch_count], tmp_path / "history.png", best=HISTORY[0])
    check_picture(tmp_path / "history.png")


def test_draw_history__without_validation(tmp_path):
    rows = [{key: row[key] for key in ("epoch", "loss", "accuracy")} for row in HISTORY]
    draw_history(rows, tmp_path / "history.png")
    check_picture(tmp_path / "history.png")


@pytest.mark.parametrize("step", ["c", "temperature", "k"])
def test_draw_history__of_candidates(tmp_path, step):
    rows = [{**row, step: 10.0 ** row.pop("epoch")} for row in map(dict, HISTORY)]
    draw_history(rows, tmp_path / "history.png", best=rows[1])
    check_picture(tmp_path / "history.png")


def test_draw_history__many_epochs_and_nan(tmp_path):
    rows = [{"epoch": epoch, "loss": 1 / epoch, "accuracy": float("nan")} for epoch in range(1, 2001)]
    draw_history(rows, tmp_path / "history.png", best=rows[-1])
    check_picture(tmp_path / "history.png")


def test_draw_history__a_learning_rate_is_drawn_if_it_changes(tmp_path):
    widths = []
    for factor in (1.0, 0.5):
        rows = [{**row, "learning_rate": 0.1 * factor**number} for number, row in enumerate(HISTORY)]
        draw_history(rows, tmp_path / "history.png", best=rows[1])
        check_picture(tmp_path / "history.png")
        widths.append(cv2.imread(str(tmp_path / "history.png")).shape[1])
    assert widths[1] == 1.5 * widths[0]


def test_draw_history__best_row_is_marked(tmp_path):
    draw_history(HISTORY, tmp_path / "plain.png")
    draw_history(HISTORY, tmp_path / "marked.png", best=HISTORY[2])
    assert (cv2.imread(str(tmp_path / "plain.png")) != cv2.imread(str(tmp_path / "marked.png"))).any()


def test_pictures__leave_the_users_matplotlib_alone(tmp_path):
    code = f"""
import sys, pathlib
from fastcls.evaluation.pictures import draw_history
print("matplotlib" in sys.modules)
draw_history([{{"epoch": 1, "loss": 1.0, "accuracy": 0.5}}], pathlib.Path({str(tmp_path / "h.png")!r}))
print("matplotlib.pyplot" in sys.modules, "tensorflow" in sys.modules)
"""
    root = Path(pictures.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.split() == ["False", "False", "False"]

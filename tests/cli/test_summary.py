"""The end of `run`: its result, what to look at first, and commands that work as they stand."""

import json
import shlex
import shutil

import numpy as np
import pytest

from fastcls import evaluate, evaluate_multi_label
from fastcls.evaluation import tester
from fastcls.summary import _findings, commands_for, figures_of
from fastcls.tasks import ONE_LABEL, SEVERAL_LABELS

SMALL = ("--precision", "float32", "--head", "prototype", "--workers", 1)


def ended(out):
    """The lines from the summary on, and the commands in it."""
    lines = (
        out[out.index("\nResult: ") if "\nResult: " in out else out.index("\n\nIn ") :].strip().splitlines()
    )
    start = next(place for place, line in enumerate(lines) if line.startswith("Next: "))
    return lines[:start], [line.removeprefix("Next: ").strip().split("  # ")[0] for line in lines[start:]]


def test_run__ends_with_a_summary_whose_commands_work(fastcls, photos, base, tmp_path, monkeypatch):
    data = tmp_path / "my photos"
    for name in ("blue", "red"):
        (data / name).mkdir(parents=True)
        for photo in (photos / name).iterdir():
            (data / name / photo.name).symlink_to(photo)
    (data / "red" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")
    monkeypatch.chdir(tmp_path)
    command = ("run", data, "--base", base, *SMALL, "--cache", "my caches", "--out", "my run")
    done = fastcls(*command)
    assert done.code == 0, done.err
    lines, commands = ended(done.out)
    (metrics,) = tmp_path.glob("my run/test/*/metrics.json")
    figures = json.loads(metrics.read_text())
    assert lines[0].startswith(f"Result: accuracy {figures['accuracy']:.3f}")
    assert f"of {figures['images']} test images" in lines[0]
    assert lines[1].startswith("In my run: classifier.keras, ") and f"test/{metrics.parent.name}/" in lines[1]
    assert "1 unreadable image: my caches" in lines[-1]
    assert all(len(line) <= 80 for line in done.out.splitlines() if "  # " in line)
    assert {shlex.split(line)[1] for line in commands} >= {"explain", "predict"}
    for line in commands:
        filled = line.replace("IMAGE...", f"'{photos / 'red' / '1.png'}'").replace("FOLDER", "made")
        again = fastcls(*shlex.split(filled)[1:])
        assert again.code == 0, (line, again.err)
    again = fastcls(*command)  # complete
    assert "In my run: nothing new" in ended(again.out)[0]


def test_run__without_a_test_sums_up_what_there_is(fastcls, photos, base, tmp_path):
    out = ("--cache", tmp_path / "c", "--out", tmp_path / "run")
    done = fastcls("run", photos, "--base", base, *SMALL, "--test", 0, *out)
    assert done.code == 0 and "Result:" not in done.out and "Look first at" not in done.out
    lines, commands = ended(done.out)
    assert lines == [
        f"In {tmp_path / 'run'}: classifier.keras, head.keras, images.csv, run.json, history.csv, curves.png"
    ]
    assert commands


def test_test__names_the_report_of_its_result(fastcls, trained, photos, tmp_path):
    run = shutil.copytree(trained.run, tmp_path / "my run")
    for more, is_named in (([], True), (["--out", tmp_path / "elsewhere"], False)):
        done = fastcls("test", run, photos, *more)
        assert done.code == 0, done.err
        commands = [line for line in done.out.splitlines() if line.startswith("Next: ")]
        assert bool(commands) == is_named
        for line in commands:
            assert fastcls(*shlex.split(line)[2:]).code == 0


def result_of(evaluation):
    return tester.Tested(evaluation, (), (), None, None)


@pytest.mark.parametrize("seed", range(20))
def test_findings__are_those_of_the_confusion(seed):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, 60)
    rows = np.eye(4)[np.where(random.random(60) < 0.6, labels, random.integers(0, 4, 60))]
    predicted = rows.argmax(axis=1)
    confused, weakest = _findings(result_of(evaluate(labels, rows, list("abcd"))), ONE_LABEL)
    one, _, other, count, _, of, *_ = confused.replace(":", "").split()
    pairs = {
        (a, b): int(((labels == i) & (predicted == j)).sum() + ((labels == j) & (predicted == i)).sum())
        for i, a in enumerate("abcd")
        for j, b in enumerate("abcd")
        if i < j
    }
    assert pairs[one, other] == int(count) == max(pairs.values())
    assert int(of) == sum(labels == "abcd".index(one)) + sum(labels == "abcd".index(other))
    recalls = {name: (predicted[labels == i] == i).mean() for i, name in enumerate("abcd")}
    assert f"{min(recalls.values()):.3f}" in weakest and recalls[weakest[0]] == min(recalls.values())


def test_findings__of_several_labels_and_of_no_mistakes():
    labels = np.array([[1, 0], [1, 0], [1, 1], [0, 1]])
    rows = np.array([[0.9, 0.8], [0.2, 0.9], [0.3, 0.9], [0.1, 0.2]])
    several = evaluate_multi_label(labels, rows, [0.5, 0.5], ["a", "sea"])
    assert list(_findings(result_of(several), SEVERAL_LABELS)) == [
        "sea: missed in 1 of 2 images, found in 2 without it",
        "a: lowest recall, 0.333 of 3 images",
    ]
    right = evaluate_multi_label(labels, labels.astype(float), [0.5, 0.5], ["a", "sea"])
    assert list(_findings(result_of(right), SEVERAL_LABELS)) == [
        "nothing: all 4 test images are predicted right"
    ]
    one = evaluate([0, 1], np.eye(2), ["a", "b"])
    assert list(_findings(result_of(one), ONE_LABEL)) == ["nothing: all 2 test images are predicted right"]


def test_figures__have_their_intervals_where_they_are_known():
    figures = {"images": 1200, "macro_f1": 0.5, "mean_auroc": None, "exact_match": 0.1, "intervals": {}}
    assert figures_of(figures) == "macro F1 0.500 of 1,200 test images"
    figures |= {"mean_auroc": 0.75, "intervals": {"mean_auroc": [0.7, 0.8]}}
    assert figures_of(figures) == "macro F1 0.500, mean AUROC 0.750 [0.700, 0.800] of 1,200 test images"


def test_commands__are_quoted_for_the_shell(tmp_path):
    for line, _ in commands_for(tmp_path / "it's mine", tmp_path / "a b", "-x $y"):
        words = shlex.split(line)
        assert words[0] == "fastcls" and (words[2] in (str(tmp_path / "it's mine"), str(tmp_path / "a b")))
        assert "--name" not in words or words[words.index("--name") + 1] == "-x $y"

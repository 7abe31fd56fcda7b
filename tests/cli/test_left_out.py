"""Every command that reads a folder names what it leaves out."""

import shutil

import pytest


@pytest.mark.parametrize(
    "command",
    [
        ("extract", "{data}", "--base", "{base}", "--dry-run"),
        ("run", "{data}", "--base", "{base}", "--out", "{out}", "--dry-run"),
        ("finetune", "{data}", "--base", "{base}", "--val", 0.2, "--out", "{out}", "--dry-run"),
        ("split-data", "{data}", "--out", "{out}"),
        ("to-csv", "{data}", "--out", "{out}"),
        ("to-tfrecord", "{data}", "--out", "{out}"),
        ("test", "{run}", "{data}", "--out", "{out}"),
        ("predict", "{run}", "{data}"),
    ],
    ids=lambda command: command[0],
)
def test_what_is_left_out_is_named(fastcls, photos, base, trained, tmp_path, caplog, command):
    data = shutil.copytree(photos, tmp_path / "photos")
    (data / "red" / "notes.txt").touch()
    shutil.copytree(data / "red", data / ".pink")
    places = {"data": data, "base": base, "run": trained.run, "out": tmp_path / "out"}
    result = fastcls(*(str(word).format(**places) for word in command))
    assert result.code == 0, result.err
    assert f"{data}: 1 file that is not named like an image is left out: 'red/notes.txt'" in caplog.text
    assert f"{data}: 1 hidden folder is left out: '.pink/'" in caplog.text

"""Data whose parts make no training: what a dry run and the command say, before anything is forwarded."""

import shutil

import pytest

MESSAGES = {
    "test alone": (
        "{data} has no training part. Received: test (60 images). Add images to train on (a folder train, "
        "or rows of the split train). To train on these images, give them without their parts: the folder of "
        "the part itself, or a table without a column of splits."
    ),
    "a class in test alone": (
        "No images to train on for: red. Received for red: {found}. Move some to the train part, remove the "
        "class, or split all images again"
    ),
    "a class in val alone": (
        "No images to train on for: red. Received for red: 20 images in val. Move some to the train part, "
        "remove the class, or split all images again"
    ),
}
PARTS = {
    "test alone": {"blue": "test", "green": "test", "red": "test"},
    "a class in test alone": {"blue": "train", "green": "train", "red": "test"},
    "a class in val alone": {"blue": "train", "green": "train", "red": "val"},
}


@pytest.mark.parametrize("command", ["run", "finetune"])
@pytest.mark.parametrize("layout", PARTS)
def test_what_is_lacking_is_named(fastcls, photos, base, tmp_path, monkeypatch, command, layout):
    monkeypatch.chdir(tmp_path)
    for name, part in PARTS[layout].items():
        shutil.copytree(photos / name, tmp_path / "data" / part / name)
    validates = ("--val", "0") if command == "finetune" and "val" not in layout else ()
    found = "20 images in test" if command == "run" else "none outside of the test part that can be read"
    given = (command, "data", "--base", base, "--out", "out", *validates)
    for more in ((), ("--dry-run",)):
        done = fastcls(*given, *more)
        expected = f"Error: {MESSAGES[layout].format(data='data', found=found)}"
        assert (done.code, done.err.splitlines()[-1]) == (1, expected)
    assert not (tmp_path / "out").exists()

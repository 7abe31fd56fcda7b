"""One photo under two labels: a dry run says what the command says, before anything is forwarded."""

import shutil

import pytest

SAID = (
    "photos: 1 image under different labels: 'blue/3.png (blue)', 'red/blue.png (red)'. "
    "All copies are kept; --conflicts drop leaves them out"
)


@pytest.fixture
def data(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(photos, "photos")
    shutil.copy("photos/blue/3.png", "photos/red/blue.png")
    return "photos"


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("run", "--out run --executor inline --base"),
        ("extract", "--executor inline --base"),
        ("finetune", "--out run --val 0.2 --epochs 1 --base"),
        ("split-data", "--out splits"),
    ],
)
def test_dry_run_and_command_name_the_same_images(fastcls, caplog, data, base, command, options):
    def warnings(*more):
        caplog.clear()
        given = [*options.split(), *([base] if options.endswith("--base") else [])]
        done = fastcls(command, data, *given, *more)
        assert done.code == 0, done.err
        return [message for message in caplog.messages if "different labels" in message]

    assert warnings("--dry-run", "--conflicts", "drop")[0].endswith("All of them are left out")
    assert warnings("--dry-run") == [SAID]
    assert warnings() == [SAID]

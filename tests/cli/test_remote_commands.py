"""Every command on images in an object store: it does the same as on a disk, or is refused in one line."""

import csv

import pytest

from fastcls import storage
from fastcls.files import read_json


@pytest.fixture(scope="module")
def url(s3, photos):
    """The photos in a bucket, and others beside them."""
    url = f"{s3.bucket()}/photos"
    for place, path in enumerate(sorted(photos.rglob("*.png"))):
        name = path.relative_to(photos).as_posix()
        storage.send(path, storage.join(url, name) if place % 10 else storage.join(f"{url}-new", name))
    return url


@pytest.fixture(scope="module")
def home(url, base, tmp_path_factory):
    """A folder with what `run` makes of them."""
    from fastcls.cli.main import cli

    home = tmp_path_factory.mktemp("remote")
    options = ("--base", base, "--precision", "float32", "--executor", "inline", "--epochs", 2, "--no-report")
    folders = ("--cache", home / "caches", "--out", home / "run")
    cli(["run", url, "--test", "0.3", *map(str, (*options, *folders))], standalone_mode=False)
    return home


COMMANDS = {
    "audit": "caches --out {out}",
    "calibrate": "{run} {url} --out {out}",
    "compare": "{url} --base {base} --cache caches --precision float32 --executor inline --out {out}",
    "curve": "caches --out {out}/curve.png",
    "explain": "{run} {url}/red {url}/blue/1.png --out {out}",
    "finetune": "{url} --from {run} --epochs 1 --val 0.2 --out {out}",
    "predict": "{run} {url}/red --csv",
    "report": "{run} --explain 2 --out {out}.html",
    "suggest": "{url}-new --from {run} --count 3 --out {out}.csv",
    "test": "{run} {url} --through-model --images all --out {out}",
    "to-csv": "{url} --val 0.2 --out {out}.csv",
    "to-tfrecord": "{url} --out {out}",
    "train-head": "caches --val 0.2 --epochs 1 --out {out}",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_work_on_images_in_a_store(command, url, base, home, fastcls, tmp_path, monkeypatch):
    monkeypatch.chdir(home)
    named = {"url": url, "run": "run", "base": base, "out": tmp_path / "out"}
    done = fastcls(command, *COMMANDS[command].format(**named).split())
    assert done.code == 0, done.err
    assert "nreadable" not in done.err and (any(tmp_path.iterdir()) or command == "predict")


def test_what_needs_a_disk_is_refused_in_a_line(url, fastcls, tmp_path):
    refused = fastcls("split-data", url, "--out", tmp_path / "out")
    assert refused.code == 1 and refused.err.count("\n") == 1 and "fastcls to-csv" in refused.err
    assert not [*tmp_path.iterdir()]


def test_explained_images_of_a_store_lie_as_they_do_there(url, home, fastcls, photos, tmp_path):
    local, remote, both = tmp_path / "local", tmp_path / "remote", tmp_path / "both"
    gone = f"{url}/red/gone.png"
    assert fastcls("explain", home / "run", photos / "red", photos / "blue/1.png", "--out", local).code == 0
    found = fastcls("explain", home / "run", f"{url}/red", f"{url}/blue/[1].png", gone, "--out", remote)
    assert found.code == 1 and found.err.count("\n") == 1 and gone in found.err
    pictures = [path.relative_to(remote) for path in remote.rglob("*.png")]
    assert len(pictures) == 19  # of each ten photos, one is elsewhere
    assert all((local / path).read_bytes() == (remote / path).read_bytes() for path in pictures)
    assert read_json(remote / "explained.json")["root"] == url
    assert fastcls("explain", home / "run", photos / "red/1.png", f"{url}/red/1.png", "--out", both).code == 0
    with (both / "explained.csv").open(newline="") as file:
        paths = [row["path"] for row in csv.DictReader(file)]
    assert len(paths) == 2 and paths[1] == url.replace("://", "/") + "/red/1.png"


def test_a_page_shows_thumbnails_of_images_in_a_store(home, fastcls, tmp_path):
    assert fastcls("report", home / "run", "--out", tmp_path / "page.html").code == 0
    assert (tmp_path / "page.html").read_text().count("/9j/") > 10  # JPEG in base64

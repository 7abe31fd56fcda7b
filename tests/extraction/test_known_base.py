"""A base that this machine knows: a new cache of it is copied from the home, without building anything."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from extraction_support import save_model, write_images

from fastcls import files, home
from fastcls.cache.store import cache_folders
from fastcls.engines.openvino import Bfloat16Engine
from fastcls.engines.trunk import Trunk
from fastcls.errors import OptionError
from fastcls.extraction import caches, kept_trunk
from fastcls.extraction.extractor import extract, extract_several
from fastcls.extraction.kept_trunk import KeptTrunk
from fastcls.extraction.planner import plan_extraction
from fastcls.specs import BaseSpec, CutSpec, ExtractConfig

pytest.importorskip("openvino")
INLINE = ExtractConfig(executor="inline", batch_size=2, engine="openvino")
COUNT = 8


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.keras"
    save_model(path)
    return path


@pytest.fixture
def cut(model_path):
    return CutSpec(BaseSpec(str(model_path), size=(8, 8)), "second", precision="float32")


@pytest.fixture
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv(home.VARIABLE, str(tmp_path / "home"))
    monkeypatch.setattr(home, "_of_process", lambda: tmp_path / "of this process")
    home._warn.cache_clear()
    return tmp_path / "home"


@pytest.fixture
def dataset(data):
    return write_images(data, COUNT)


def fail(*_, **__):
    raise AssertionError("nothing is built, converted or compared again")


def nothing_is_made(monkeypatch):
    for name in ("load_base", "load_without_download", "describe"):
        monkeypatch.setattr(caches, name, fail)
    monkeypatch.setattr(KeptTrunk, "_make", fail)
    monkeypatch.setattr(Trunk, "graph", property(fail))


def rows_of(cache):
    rows, samples = cache.read()
    return rows[np.argsort([row.path for row in samples])]


def left_over(*places):
    return [path for place in places for path in place.rglob(f"{files.TEMPORARY}*")]


def test_known_base__makes_the_same_rows_and_builds_nothing(own_home, cut, dataset, tmp_path, monkeypatch):
    first, done = extract(dataset, cut, tmp_path / "first", INLINE)
    assert done.fidelity["median_error"] < 1e-4
    nothing_is_made(monkeypatch)
    plan = plan_extraction(dataset, [cut], tmp_path / "second", INLINE)
    outline = plan.cuts[0].outline
    assert (outline.layer, outline.shape, outline.has_tail) == ("second", (8, 8, 5), True)
    second, again = extract(dataset, cut, tmp_path / "second", INLINE)
    assert second.folder.name == first.folder.name
    np.testing.assert_array_equal(rows_of(second), rows_of(first))
    assert again.fidelity == done.fidelity
    for name in ("trunk.keras", "tail.keras"):
        assert files.file_digest(second.folder / name) == files.file_digest(first.folder / name)
    half, _ = extract(dataset, replace(cut, dtype="float16"), tmp_path / "second", INLINE)
    assert (half.manifest.dtype, rows_of(half).dtype) == ("float16", np.float16)
    assert half.folder != second.folder


def test_known_base__other_weights_are_another_base(own_home, cut, dataset, tmp_path, model_path):
    first, _ = extract(dataset, cut, tmp_path / "caches", INLINE)
    other = tmp_path / "other.keras"
    from fastcls.backend import import_keras

    model = import_keras().saving.load_model(model_path)
    model.set_weights([weight + 0.01 for weight in model.get_weights()])
    model.save(other)
    changed = replace(cut, base=replace(cut.base, name=str(other)))
    second, _ = extract(dataset, changed, tmp_path / "caches", INLINE)
    assert second.manifest.weights_digest != first.manifest.weights_digest
    assert not np.array_equal(rows_of(second), rows_of(first))


def test_known_base__other_code_makes_another(monkeypatch):
    key = kept_trunk.kept_key("cut")
    monkeypatch.setattr(kept_trunk, "_MAKERS", ("cutter.py",))
    kept_trunk._versions.cache_clear()
    assert kept_trunk.kept_key("cut") != key
    kept_trunk._versions.cache_clear()


def test_known_base__what_is_damaged_in_the_home_is_made_again(own_home, cut, dataset, tmp_path, caplog):
    first, _ = extract(dataset, cut, tmp_path / "first", INLINE)
    for path in sorted(own_home.rglob("trunk.*")):
        content = path.read_bytes()
        path.unlink()  # it may be linked
        path.write_bytes(content[:-1] + b"?")
    second, _ = extract(dataset, cut, tmp_path / "second", INLINE)
    assert "is damaged" in caplog.text
    assert second.folder.name == first.folder.name
    np.testing.assert_array_equal(rows_of(second), rows_of(first))


def test_known_base__several_cuts_have_the_caches_that_they_have_alone(own_home, cut, dataset, tmp_path):
    cuts = [cut, replace(cut, layer="first")]
    alone = [extract(dataset, each, tmp_path / "alone", INLINE)[0].folder.name for each in cuts]
    together = extract_several(dataset, cuts, tmp_path / "together", INLINE)
    assert [cache.folder.name for cache, _ in together] == alone


@pytest.mark.parametrize("harm", ["a file", "open to others"])
def test_extract__without_a_home_is_as_with_it(own_home, cut, dataset, tmp_path, monkeypatch, harm):
    first, _ = extract(dataset, cut, tmp_path / "first", INLINE)
    place = tmp_path / "no home"
    if harm == "a file":
        place.write_text("")
    else:
        place.mkdir()
        place.chmod(0o777)
    monkeypatch.setenv(home.VARIABLE, str(place))
    second, _ = extract(dataset, cut, tmp_path / "second", INLINE)
    assert second.folder.name == first.folder.name
    np.testing.assert_array_equal(rows_of(second), rows_of(first))
    assert place.is_file() or not list(place.iterdir())


def test_known_base__its_weights_are_kept_once_in_a_cache_of_16_bits(own_home, cut, dataset, tmp_path):
    try:
        Bfloat16Engine.require()
    except OptionError as error:
        pytest.skip(str(error))
    cache, _ = extract(dataset, replace(cut, precision="bfloat16"), tmp_path / "caches", INLINE)
    exact, rounded = sorted(cache.folder.glob("openvino*/trunk.bin"))
    assert exact.samefile(rounded)
    assert cache.manifest.float32_layers == Bfloat16Engine.float32_layers(cache.trunk_path)


KILLED = """
import os, shutil, signal, sys
import keras, tensorflow  # once, before the forks
from fastcls.cache import checked_files, store
from fastcls.data.dataset import Dataset
from fastcls.extraction import kept_trunk
from fastcls.extraction.extractor import extract
from fastcls.specs import BaseSpec, CutSpec, ExtractConfig

_, model, data, root, *points = sys.argv
def kill(*_, **__): os.kill(os.getpid(), signal.SIGKILL)
for point in points:
    child = os.fork()
    if not child: break
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (point, status)
else:
    sys.exit()
if point == "model": checked_files._write = kill
if point == "manifest": store.Cache.create = kill
if point == "engine": kept_trunk.shutil.copytree = kill
if point == "noted": store.Cache.note_fidelity = kill
if point == "remembered": store.Cache.add_cut = kill
cut = CutSpec(BaseSpec(model, size=(8, 8)), "second", precision="float32")
extract(Dataset.open(data), cut, root, ExtractConfig(executor="inline", batch_size=2, engine="openvino"))
"""


def test_known_base__a_kill_leaves_a_cache_that_the_next_extraction_fills(
    own_home, cut, dataset, tmp_path, model_path, data
):
    first, _ = extract(dataset, cut, tmp_path / "first", INLINE)
    root, kept = tmp_path / "second", sorted(own_home.rglob("*"))
    points = ("model", "manifest", "engine", "noted", "remembered")
    command = [sys.executable, "-c", KILLED, str(model_path), str(data), str(root), *points]
    subprocess.run(command, check=True)
    assert sorted(own_home.rglob("*")) == kept
    second, done = extract(dataset, cut, root, INLINE)
    assert (second.folder.name, done.forwarded) == (first.folder.name, COUNT)
    np.testing.assert_array_equal(rows_of(second), rows_of(first))
    assert left_over(root, own_home) == [] and len(cache_folders(root)) == 1
    assert list(root.iterdir()) == [second.folder]

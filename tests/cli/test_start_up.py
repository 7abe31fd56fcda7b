"""What commands import: seconds, where it is more than they use."""

import shutil
import subprocess
import sys

import pytest

HEAVY = ("tensorflow", "keras", "sklearn", "scipy", "matplotlib", "pandas", "openvino", "h5py", "cv2")
SCRIPT = f"""
import sys
from fastcls.cli.main import main
try:
    main()
finally:
    print("loaded", *[name for name in {HEAVY} if name in sys.modules])
"""


def loaded_by(*arguments):
    """Which heavy packages a command has imported."""
    command = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.fixture(scope="module")
def known(photos, base, tmp_path_factory):
    """A base that this machine knows, as it was asked for before."""
    place = tmp_path_factory.mktemp("known")
    command = [sys.executable, "-m", "fastcls", "extract", photos, "--base", base, "--cache", place]
    subprocess.run([*map(str, command)], capture_output=True, check=True)
    return base


def test_extract__a_known_base_needs_no_tensorflow(known, photos, tmp_path):
    pytest.importorskip("openvino")
    asked = ("extract", photos, "--base", known, "--cache", tmp_path)
    assert loaded_by(*asked, "--dry-run") <= {"h5py", "cv2", "openvino"}
    assert loaded_by(*asked) <= {"h5py", "cv2", "openvino"}
    assert loaded_by(*asked) <= {"h5py", "cv2"}  # nothing is left to do


def test_run__its_plan_for_a_known_base_needs_no_tensorflow(known, photos, tmp_path):
    pytest.importorskip("openvino")
    asked = ("run", photos, "--base", known, "--cache", tmp_path / "caches", "--out", tmp_path / "run")
    assert loaded_by(*asked, "--dry-run") <= {"h5py", "cv2", "openvino"}


@pytest.mark.parametrize("head", ["logreg", "prototype"])
def test_train_head__fits_a_head_before_keras_is_needed(trained, tmp_path, head):
    asked = ("train-head", trained.cache.folder, "--out", tmp_path / "run", "--head", head)
    assert loaded_by(*asked, "--dry-run") <= {"h5py", "cv2"}
    script = f"""
import sys
from fastcls.training.heads import network, prototypes
def stop(*_):
    print("loaded", *[name for name in {HEAVY} if name in sys.modules])
    raise SystemExit
network.import_keras = prototypes.import_keras = stop
sys.argv[1:] = {list(map(str, asked))}
from fastcls.cli.main import main
main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(done.stdout.splitlines()[-1].split()[1:]) <= {"h5py", "cv2", "scipy"}


def test_layers__keras_comes_without_what_no_command_uses(base):
    loaded = loaded_by("layers", base)
    assert "keras" in loaded
    assert not loaded & {"sklearn", "matplotlib", "pandas"}


def test_end__what_is_registered_is_done_and_what_was_printed_is_written():
    code = (
        "import atexit, sys\natexit.register(print, 'tidied up')\nsys.argv = ['fastcls', '--version']\n"
        "from fastcls.__main__ import main\nmain()"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[1:] == ["tidied up"]


def test_compare__finished_runs_are_read_from_tables(trained, tmp_path):
    runs = trained.run, tmp_path / "other"
    shutil.copytree(*runs)
    assert loaded_by("compare", *runs) <= {"h5py", "cv2", "scipy"}


def test_curve__needs_no_tensorflow(trained, tmp_path):
    asked = ("curve", trained.cache.folder, "--out", tmp_path / "curve.png")
    assert loaded_by(*asked) <= {"h5py", "cv2", "scipy", "matplotlib"}


def test_report__needs_no_tensorflow(trained, tmp_path):
    loaded = loaded_by("report", trained.run, "--out", tmp_path / "report.html")
    assert not loaded & {"tensorflow", "keras", "openvino", "matplotlib"}

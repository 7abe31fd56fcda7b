"""The campaigns in their short form, and that they notice what they are made to notice."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from campaigns import damage, fuzzes, kills, results, shim  # noqa: E402
from campaigns.forks import Ended  # noqa: E402
from campaigns.kinds import Promise  # noqa: E402
from campaigns.material import Material  # noqa: E402
from campaigns.tally import Tally, Verdict  # noqa: E402

PATH = Path("vectors/cache/samples.csv")
RIGHT = fuzzes.Outcome(Ended(0, "", "", 1.0), {"made/head.keras": "weights"})
# What takes but a cache and a run.
CASES = [
    *("manifest:1:0", "tables:1:1", "shards:1:3", "heads:1:4", "classifiers:1:5", "split-table:1:6"),
    *("split-plan:1:7", "images:1:9", "hostile:nested-manifest", "hostile:pickle-old"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the campaigns of this module try on; each makes what it needs."""
    return tmp_path_factory.mktemp("campaigns")


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    path = tmp_path / "scratch"
    path.mkdir()
    return path


def test_campaign_fuzz__every_kind_of_damage_ends_in_an_error_or_the_right_result(folder: Path) -> None:
    trials = [argument for case in CASES for argument in ("--trial", case)]
    done = run_script("campaign_fuzz.py", *trials, "--material", str(folder / "fuzz"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].split()[:2] == ["total", str(len(CASES))]


@pytest.mark.parametrize("command", ["split-link", "split-copy", "split-labels", "to-csv"])
def test_campaign_kill__goes_on(folder: Path, scratch: Path, command: str) -> None:
    campaign = kills.Campaign(Material(folder / "kill"), scratch, shim.compile_shim(scratch))
    verdicts = [campaign.try_one(f"{command}:0:{number}") for number in range(2)]
    assert [verdict.failures for verdict in verdicts] == [()] * 2


def run_script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / name), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=240,
    )


def write_shard(path: Path, rows: dict[str, float]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["digests"] = np.array(list(rows), "S32")
        file["bottlenecks"] = np.array(list(rows.values()), np.float32)


def test_results__rows_count_wherever_they_are(tmp_path: Path) -> None:
    write_shard(tmp_path / "a/shards/1.h5", {"x": 1, "y": 2})
    write_shard(tmp_path / "b/shards/1.h5", {"y": 2})
    write_shard(tmp_path / "b/shards/2.h5", {"x": 1})
    one, two = (results.summarize(tmp_path / name) for name in "ab")
    assert not results.differences(one, two)
    write_shard(tmp_path / "b/shards/3.h5", {"x": 1})
    assert results.differences(results.summarize(tmp_path / "b"), one) == ["left over: shards/row x again"]
    write_shard(tmp_path / "a/shards/1.h5", {"x": 1, "y": 2.5})
    assert results.differences(results.summarize(tmp_path / "a"), two) == ["other: shards/row y"]


def test_results__times_do_not_count_and_all_else_does(tmp_path: Path) -> None:
    for name, seconds, loss in (("a", 1, 0.5), ("b", 2, 0.5), ("c", 1, 0.25)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "history.csv").write_text(f"epoch,loss,seconds\n1,{loss},{seconds}\n")
        (tmp_path / name / "run.json").write_text(f'{{"seconds": {seconds}, "root": "{tmp_path / name}"}}')
    first, same, other = (results.summarize(tmp_path / name) for name in "abc")
    assert not results.differences(first, same)
    assert results.differences(first, other) == ["other: history.csv"]
    (tmp_path / "b" / ".tmp-x").mkdir()
    assert results.differences(results.summarize(tmp_path / "b"), first) == ["left over: .tmp-x"]


@pytest.mark.parametrize("name", sorted(set(damage.DAMAGES) - {"swap"}))
def test_damage__changes_the_file_and_is_repeatable(tmp_path: Path, name: str) -> None:
    seen = []
    for path in (tmp_path / "one", tmp_path / "two"):
        path.write_bytes(b"first line\nsecond line\n")
        damage.inflict(name, path, [], random.Random(3))
        seen.append(path.read_bytes() if path.is_file() else (path.exists(), path.is_dir()))
    assert seen[0] == seen[1] != b"first line\nsecond line\n"


@pytest.mark.parametrize(
    ("ended", "made", "promise", "found"),
    [
        (Ended(0, "", "", 1.0), {"made/head.keras": "weights"}, Promise.SAME, "right"),
        (Ended(0, "", "", 1.0), {"made/head.keras": "others"}, Promise.SAME, "silently"),
        (Ended(0, "", "", 1.0), {"made/head.keras": "others"}, Promise.ALIVE, "other"),
        (Ended(1, "", f"Error: {PATH} is damaged", 1.0), {}, Promise.SAME, "refused"),
        (Ended(1, "", "Error: something is damaged", 1.0), {}, Promise.SAME, "does not name"),
        (Ended(1, "", f"Error: {PATH} is damaged", 1.0), {"made": "folder"}, Promise.SAME, "half made"),
        (Ended(1, "", "Traceback (most recent", 1.0), {}, Promise.ALIVE, "traceback"),
        (Ended(-11, "", "", 1.0), {}, Promise.ALIVE, "crash"),
        (Ended(-9, "", "", 120.0, late=True), {}, Promise.ALIVE, "no end"),
        (Ended(0, "", "", 1.0, memory=8 << 30), {"made/head.keras": "weights"}, Promise.SAME, "memory"),
    ],
)
def test_judge__tells_right_from_wrong(
    ended: Ended, made: dict[str, str], promise: Promise, found: str
) -> None:
    word, failures = fuzzes.judge(fuzzes.Outcome(ended, made), RIGHT, PATH, promise, prints=False)
    assert [word] == [found] if not failures else found in "\n".join(failures)


def test_shim__lets_the_chosen_call_and_all_later_ones_fail(tmp_path: Path, scratch: Path) -> None:
    compiled = shim.compile_shim(scratch)
    if compiled is None:
        pytest.skip("there is no C compiler")
    (tmp_path / "data").mkdir()
    script = (
        "import os\nfor n in range(4):\n try: os.mkdir(f'data/{n}')\n except OSError as e: print(n, e.errno)"
    )
    watched = compiled.environment(tmp_path / "data", scratch / "count", call=3, errno=28)
    done = subprocess.run(
        [sys.executable, "-S", "-c", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, **watched},
    )
    assert done.stdout.splitlines() == ["2 28", "3 28"]
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["0", "1"]


def test_tally__counts_by_row_and_keeps_the_failures() -> None:
    tally = Tally(("kind",), ("right", "refused"))
    for verdict in (Verdict("a:0:0", ("a",), "right"), Verdict("a:0:1", ("a",), "right", ("wrong",))):
        tally.add(verdict)
    lines = [line.split() for line in str(tally).splitlines()]
    assert lines == [
        ["kind", "tries", "right", "refused", "failed"],
        ["a", "2", "1", "0", "1"],
        ["total", "2", "1", "0", "1"],
    ]
    assert [verdict.trial for verdict in tally.failed] == ["a:0:1"]

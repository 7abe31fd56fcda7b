"""Every file of a run that is read back, damaged in every way: a clear error, or the right result."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from fastcls import files
from fastcls.plans.finetuning import plan_finetuning
from fastcls.plans.training import plan_training

WAYS = ["flip", "truncate", "empty", "not utf-8", "swap", "missing", "folder"]


@pytest.fixture(scope="module")
def pair(trained, photos, tmp_path_factory):
    """Two runs with a kept checkpoint each, of the same kind but for a seed; one of finetune."""
    from fastcls import pipeline
    from fastcls.data.dataset import Dataset
    from fastcls.specs import CheckpointSpec, FinetuneSpec, TrainConfig

    root = tmp_path_factory.mktemp("pair")
    for name, seed in (("one", 1), ("other", 2)):
        config = TrainConfig(
            epochs=2, seed=seed, val=0.1 * seed, checkpoints=CheckpointSpec(checkpoint_every=1)
        )
        pipeline.train_planned(plan_training(trained.cache, None, config, root / name))
    config = TrainConfig(epochs=1, val=0.2, checkpoints=CheckpointSpec(checkpoint_every=1))
    pipeline.finetune_planned(
        plan_finetuning(Dataset.from_folder(photos), root / "one", FinetuneSpec(), config, root / "tuned")
    )
    return root


# Which files each command reads of a run.
READERS = {
    "run.json": ["test", "predict", "train-head --from", "finetune --from", "--config"],
    "classifier.keras": ["test", "predict", "finetune --from"],
    "head.keras": ["train-head --from"],
    "images.csv": ["test", "train-head --from"],
    "checkpoints/epoch-0002.keras": ["train-head --from checkpoint"],
}
# A lone classifier needs no record, a record no classifier, and another run's checkpoint is a checkpoint.
LONE = {("missing", "run.json"), ("folder", "run.json")}
RIGHT = {
    "test": LONE,
    "predict": LONE,
    "finetune --from": LONE,
    "--config": {("swap", "run.json")},
    "train-head --from checkpoint": {("swap", "checkpoints/epoch-0002.keras")},
}
CASES = [(name, reader) for name, readers in READERS.items() for reader in readers]


@pytest.mark.parametrize(("name", "reader"), CASES)
def test_a_damaged_file_is_named(fastcls, trained, photos, pair, tmp_path, name, reader):
    commands = {
        "test": ("test", "{run}", photos, "--out", "{out}"),
        "predict": ("predict", "{run}", photos / "red" / "0.png"),
        "train-head --from": ("train-head", trained.cache.folder, "--from", "{run}", "--out", "{out}"),
        "train-head --from checkpoint": (
            *("train-head", trained.cache.folder, "--from"),
            *("{run}/checkpoints/epoch-0002.keras", "--out", "{out}"),
        ),
        "finetune --from": (
            *("finetune", photos, "--from", "{run}", "--val", 0.2, "--epochs", 1, "--out", "{out}"),
        ),
        "--config": ("train-head", trained.cache.folder, "--config", "{run}", "--out", "{out}"),
    }
    random = np.random.default_rng(len(name) + len(reader))
    for way in WAYS:
        run, out = tmp_path / way / "run", tmp_path / way / "out"
        shutil.copytree(pair / "one", run)
        damage(run / name, way, pair / "other" / name, random)
        command = [str(part).format(run=run, out=out) for part in commands[reader]]
        result = fastcls(*command)
        if (way, name) in RIGHT.get(reader, ()):
            assert result.code == 0, (way, result.err)
            continue
        assert result.code == 1 and result.err.startswith("Error: "), (way, result.err)
        assert str(run) in result.err and result.err.count("\n") == 1, (way, result.err)
        assert not out.exists() and not list(out.parent.glob("*.unfinished")), way


@pytest.mark.parametrize("reader", ["test", "predict", "finetune --from"])
def test_a_classifier_without_its_record_is_one_of_unknown_images(fastcls, photos, pair, tmp_path, reader):
    shutil.copy(pair / "one" / "classifier.keras", tmp_path)
    commands = {
        "test": ("test", tmp_path, photos),
        "predict": ("predict", tmp_path, photos / "red" / "0.png"),
        "finetune --from": (
            *("finetune", photos, "--from", tmp_path, "--val", 0.2),
            *("--epochs", 1, "--out", tmp_path / "out"),
        ),
    }
    result = fastcls(*commands[reader])
    assert result.code == 0, result.err
    if reader == "test":
        assert "it is unknown which of them were used in training" in result.out


@pytest.mark.parametrize("kind", ["head", "network"])
def test_checkpoints_of_another_kind_are_refused(fastcls, trained, photos, pair, tmp_path, kind):
    head, network = (pair / name / "checkpoints" for name in ("one", "tuned"))
    if kind == "network":  # a whole network where a head is wanted
        kept = network / "epoch-0001.keras"
        result = fastcls("train-head", trained.cache.folder, "--from", kept, "--out", tmp_path / "out")
    else:
        kept = head / "epoch-0001.keras"
        result = fastcls("finetune", photos, "--from", kept, "--out", tmp_path / "out")
    assert result.code == 1 and str(kept) in result.err and result.err.count("\n") == 1


@pytest.mark.parametrize(
    "state",
    ["[]", "{}", '{"version": 1}', '{"version": 2, "identity": 3}', "\x00", "[" * 10**5],
)
def test_a_checkpoint_of_a_wrong_state_is_left_out_or_named(fastcls, trained, pair, tmp_path, caplog, state):
    import zipfile

    resume = tmp_path / "run.unfinished" / "resume"
    resume.mkdir(parents=True)
    (resume.parent / ".fastcls-unfinished").touch()
    odd = resume / "epoch-0002.keras"
    with zipfile.ZipFile(pair / "one" / "checkpoints" / "epoch-0002.keras") as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(odd, "w") as archive:
        for name, data in {**members, "fastcls/state.json": state}.items():
            archive.writestr(name, data)
    (resume / "epoch-0002 copy.keras").touch()
    named = fastcls("train-head", trained.cache.folder, "--from", odd, "--out", tmp_path / "more")
    assert named.code == 1 and str(odd) in named.err and named.err.count("\n") == 1
    result = fastcls("train-head", trained.cache.folder, "--epochs", 1, "--out", tmp_path / "run")
    assert result.code == 0 and f"{odd} is not a fastcls checkpoint, or damaged" in caplog.text


@pytest.mark.parametrize("member", ["class_names", "decided_by", "figures", "files", "images", "asked"])
@pytest.mark.parametrize("value", [None, [1], {"a": None}])
def test_a_record_of_wrong_types_is_named(fastcls, trained, photos, pair, tmp_path, member, value):
    run = shutil.copytree(pair / "one", tmp_path / "run")
    record = files.read_checked_json(run / "run.json")
    files.write_checked_json(run / "run.json", {**record, member: value})
    commands = [
        ("train-head", trained.cache.folder, "--from", run, "--out", tmp_path / "out"),
        ("test", run, photos),
        ("train-head", trained.cache.folder, "--out", run),
    ]
    for command in commands:
        result = fastcls(*command)
        assert result.code == 0 or (result.code == 1 and result.err.startswith("Error: ")), result.err
        shutil.rmtree(tmp_path / "out", ignore_errors=True)


def damage(path, way, other, random) -> None:
    whole = path.read_bytes()
    if way == "flip":
        place = int(random.integers(len(whole)))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    elif way == "truncate":
        path.write_bytes(whole[: int(random.integers(1, len(whole) - 1))])
    elif way == "empty":
        path.write_bytes(b"")
    elif way == "not utf-8":
        path.write_bytes(whole.replace(b"e", b"\xff", 1))
    elif way == "swap":
        path.write_bytes(other.read_bytes())
    else:
        path.unlink()
        if way == "folder":
            path.mkdir()

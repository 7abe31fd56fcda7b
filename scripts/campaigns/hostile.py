"""Files that were made to do harm: code, links out of a file, bombs. Nothing of it ever runs."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from campaigns import forks, fuzzes
from campaigns.material import BASE, STOPPED, Material
from campaigns.tally import Verdict

KIND = "hostile"
_OWNED = "owned"  # what code makes that has run
_SECRET = b"a file outside"
_LIMIT_S = 120.0
_BOMB_BYTES = 6 << 30
_DEPTH = 200_000
_EXTRACT = f"extract data {BASE} --cache vectors --workers 1"
_TRAIN = "train-head vectors --out made --head logreg"
_LENET = "extract extra --base lenet5 --weights lenet.weights.h5 --cache made --workers 1"


class _Code:
    """An object whose unpickling runs a shell command."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {_OWNED}",)


def _pickle_old(folder: Path) -> None:
    (folder / "weights.pth").write_bytes(pickle.dumps({"c1.weight": _Code()}, protocol=2))


def _pickle_zip(folder: Path) -> None:
    with zipfile.ZipFile(folder / "weights.pth", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"c1.weight": _Code()}, protocol=2))
        archive.writestr("archive/version", "3\n")


def _safetensors_header(folder: Path) -> None:
    (folder / "lenet.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + b"{}")


def _safetensors_nested(folder: Path) -> None:
    header = b'{"c1.weight":' + b"[" * _DEPTH
    (folder / "lenet.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)


def _code_layer(keras: Any) -> Any:
    image = keras.layers.Input((16, 16, 3))
    x = keras.layers.Lambda(lambda x: (__import__("os").system("touch owned"), x)[1])(image)
    return keras.Model(image, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x)))


def _code_in(name: str) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        import keras

        _code_layer(keras).save(folder / name)

    return prepare


def _code_in_saved(folder: Path) -> None:
    import tf_keras

    _code_layer(tf_keras).save(folder / "evil", save_format="tf")


def _files_in_saved(folder: Path) -> None:
    """A graph whose operations read and write files; no Python in it."""
    import tensorflow as tf
    import tf_keras

    class Writer(tf_keras.layers.Layer):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            tf.io.write_file(_OWNED, "owned")
            return x

    image = tf_keras.layers.Input((16, 16, 3))
    x = tf_keras.layers.GlobalAveragePooling2D()(Writer()(image))
    tf_keras.Model(image, tf_keras.layers.Dense(3)(x)).save(folder / "evil", save_format="tf")


def _class_of_system(folder: Path) -> None:
    """A `.keras` file that names a function of the system as the class of a layer."""
    config = {"module": "os", "class_name": "system", "config": f"touch {_OWNED}", "registered_name": None}
    _replace_members(folder / "base.keras", {"config.json": json.dumps(config).encode()})


def _outward_path(folder: Path) -> None:
    with zipfile.ZipFile(folder / "base.keras", "a") as archive:
        archive.writestr(f"../{_OWNED}", "owned")
        archive.writestr(f"assets/../../{_OWNED}", "owned")


def _bomb(name: str, member: str) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        zeros = bytes(1 << 24)
        kept = _read_members(folder / name)
        kept.pop(member, None)
        with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for other, data in kept.items():
                archive.writestr(other, data)
            with archive.open(member, "w", force_zip64=True) as file:
                for _ in range(_BOMB_BYTES // len(zeros)):
                    file.write(zeros)

    return prepare


def _nested(pattern: str) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        (path,) = folder.glob(pattern)
        path.write_text('{"a":' + "[" * _DEPTH + "]" * _DEPTH + "}")

    return prepare


def _nested_member(name: str, member: str) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        _replace_members(folder / name, {member: b'{"a":' + b"[" * _DEPTH + b"]" * _DEPTH + b"}"})

    return prepare


def _external_rows(folder: Path) -> None:
    """A shard whose rows lie in another file."""
    path = sorted(folder.glob("vectors/*/shards/*.h5"))[0]
    with h5py.File(path, "a") as file:
        rows = file["bottlenecks"][()]
        del file["bottlenecks"]
        secret = folder / "secret"
        secret.write_bytes(_SECRET.ljust(rows.nbytes, b"."))
        file.create_dataset("bottlenecks", rows.shape, rows.dtype, external=[(str(secret), 0, rows.nbytes)])


def _external_link(folder: Path) -> None:
    """A shard whose rows are a link to those of another file."""
    first, second = sorted(folder.glob("vectors/*/shards/*.h5"))[:2]
    with h5py.File(first, "a") as file:
        del file["bottlenecks"]
        file["bottlenecks"] = h5py.ExternalLink(str(second), "bottlenecks")


def _external_weights(folder: Path) -> None:
    """A weights file one of whose tensors is in a file outside."""
    with h5py.File(folder / "lenet.weights.h5", "a") as file:
        name = _first_dataset(file)
        values = file[name][()]
        del file[name]
        secret = folder / "secret"
        secret.write_bytes(_SECRET.ljust(values.nbytes, b"."))
        file.create_dataset(name, values.shape, values.dtype, external=[(str(secret), 0, values.nbytes)])


def _linked_weights(folder: Path) -> None:
    with h5py.File(folder / "lenet.weights.h5", "a") as file:
        name = _first_dataset(file)
        with h5py.File(folder / "secret", "w") as other:
            other["values"] = np.zeros_like(file[name][()])
        del file[name]
        file[name] = h5py.ExternalLink("secret", "values")


def _unknown_filter(pattern: str) -> Callable[[Path], None]:
    """An HDF5 file that asks for a filter of a plugin that nobody has."""

    def prepare(folder: Path) -> None:
        path = sorted(folder.glob(pattern))[0]
        made = io.BytesIO()
        with h5py.File(path, "r") as whole, h5py.File(made, "w", libver="earliest") as file:
            file.attrs.update(whole.attrs)
            for key in whole:
                whole.copy(key, file)
            name = _first_dataset(file)
            values = file[name][()]
            del file[name]
            file.create_dataset(name, data=values, chunks=True, compression="gzip")
        data = made.getvalue()
        known = struct.pack("<HHHH", 1, 8, 1, 1) + b"deflate\0"  # id, length of the name, flags, values
        if known not in data:
            raise RuntimeError("HDF5 writes its filters in another way than expected")
        path.write_bytes(data.replace(known, struct.pack("<H", 32001) + known[2:]))

    return prepare


def _first_dataset(file: h5py.File) -> str:
    found: list[str] = []
    file.visititems(lambda name, node: found.append(name) if isinstance(node, h5py.Dataset) else None)
    return found[0]


def _read_members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _replace_members(path: Path, members: dict[str, bytes]) -> None:
    kept = {**_read_members(path), **members}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in kept.items():
            archive.writestr(name, data)


_PTH = ("import-weights lenet5 weights.pth", ())
_SAFE = ("import-weights lenet5 lenet.safetensors", ("lenet.safetensors",))
_LAYERS = ("layers base.keras", ("base.keras",))
_PREDICT = ("predict run photos --csv", ("run", "photos"))
_FROM = ("train-head vectors --out made --from run --epochs 2", ("run", "vectors"))
_RESUME = (STOPPED, ("vectors", "stopped.unfinished"))
_ROWS = (_TRAIN, ("vectors",))
_WEIGHTS = (_LENET, ("lenet.weights.h5", "extra"))

# Each: what makes the file, the command that reads it, what it needs of the material.
CASES: dict[str, tuple[Callable[[Path], None], tuple[str, tuple[str, ...]]]] = {
    "pickle-old": (_pickle_old, _PTH),
    "pickle-zip": (_pickle_zip, _PTH),
    "safetensors-header": (_safetensors_header, _SAFE),
    "safetensors-nested": (_safetensors_nested, _SAFE),
    "code-keras": (_code_in("evil.keras"), ("layers evil.keras", ())),
    "code-h5": (_code_in("evil.h5"), ("layers evil.h5", ())),
    "code-saved": (_code_in_saved, ("layers evil", ())),
    "files-saved": (_files_in_saved, ("layers evil", ())),
    "class-of-system": (_class_of_system, _LAYERS),
    "outward-path": (_outward_path, _LAYERS),
    "bomb-config": (_bomb("base.keras", "config.json"), _LAYERS),
    "bomb-weights": (_bomb("base.keras", "model.weights.h5"), _LAYERS),
    "bomb-classifier": (_bomb("run/classifier.keras", "fastcls.json"), _PREDICT),
    "bomb-alone": (
        _bomb("run/classifier.keras", "fastcls.json"),
        ("predict run/classifier.keras photos --csv", ("run", "photos")),
    ),
    "bomb-checkpoint": (
        _bomb("stopped.unfinished/resume/epoch-0002.keras", "fastcls/state.json"),
        _RESUME,
    ),
    "nested-base": (_nested_member("base.keras", "config.json"), _LAYERS),
    "nested-classifier": (_nested_member("run/classifier.keras", "fastcls.json"), _PREDICT),
    "nested-head": (_nested_member("run/head.keras", "config.json"), _FROM),
    "nested-run": (_nested("run/run.json"), _FROM),
    "nested-manifest": (_nested("vectors/*/manifest.json"), _ROWS),
    "external-rows": (_external_rows, _ROWS),
    "external-link": (_external_link, _ROWS),
    "external-weights": (_external_weights, _WEIGHTS),
    "linked-weights": (_linked_weights, _WEIGHTS),
    "filter-rows": (_unknown_filter("vectors/*/shards/*.h5"), _ROWS),
    "filter-weights": (_unknown_filter("lenet.weights.h5"), _WEIGHTS),
}


def try_one(trial: str, ready: Material) -> Verdict:
    """Run the case of a name, hostile:CASE."""
    name = trial.split(":")[1]
    prepare, (command, needs) = CASES[name]
    folder = ready.lay_out(needs)
    made = forks.run(lambda: prepare(folder), folder)
    if made.code:
        raise RuntimeError(f"{name} could not be made:\n{made.tail}")
    (folder / _OWNED).unlink(missing_ok=True)  # saving a layer runs it
    ended = forks.run_command(command.split(), folder, limit_s=_LIMIT_S)
    failures = fuzzes.judge_alive(ended)
    if any(ready.folder.rglob(_OWNED)):
        failures.append("code of the file has run, or it has written outside")
    if not ended.code and name not in _HARMLESS:
        failures.append(f"it was accepted:\n{ended.tail}")
    if ended.code and not failures and not fuzzes.is_error(ended):
        failures.append(f"no clear message:\n{ended.tail}")
    shutil.rmtree(folder)
    outcome = "refused" if ended.code else "right"
    return Verdict(trial, (KIND, name), outcome, (*failures, f"command: {command}") if failures else ())


# Members that nobody asked for may lie in an archive, and an unfinished training has an earlier checkpoint.
_HARMLESS = {"outward-path", "bomb-checkpoint"}

"""Which engine and precision a machine gets, and how it is divided; the machines are made up."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from extraction_support import save_model, write_images

import fastcls.engines
from fastcls.cache.lease import Leases
from fastcls.cache.store import Cache, cache_folders
from fastcls.engines import REFERENCE
from fastcls.engines.tensorflow import Trunk
from fastcls.errors import CacheError, ConversionError, MissingExtraError, OptionError
from fastcls.extraction import chooser, worker
from fastcls.extraction.chooser import Choice, Crew, choose, divide
from fastcls.extraction.extractor import extract
from fastcls.extraction.planner import Order, Requested
from fastcls.specs import BaseSpec, CutSpec, ExtractConfig, ViewSpec

COUNT = 6
INLINE = ExtractConfig(workers=0, batch_size=2)
CANNOT_CONVERT = ConversionError("It does not know the operation Swirl")
NO_UNIT = OptionError("this machine has no unit for it")
NO_PACKAGE = MissingExtraError("It needs the package 'swift'. Install it with: pip install 'fastcls[swift]'")


class Engine:
    """Computes what Keras computes, unless a test changes what stands here."""

    obstacle = None
    conversion = None
    factor = 1.0
    loaded = 0

    def __init__(self, trunk, threads):
        type(self).loaded += 1
        self._trunk = Trunk(trunk)

    @classmethod
    def require(cls):
        if cls.obstacle:
            raise cls.obstacle

    @classmethod
    def prepare(cls, trunk, read_images):
        if cls.conversion:
            raise cls.conversion

    def run(self, images):
        return self._trunk.run(images) * self.factor


class CalibratedEngine(Engine):
    """Learns from images what it then depends on."""

    is_calibrated = True
    calibrations = 0

    @classmethod
    def prepare(cls, trunk, read_images):
        super().prepare(trunk, read_images)
        if not cls.place(trunk.path).exists():
            cls.calibrations += 1
            cls.place(trunk.path).write_text(str(len(read_images())))

    @classmethod
    def place(cls, trunk):
        return trunk.with_name("calibration")

    @classmethod
    def damage(cls, trunk):
        return "" if cls.place(trunk).exists() else f"{cls.place(trunk)} is gone"


@pytest.fixture
def machine(monkeypatch):
    """{(engine, precision): its class}, all able; the reference is the real one."""
    engines = {}
    for key, path in fastcls.engines._CLASSES.items():
        if path != REFERENCE:
            kind = CalibratedEngine if key[1] == "int8" else Engine
            engines[key] = type("_".join(key), (kind,), {})
            monkeypatch.setattr(sys.modules[__name__], "_".join(key), engines[key], raising=False)
            monkeypatch.setitem(fastcls.engines._CLASSES, key, f"{__name__}:{'_'.join(key)}")
    return engines


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.keras"
    save_model(path)
    return path


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "_SETTLED_NS", 0)  # the state of young files is relied on
        yield write_images(tmp_path_factory.mktemp("data"), COUNT)


class User:
    """Asks for bottlenecks of one base."""

    def __init__(self, model_path, root):
        self._model_path, self.root = model_path, root

    def _spec(self, precision):
        return CutSpec(BaseSpec(str(self._model_path), size=(8, 8)), layer="second", precision=precision)

    def choose(self, dataset, engine="auto", precision="auto"):
        requests = [Requested(self._spec(precision), self.root)]
        with Leases() as leases:
            return choose(requests, Order(dataset, ViewSpec()), self.root, leases, engine)

    def extract(self, dataset, precision="auto"):
        return extract(dataset, self._spec(precision), self.root, INLINE)

    def has_nothing(self):
        return not self.root.exists() or not list(self.root.iterdir())


@pytest.fixture
def user(model_path, tmp_path):
    return User(model_path, tmp_path / "caches")


@pytest.fixture
def more_images(dataset, tmp_path):
    return write_images(tmp_path / "more", COUNT + 1)


def decided(choice):
    return choice.engine, choice.targets[0].cache.manifest.precision


# A new request


@pytest.mark.parametrize(
    ("unable", "expected"),
    [
        ([], ("openvino", "bfloat16")),
        (["openvino bfloat16"], ("tensorflow", "bfloat16")),
        (["openvino bfloat16", "tensorflow bfloat16"], ("openvino", "float16")),
        (["bfloat16", "openvino float16"], ("tensorflow", "float16")),
        (["bfloat16", "float16"], ("openvino", "float32")),
        (["bfloat16", "float16", "openvino float32"], ("tensorflow", "float32")),
    ],
)
def test_choose__auto_takes_the_fastest_that_is_able(machine, user, dataset, unable, expected):
    for key, engine in machine.items():
        if any(" ".join(key).endswith(name) for name in unable):
            engine.obstacle = NO_PACKAGE if key[0] == "openvino" else NO_UNIT
    assert decided(user.choose(dataset)) == expected
    assert len(cache_folders(user.root)) == 1


def test_choose__a_gpu_computes_in_float16_by_tensorflow(machine, user, dataset, monkeypatch):
    monkeypatch.setattr(chooser, "gpus", lambda: [(8, 0)])
    assert decided(user.choose(dataset)) == ("tensorflow", "float16")
    machine["tensorflow", "float16"].obstacle = NO_UNIT
    machine["openvino", "float16"].obstacle = NO_UNIT
    assert decided(user.choose(dataset, precision="float32")) == ("tensorflow", "float32")


@pytest.mark.parametrize(
    ("engine", "precision", "complaint"),
    [
        ("auto", "bfloat16", "this machine has no unit for it. Use --precision float32, or auto"),
        (
            "tensorflow",
            "bfloat16",
            "--engine tensorflow --precision bfloat16 cannot be had here: this machine",
        ),
        ("tensorflow", "int8", "--engine tensorflow --precision int8 cannot be had here: only openvino can"),
    ],
)
def test_choose__what_the_machine_lacks_is_named_and_leaves_nothing(
    machine, user, dataset, engine, precision, complaint
):
    for fake in machine.values():
        fake.obstacle = NO_UNIT
    with pytest.raises(OptionError) as error:
        user.choose(dataset, engine, precision)
    assert complaint in str(error.value) and str(error.value).count("no unit") <= 1
    assert user.has_nothing()


@pytest.mark.parametrize(
    "engine, precision", [("openvino", "auto"), ("openvino", "float32"), ("auto", "int8")]
)
def test_choose__a_missing_package_is_named_and_leaves_nothing(machine, user, dataset, engine, precision):
    for key, fake in machine.items():
        fake.obstacle = NO_PACKAGE if key[0] == "openvino" else NO_UNIT
    with pytest.raises(MissingExtraError, match=r"pip install 'fastcls\[swift\]'$"):
        user.choose(dataset, engine, precision)
    assert user.has_nothing()


# Engines on trial


@pytest.mark.parametrize("engine", ["auto", "openvino"])
def test_choose__tensorflow_takes_over_a_trunk_that_cannot_be_converted(
    machine, user, dataset, caplog, engine
):
    machine["openvino", "bfloat16"].conversion = CANNOT_CONVERT
    assert decided(user.choose(dataset, engine)) == ("tensorflow", "bfloat16")
    assert caplog.messages == [f"{CANNOT_CONVERT}. Taken instead: tensorflow in bfloat16"]


def test_choose__int8_has_no_second_engine(machine, user, dataset):
    machine["openvino", "int8"].conversion = CANNOT_CONVERT
    with pytest.raises(OptionError, match=r"precision int8 cannot be had here: It does not know .* Swirl"):
        user.choose(dataset, precision="int8")
    assert user.has_nothing()


@pytest.mark.parametrize("factor", [-1.0, 2.0, np.nan, np.inf])
def test_choose__distrusts_an_engine_that_computes_something_else(machine, user, dataset, caplog, factor):
    for key in (("openvino", "bfloat16"), ("tensorflow", "bfloat16")):
        machine[key].factor = factor
    assert decided(user.choose(dataset)) == ("openvino", "float16")
    assert [message.split(" is too far ")[0] for message in caplog.messages] == [
        "openvino in bfloat16",
        "tensorflow in bfloat16",
    ]
    assert all("Taken instead: openvino in float16" in message for message in caplog.messages)
    assert len(cache_folders(user.root)) == 1


def test_choose__refuses_such_an_engine_when_it_was_asked_for(machine, user, dataset):
    machine["openvino", "bfloat16"].factor = machine["openvino", "float32"].factor = 2.0
    with pytest.raises(OptionError, match=r"median relative error 1 .*Use --precision float32$"):
        user.choose(dataset, "openvino", "bfloat16")
    with pytest.raises(OptionError, match=r"openvino in float32 is too far .*Use --engine tensorflow$"):
        user.choose(dataset, "openvino", "float32")
    assert user.has_nothing()


def test_choose__compares_once_and_notes_the_figures(machine, user, dataset, more_images):
    engine = machine["openvino", "bfloat16"]
    engine.factor = 1.01
    cache, done = user.extract(dataset)
    assert engine.loaded == 2  # to compare, and to extract
    noted = json.loads((cache.folder / "manifest.json").read_text())["fidelity"]["openvino"]
    assert noted == done.fidelity
    assert noted["images"] == COUNT and noted["median_error"] == pytest.approx(0.01, rel=1e-3)
    choice = user.choose(more_images)
    assert engine.loaded == 2 and choice.fidelity(choice.targets[0]).median_error == noted["median_error"]
    user.choose(more_images, "tensorflow")
    assert set(Cache(cache.folder).manifest.fidelity) == {"openvino", "tensorflow"}


def test_choose__images_that_cannot_be_read_are_not_compared(machine, user, tmp_path):
    data = write_images(tmp_path / "broken", 2)
    for sample in data.samples:
        data.locate(sample).write_bytes(b"")
    choice = user.choose(data)
    assert decided(choice) == ("openvino", "bfloat16") and choice.fidelity(choice.targets[0]) is None


# A request that was served before


def test_choose__a_request_keeps_its_precision(machine, user, dataset, more_images):
    machine["openvino", "bfloat16"].obstacle = machine["tensorflow", "bfloat16"].obstacle = NO_UNIT
    cache, _ = user.extract(dataset)
    assert cache.manifest.precision == "float16"
    machine["openvino", "bfloat16"].obstacle = None
    same, done = user.extract(more_images)
    assert (same.folder, done.engine, done.forwarded) == (cache.folder, "openvino", 1)


def test_choose__what_is_complete_is_used_whatever_the_machine(machine, user, dataset):
    cache, _ = user.extract(dataset, "bfloat16")
    for engine in machine.values():
        engine.obstacle = NO_UNIT
    choice = user.choose(dataset, precision="bfloat16")
    assert (choice.targets[0].cache.folder, choice.engine, choice.filled) == (cache.folder, "", [])


def test_choose__what_the_machine_cannot_continue_begins_anew_in_one_other_cache(
    machine, user, dataset, more_images
):
    first, _ = user.extract(dataset)
    for engine in machine.values():
        engine.obstacle = NO_UNIT
    second, done = user.extract(more_images)
    assert (second.manifest.precision, done.forwarded) == ("float32", COUNT + 1)
    for engine in machine.values():
        engine.obstacle = None
    (more,), (known,) = user.choose(more_images).targets, user.choose(dataset).targets
    assert more.cache.folder == known.cache.folder == second.folder != first.folder


def test_choose__a_lost_calibration_is_not_replaced_under_the_rows_it_made(
    machine, user, dataset, more_images
):
    engine = machine["openvino", "int8"]
    cache, _ = user.extract(dataset, "int8")
    user.choose(more_images, precision="int8")
    assert engine.calibrations == 1
    engine.place(cache.trunk_path).unlink()
    with pytest.raises(CacheError, match=f"{cache.folder / 'calibration'} is gone.* put it back, or remove"):
        user.choose(more_images, precision="int8")
    for path in cache.shards_folder.iterdir():
        path.unlink()
    assert decided(user.choose(more_images, precision="int8")) == ("openvino", "int8")


# Dividing the machine


@pytest.fixture
def crew(tmp_path, monkeypatch):
    """`divide` for a made up machine."""
    trunk = tmp_path / "trunk.keras"
    trunk.write_bytes(bytes(1 << 20))

    def run(missing, *, cores=8, gib=64.0, gpus=0, engine="openvino", **config):
        monkeypatch.setattr(chooser, "cores", lambda: cores)
        monkeypatch.setattr(chooser, "available_memory", lambda: int(gib * 2**30))
        monkeypatch.setattr(chooser, "gpus", lambda: [(8, 0)] * gpus)
        choice = Choice((), SimpleNamespace(rows=missing), SimpleNamespace(path=trunk), engine)
        made = divide(ExtractConfig(**config), choice)
        return made.workers, made.threads, made.batch_size, made.gpus

    return run


def test_divide__cores(crew):
    assert crew(10_000) == (8, 1, 8, 0)
    assert crew(10_000, cores=1) == (1, 1, 8, 0)


def test_divide__no_more_workers_than_the_memory_holds(crew):
    assert crew(10_000, gib=1) == (3, 2, 8, 0)
    assert crew(10_000, gib=1, engine="tensorflow") == (1, 8, 8, 0)
    assert crew(10_000, gib=0.1) == (1, 8, 8, 0)


def test_divide__few_images_do_not_wait_for_many_workers(crew):
    assert crew(1) == (1, 8, 8, 0)
    assert crew(65) == (2, 4, 8, 0)
    assert crew(300, batch_size=200) == (2, 4, 200, 0)


def test_divide__a_worker_per_gpu_but_only_for_tensorflow(crew):
    assert crew(10_000, gpus=2, engine="tensorflow") == (2, 4, 64, 2)
    assert crew(10, gpus=1, engine="tensorflow") == (1, 8, 64, 1)
    assert crew(10_000, gpus=2) == (8, 1, 8, 0)


def test_divide__the_user_decides(crew):
    assert crew(10_000, workers=3, batch_size=5) == (3, 2, 5, 0)
    assert crew(10_000, workers=20) == (20, 1, 8, 0)
    assert crew(10_000, workers=0) == (0, 8, 8, 0)
    assert crew(10_000, workers=4, batch_size=5, gpus=2, engine="tensorflow") == (4, 2, 5, 2)


@pytest.mark.parametrize(
    ("crew", "text"),
    [
        (Crew(1, 1, 8, 0), "1 worker x 1 thread, batches of 8"),
        (Crew(2, 4, 64, 2), "2 workers x 4 threads on 2 GPUs, batches of 64"),
        (Crew(0, 2, 8, 0), "this process x 2 threads, batches of 8"),
    ],
)
def test_crew__in_words(crew, text):
    assert str(crew) == text

"""Which engine and precision a machine gets; the machines are made up."""

import json
import shutil
import sys

import numpy as np
import pytest
from extraction_support import save_model, write_images

from fastcls import engines, home
from fastcls.cache.lease import Leases
from fastcls.cache.store import Cache, cache_folders
from fastcls.engines.trunk import Trunk
from fastcls.errors import CacheError, ConversionError, MissingExtraError, OptionError
from fastcls.extraction import engine_choice, reading
from fastcls.extraction.coverage import ViewedDataset
from fastcls.extraction.extractor import choose, extract
from fastcls.extraction.planner import make_plan
from fastcls.specs import ENGINES, BaseSpec, CutSpec, ExtractConfig, ViewSpec

COUNT = 6
INLINE = ExtractConfig(executor="inline", batch_size=2)
CANNOT_CONVERT = ConversionError("It does not know the operation Swirl")
NO_UNIT = OptionError("this machine has no unit for it")
NO_PACKAGE = MissingExtraError("It needs the package 'swift'. Install it with: pip install swift")


class Engine(engines.Engine):
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
def machine(monkeypatch, tmp_path):
    """{(engine, precision): its class}, all able; the reference is the real one."""
    monkeypatch.setenv(home.VARIABLE, str(tmp_path / "home"))
    made = {}
    for name, classes in ENGINES.items():
        for precision, path in classes.items():
            if engines.engine_class(path).is_reference:
                continue
            kind = CalibratedEngine if precision == "int8" else Engine
            label = f"{name}_{precision}"
            made[name, precision] = type(label, (kind,), {"converts": name == "openvino"})
            monkeypatch.setattr(sys.modules[__name__], label, made[name, precision], raising=False)
            monkeypatch.setitem(classes, precision, f"{__name__}:{label}")
    return made


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.keras"
    save_model(path)
    return path


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "_SETTLED_NS", 0)  # the state of young files is relied on
        yield write_images(tmp_path_factory.mktemp("data"), COUNT)


class User:
    """Asks for bottlenecks of one base."""

    def __init__(self, model_path, root):
        self._model_path, self.root = model_path, root

    def _spec(self, precision):
        return CutSpec(BaseSpec(str(self._model_path), size=(8, 8)), layer="second", precision=precision)

    def choose(self, dataset, engine="auto", precision="auto"):
        viewed, config = ViewedDataset(dataset, ViewSpec()), ExtractConfig(engine)
        with Leases() as leases:
            return choose(make_plan(viewed, [self._spec(precision)], self.root, config, leases), leases)

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
    filling, chosen = choice
    assert chosen.precision == filling.targets[0].cache.manifest.precision
    return chosen.engine, chosen.precision


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
    monkeypatch.setattr(engine_choice, "gpus", lambda: [(8, 0)])
    machine["tensorflow", "bfloat16"].uses_gpu = machine["tensorflow", "float16"].uses_gpu = True
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
            "--engine tensorflow --precision bfloat16 is not available on this machine: this machine",
        ),
        (
            "tensorflow",
            "int8",
            "--precision int8 is not available on this machine: only openvino can",
        ),
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
    with pytest.raises(MissingExtraError, match=r"pip install swift$"):
        user.choose(dataset, engine, precision)
    assert user.has_nothing()


# Engines on trial


@pytest.mark.parametrize("engine", ["auto", "openvino"])
def test_choose__tensorflow_takes_over_a_trunk_that_cannot_be_converted(
    machine, user, dataset, caplog, engine
):
    machine["openvino", "bfloat16"].conversion = CANNOT_CONVERT
    assert decided(user.choose(dataset, engine)) == ("tensorflow", "bfloat16")
    assert caplog.messages == [f"{CANNOT_CONVERT}. Using tensorflow in bfloat16 instead"]


def test_choose__int8_has_no_second_engine(machine, user, dataset):
    machine["openvino", "int8"].conversion = CANNOT_CONVERT
    with pytest.raises(OptionError, match=r"int8 is not available .*: It does not know .* Swirl"):
        user.choose(dataset, precision="int8")
    assert user.has_nothing()


@pytest.mark.parametrize("factor", [-1.0, 2.0, np.nan, np.inf])
def test_choose__distrusts_an_engine_that_computes_something_else(machine, user, dataset, caplog, factor):
    """And any other in the same precision, which rounds alike."""
    machine["openvino", "bfloat16"].factor = factor
    assert decided(user.choose(dataset)) == ("openvino", "float16")
    assert [message.split(" is too far ")[0] for message in caplog.messages] == ["openvino in bfloat16"]
    assert machine["tensorflow", "bfloat16"].loaded == 0
    remedies = {message.split(" smallest cosine of ")[1] for message in caplog.messages}
    assert remedies == {"0.85. Using openvino in float16 instead"}
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
    (target,) = user.choose(more_images)[0].targets
    assert engine.loaded == 2 and target.cache.manifest.fidelity["openvino"] == noted
    user.choose(more_images, "tensorflow")
    assert set(Cache(cache.folder).manifest.fidelity) == {"openvino", "tensorflow"}


def test_choose__images_that_cannot_be_read_are_not_compared(machine, user, tmp_path):
    data = write_images(tmp_path / "broken", 2)
    for sample in data.samples:
        data.locate(sample).write_bytes(b"")
    choice = user.choose(data)
    assert decided(choice) == ("openvino", "bfloat16")
    assert choice[0].targets[0].cache.manifest.fidelity == {}


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
    filling, chosen = user.choose(dataset, precision="bfloat16")
    assert (filling.targets[0].cache.folder, chosen, filling.filled) == (cache.folder, None, [])


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
    (more,), (known,) = user.choose(more_images)[0].targets, user.choose(dataset)[0].targets
    assert more.cache.folder == known.cache.folder == second.folder != first.folder


def test_choose__a_lost_calibration_is_not_replaced_under_the_rows_it_made(
    machine, user, dataset, more_images
):
    engine = machine["openvino", "int8"]
    cache, _ = user.extract(dataset, "int8")
    user.choose(more_images, precision="int8")
    assert engine.calibrations == 1
    engine.place(cache.trunk_path).unlink()
    with pytest.raises(CacheError, match=f"{cache.folder / 'calibration'} is gone.* restore it, or remove"):
        user.choose(more_images, precision="int8")
    for path in cache.shards_folder.iterdir():
        path.unlink()
    assert decided(user.choose(more_images, precision="int8")) == ("openvino", "int8")


# Layers that stay in float32


def in_float32(*layers):
    return classmethod(lambda cls, trunk: layers)


def test_choose__layers_in_float32_are_part_of_the_cache(machine, user, dataset):
    machine["openvino", "bfloat16"].float32_layers = in_float32("first")
    mixed, _ = user.extract(dataset)
    assert mixed.manifest.float32_layers == ("first",)
    plain = user.choose(dataset, "tensorflow", "bfloat16")[0].targets[0].cache
    assert plain.manifest.float32_layers == ()
    assert plain.folder != mixed.folder


def test_choose__the_layers_of_a_cache_that_is_there_count(machine, user, dataset, more_images):
    class Loads(machine["openvino", "bfloat16"]):
        """Has a file, beside the trunk, of its layers."""

        @classmethod
        def place(cls, trunk):
            return trunk.parent / "loads" / "layers"

        @classmethod
        def damage(cls, trunk):
            return "" if cls.place(trunk).exists() else "it is missing"

        @classmethod
        def prepare(cls, trunk, read_images):
            if cls.damage(trunk.path):
                cls.place(trunk.path).parent.mkdir()
                cls.place(trunk.path).write_text(cls.chosen)

        @classmethod
        def float32_layers(cls, trunk):
            return tuple(cls.place(trunk).read_text().split())

    sys.modules[__name__].openvino_bfloat16 = Loads
    Loads.chosen = "first"
    before, _ = user.extract(dataset)
    shutil.rmtree(home.folder())
    Loads.chosen = "second"
    after, done = user.extract(more_images)
    assert (after.folder, after.manifest.float32_layers) == (before.folder, ("first",))
    assert (done.forwarded, done.reused) == (1, COUNT)

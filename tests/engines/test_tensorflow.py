import os

import numpy as np
import pytest
from engines_support import keras_rows, save_trunk, some_images

from fastcls.backend import import_keras
from fastcls.cache import checked_files
from fastcls.engines import tensorflow as engines
from fastcls.engines.tensorflow import Bfloat16Engine, Float16Engine, TensorFlowEngine
from fastcls.engines.trunk import Trunk
from fastcls.errors import CacheError, OptionError
from fastcls.extraction.fidelity import compare


@pytest.fixture(scope="module")
def trunk_path(tmp_path_factory):
    return save_trunk(tmp_path_factory.mktemp("trunk"))


def test_engine__refuses_what_is_no_model(tmp_path):
    path = tmp_path / "trunk.keras"
    checked_files.keep(path, lambda place: place.write_bytes(os.urandom(100)), of="")
    with pytest.raises(CacheError, match="cannot be loaded"):
        TensorFlowEngine(tmp_path / "trunk.keras")


def test_trunk__is_the_reference_from_its_file_and_from_memory(trunk_path, tmp_path):
    model = import_keras().saving.load_model(trunk_path, compile=False)
    for trunk in (Trunk(trunk_path), Trunk(tmp_path / "never written", model)):
        assert np.allclose(trunk.run(some_images(3)), keras_rows(trunk_path, some_images(3)), atol=1e-6)


@pytest.fixture
def bfloat16(trunk_path):
    try:
        Bfloat16Engine.require()
    except OptionError as error:
        pytest.skip(str(error))
    return Bfloat16Engine(trunk_path)


def test_bfloat16__is_near_float32_and_not_the_same(bfloat16, trunk_path):
    found = compare(bfloat16.run(some_images(6)), keras_rows(trunk_path, some_images(6)))
    assert 1e-5 < found.median_error < 0.05 and found.smallest_cosine > 0.99


def test_bfloat16__stays_within_its_engine(bfloat16, trunk_path):
    import tensorflow as tf

    assert not any(tf.config.optimizer.get_experimental_options().values())
    later = TensorFlowEngine(trunk_path).run(some_images(6))
    assert np.allclose(later, keras_rows(trunk_path, some_images(6)), atol=1e-6)
    assert not np.allclose(bfloat16.run(some_images(6)), later, atol=1e-6)


def test_graph_option__what_was_on_before_stays_on():
    import_keras()
    import tensorflow as tf

    name = "auto_mixed_precision"
    for before in (True, False):
        tf.config.optimizer.set_experimental_options({name: before})
        with pytest.raises(ZeroDivisionError), engines._graph_option(name):
            assert tf.config.optimizer.get_experimental_options()[name] is True
            raise ZeroDivisionError
        assert tf.config.optimizer.get_experimental_options()[name] is before


@pytest.mark.parametrize("flag", ["avx512_bf16", "amx_bf16", "bf16"])
def test_bfloat16__needs_a_cpu_that_has_it(monkeypatch, flag):
    monkeypatch.setattr(engines, "cpu_flags", lambda: {"sse2", "avx512f"})
    with pytest.raises(OptionError, match="this CPU has no native bfloat16 support"):
        Bfloat16Engine.require()
    monkeypatch.setattr(engines, "cpu_flags", lambda: {"sse2", flag})
    Bfloat16Engine.require()


@pytest.mark.parametrize("gpus, is_able", [([], False), ([(6, 1)], False), ([(6, 1), (7, 0)], True)])
def test_float16__needs_a_gpu_that_has_it(monkeypatch, gpus, is_able):
    monkeypatch.setattr(engines, "gpus", lambda: gpus)
    if is_able:
        return Float16Engine.require()
    with pytest.raises(OptionError, match=r"no GPU of compute capability 7\.0"):
        Float16Engine.require()

"""What every engine of the table must do, in each of its precisions."""

import sys
from dataclasses import asdict

import numpy as np
import pytest
from engines_support import keras_rows, no_images, save_trunk, some_images

from fastcls.engines import engine_class, tensorflow
from fastcls.engines.trunk import Trunk
from fastcls.errors import MissingExtraError, OptionError
from fastcls.extraction.fidelity import compare
from fastcls.specs import ENGINES

KINDS = {f"{name} {precision}": path for name, kinds in ENGINES.items() for precision, path in kinds.items()}


@pytest.fixture(params=KINDS)
def kind(request):
    """{engine} {precision} of an entry."""
    return request.param


@pytest.fixture
def engine(kind):
    """Its class."""
    return engine_class(KINDS[kind])


@pytest.fixture(scope="module")
def trunks(tmp_path_factory):
    """A trunk for each entry, as each cache has its own."""
    return {kind: save_trunk(tmp_path_factory.mktemp("trunk")) for kind in KINDS}


@pytest.fixture
def loaded(engine, kind, trunks):
    """Loads the engine with its trunk, where this machine can run it."""
    try:
        engine.require()
    except (OptionError, MissingExtraError) as error:
        pytest.skip(str(error))
    read = (lambda: some_images(32)) if engine.is_calibrated else no_images
    engine.prepare(Trunk(trunks[kind]), read)
    return lambda threads=1: engine(trunks[kind], threads)


class TestEngine:
    """The contract."""

    def test_rows_are_near_those_of_keras_within_the_bound_of_the_precision(self, loaded, kind, trunks):
        batch = some_images(40)
        rows = loaded().run(batch)
        assert rows.dtype == np.float32 and rows.shape == (40, 16)
        compare(rows, keras_rows(trunks[kind], batch)).require(*kind.split())
        assert np.array_equal(batch, some_images(40))  # untouched

    def test_any_batch_size_gives_the_same_rows(self, loaded, kind):
        engine, batch = loaded(), some_images(9)
        whole = engine.run(batch).copy()
        for size in (1, 2, 7):
            rows = [engine.run(batch[start : start + size]).copy() for start in range(0, 9, size)]
            found = compare(np.concatenate(rows), whole)
            assert found.largest_error < (1e-5 if kind.endswith("float32") else 1e-2), (size, asdict(found))

    def test_several_threads_give_the_same_rows_in_the_same_order(self, loaded, kind):
        engine, batch = loaded(3), some_images(10)
        for size in (10, 3, 2, 1, 10):
            found = compare(engine.run(batch[:size]).copy(), loaded().run(batch[:size]))
            assert found.largest_error < (1e-5 if kind.endswith("float32") else 1e-2), (size, asdict(found))

    def test_rows_are_the_same_bits_every_time(self, loaded):
        batch, engine = some_images(6), loaded()
        rows = engine.run(batch).copy()
        engine.run(batch[::-1].copy())
        assert np.array_equal(engine.run(batch), rows)
        assert np.array_equal(loaded().run(batch), rows)

    def test_a_row_does_not_depend_on_its_place_or_neighbors(self, loaded):
        engine, batch = loaded(), some_images(6)
        rows, order = engine.run(batch).copy(), [3, 1, 5, 0, 4, 2]
        assert np.array_equal(engine.run(batch[order]), rows[order])
        changed = batch.copy()
        changed[1:] = 0
        assert np.array_equal(engine.run(changed)[0], rows[0])

    def test_what_was_prepared_is_not_prepared_again(self, loaded, engine, kind, trunks):
        folder = trunks[kind].parent
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
        engine.prepare(Trunk(trunks[kind]), no_images)
        assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
        assert engine.damage(trunks[kind]) == ""

    def test_it_says_what_it_is(self, engine, tmp_path):
        flags = engine.uses_gpu, engine.converts, engine.is_calibrated, engine.is_reference
        assert {type(flag) for flag in flags} == {bool}
        assert 100 << 20 < engine.memory(10 << 20) < engine.memory(100 << 20) < 1 << 34
        assert bool(engine.damage(tmp_path / "trunk.keras")) == engine.converts  # nothing is prepared there

    def test_a_bare_machine_is_refused_in_one_line_but_by_the_reference(self, engine, monkeypatch):
        monkeypatch.setitem(sys.modules, "openvino", None)
        monkeypatch.setattr(tensorflow, "cpu_flags", set)
        monkeypatch.setattr(tensorflow, "gpus", list)
        if engine.is_reference:
            engine.require()
            return
        with pytest.raises((OptionError, MissingExtraError)) as error:
            engine.require()
        assert len(str(error.value)) > 20 and "\n" not in str(error.value)


def test_one_engine_is_the_reference():
    assert [kind for kind, path in KINDS.items() if engine_class(path).is_reference] == ["tensorflow float32"]

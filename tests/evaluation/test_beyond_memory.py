"""What keeps all rows in memory refuses a cache that does not fit, before it reads one."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from cache_support import write_cache

from fastcls.cache.index import Rows
from fastcls.errors import OptionError
from fastcls.evaluation.auditing import audit
from fastcls.evaluation.cross_validation import cross_validate
from fastcls.evaluation.features import features_of_run
from fastcls.evaluation.from_cache import CachedRun
from fastcls.evaluation.learning_curve import learning_curve
from fastcls.training.rows import cached as feeder
from fastcls.used_images import UsedImages

RUN = SimpleNamespace(used=UsedImages())
COMMANDS = {
    "audit": audit,
    "curve": learning_curve,
    "suggest": lambda cache: features_of_run(RUN),
    "folds of logreg": lambda cache: cross_validate(cache, "logreg", folds=3),
    "folds of prototype": lambda cache: cross_validate(cache, "prototype", folds=3),
}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """30 rows of 16 features, 1,920 bytes: 27 to train on and to validate on."""
    rows = np.random.default_rng(0).normal(size=(30, 16))
    cache = write_cache(tmp_path, rows, [("a",), ("b",)] * 15)
    monkeypatch.setattr("fastcls.evaluation.features.require_cache", lambda *_: CachedRun(RUN, cache))
    return cache


@pytest.mark.parametrize("name", COMMANDS)
def test_command__refuses_rows_that_do_not_fit(cache, monkeypatch, name):
    needed = 4 * 16 * (2 * 27 if "folds" in name else 30)

    def must_not_read(*_):
        raise AssertionError("rows were read")

    with monkeypatch.context() as small:
        small.setattr(feeder, "allowed_memory", lambda: needed // 2 - 1)
        small.setattr(Rows, "read", must_not_read)
        with pytest.raises(OptionError, match=r"keeps all bottlenecks in memory.* 16 features") as refused:
            COMMANDS[name](cache)
    assert ("--head linear" in str(refused.value)) == ("folds" in name)
    monkeypatch.setattr(feeder, "allowed_memory", lambda: needed // 2)
    COMMANDS[name](cache)

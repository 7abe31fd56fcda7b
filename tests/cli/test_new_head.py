"""A kind of head that is one entry of the table, as a user meets it."""

import numpy as np
import pytest

from fastcls.backend import import_keras
from fastcls.inference.classifier import Classifier
from fastcls.pipeline import load_head
from fastcls.specs import HEADS, HeadKind, HeadSpec, Step
from fastcls.training.heads.fitting import FittedHead
from fastcls.training.heads.network import build_head


def fit_dummy(spec, train, val, classes, *, progress=False):
    """A softmax layer with weights of chance, of two candidates."""
    import_keras().utils.set_random_seed(0)
    head = build_head(HeadSpec(), train.rows.take(np.arange(1)).read().shape[1:], classes)
    rows = [{"charm": charm, "val_loss": 1.5, "val_accuracy": 0.25, "seconds": 0.5} for charm in (1, 10)]
    return FittedHead(head, rows, rows[1])


@pytest.fixture
def dummy(monkeypatch):
    kind = HeadKind("a dummy", fit=f"{__name__}:fit_dummy", step=Step("charm", "charm", "charms"))
    monkeypatch.setitem(HEADS, "dummy", kind)


def test_a_new_head__is_trained_printed_drawn_and_used(fastcls, trained, photos, dummy, tmp_path):
    run = tmp_path / "run"
    made = fastcls("train-head", trained.cache.folder, "--out", run, "--head", "dummy")
    assert made.code == 0, made.err
    assert "; 2 charms in 1.0 s\nKept charm 10: val_loss 1.5000, val_accuracy 0.2500" in made.out
    assert (run / "history.csv").read_text().startswith("charm,val_loss")
    assert (run / "curves.png").stat().st_size > 0 and not (run / "tensorboard").exists()
    assert load_head(run).spec == HeadSpec("dummy")
    assert len(list(Classifier.load(run).predict([photos / "red" / "0.png"]))) == 1
    again = fastcls("train-head", trained.cache.folder, "--out", tmp_path / "two", "--config", run)
    assert again.code == 0 and "Kept charm 10" in again.out, again.err


def test_help__says_what_each_kind_of_head_is(fastcls):
    shown = " ".join(fastcls("train-head", "--help").out.split())
    assert all(f"{name}: {kind.help}" in shown for name, kind in HEADS.items())
    assert f"{'|'.join(HEADS)}|FILE.py:FUNCTION" in shown


def test_a_new_head__refuses_what_has_no_effect(fastcls, trained, dummy, tmp_path):
    asked = ("train-head", trained.cache.folder, "--out", tmp_path / "run", "--head", "dummy")
    refused = fastcls(*asked, "--epochs", 50, "--layers", 8)
    assert refused.code == 2
    assert "--layers, --epochs have no effect with --head dummy. Remove them." in refused.err
    further = fastcls(*asked, "--from", trained.run)
    assert further.code == 2 and "--from has no effect with --head dummy" in further.err
    assert not (tmp_path / "run").exists()

"""What is seen of a training while it runs."""

from __future__ import annotations

import re

import pytest

from fastcls.specs import HeadSpec, TrainConfig
from fastcls.training.head_trainer import train_head
from fastcls.training.loop.progress import Progress
from fastcls.wording import figures_of

LOG = "fastcls.training.loop.progress"


@pytest.mark.parametrize(
    ("epochs", "run", "told"), [(3, 3, [1, 2, 3]), (1, 1, [1]), (50, 12, [1, 5, 10, 12])]
)
def test_log__has_some_epochs_and_the_last(caplog, epochs, run, told):
    caplog.set_level("INFO", LOG)
    with Progress(epochs, 0, shown=False) as progress:
        for epoch in range(1, run + 1):
            progress.add({"epoch": epoch, "loss": 1 / epoch})
    assert [record.getMessage() for record in caplog.records] == [
        f"Epoch {epoch} of at most {epochs}: loss {1 / epoch:.4f}" for epoch in told
    ]


def test_log__has_an_epoch_that_took_long(caplog, monkeypatch):
    caplog.set_level("INFO", LOG)
    clock = iter(range(0, 10_000, 31))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    with Progress(500, 0, shown=False) as progress:
        for epoch in range(1, 5):
            progress.add({"epoch": epoch, "loss": 1.0})
    assert len(caplog.records) == 4


def test_train_head__shows_loss_and_validation_figure(make_cache, capsys, caplog):
    caplog.set_level("INFO", LOG)
    trained = train_head(make_cache()[0], HeadSpec("linear"), TrainConfig(epochs=3), progress=True)
    last = trained.history[-1]
    bar = re.findall(r"[^\r\n]+", capsys.readouterr().err)[-1]
    assert "3/3 epochs" in bar
    assert f"loss {last['loss']:.3f}, val_accuracy {last['val_accuracy']:.3f}]" in bar
    assert caplog.messages[-1] == f"Epoch 3 of at most 3: {figures_of(last)}"
    train_head(make_cache()[0], "logreg", progress=True)
    assert any(message.startswith("C 1e-05: loss ") for message in caplog.messages)
    assert "/17 values of C [" in capsys.readouterr().err
    assert "val_loss" in caplog.messages[-1] and "val_accuracy" in caplog.messages[-1]

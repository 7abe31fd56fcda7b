"""Trials of engines: what works here, what does not and why, and engines that take the process with them."""

import pytest

from fastcls import processes
from fastcls.engines import trials
from fastcls.engines.tensorflow import TensorFlowEngine
from fastcls.engines.trials import Trial, every_pair, try_engines


@pytest.fixture
def before_trials(monkeypatch):
    """Runs some code in the process of the trials before they begin."""

    def run(code):
        main = f"import os, signal, sys, {{0}} as trials\n{code}\ntrials.main()"
        monkeypatch.setattr(processes, "_MAIN", main)

    return run


def test_try_engines__float32_of_tensorflow_works_everywhere():
    tried, gpus = try_engines()
    assert [(trial.engine, trial.precision) for trial in tried] == every_pair()
    assert Trial("tensorflow", "float32") in tried
    assert all(len(trial.obstacle.splitlines()) <= 1 for trial in tried)
    assert isinstance(gpus, list)


def test_try_engines__one_that_crashes_is_named_and_the_others_are_tried(before_trials):
    before_trials(
        "def forward(engine, precision, trunk):\n"
        "    if (engine, precision) == ('tensorflow', 'float32'):\n"
        "        os.kill(os.getpid(), signal.SIGILL)\n"
        "    raise ValueError('two\\nlines')\n"
        "trials._forward, trials.import_keras = forward, lambda: None\n"
        "trials._gpus, trials._make_trunk = list, lambda path: None"
    )
    tried, _ = try_engines()
    assert [(trial.engine, trial.precision) for trial in tried] == every_pair()
    obstacles = {(trial.engine, trial.precision): trial.obstacle for trial in tried}
    crashed = obstacles.pop(("tensorflow", "float32"))
    assert crashed == "the process that tried it was killed by SIGILL"
    assert set(obstacles.values()) == {"two lines"}


def test_try_engines__wrong_rows_are_no_success(tmp_path, monkeypatch):
    run = TensorFlowEngine.run
    monkeypatch.setattr(TensorFlowEngine, "run", lambda self, images: 2 * run(self, images))
    _, obstacle = trials._answers([("tensorflow", "float32")], tmp_path)
    assert obstacle == "its output is off by 100% of the largest value"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("sys.modules['keras'] = None", "Keras on TensorFlow cannot be imported"),
        ("os._exit(3)", "the process that tried it ended with exit code 3"),
    ],
)
def test_try_engines__without_tensorflow_nothing_works(before_trials, code, reason):
    before_trials(code)
    tried, gpus = try_engines()
    assert [(trial.engine, trial.precision) for trial in tried] == every_pair()
    assert all(trial.obstacle.startswith(reason) for trial in tried) and gpus == []

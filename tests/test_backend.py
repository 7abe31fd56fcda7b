import os
import random
import subprocess
import sys

import pytest

from fastcls.backend import import_keras, reproducible_build
from fastcls.errors import OptionError


def run(code, **environment):
    """A fresh process: only there is Keras not imported yet."""
    script = f"from fastcls.backend import import_keras\n{code}"
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "KERAS"))}
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={**variables, **environment}
    )


def test_import_keras__starts_silently_and_gives_stderr_back():
    code = "import sys\nimport_keras(threads=1)\nprint('mine', file=sys.stderr)\nimport tensorflow as tf"
    result = run(f"{code}\nprint(tf.config.threading.get_intra_op_parallelism_threads())")
    assert (result.returncode, result.stderr, result.stdout) == (0, "mine\n", "1\n")


def test_import_keras__a_failed_import_shows_its_reason_and_what_was_printed():
    code = """
import os, sys
class Broken:
    def find_spec(self, name, *_):
        if name == "tensorflow":
            os.write(2, b"the loader's own words\\n")
            raise ImportError("libsomething.so.1 is missing")
sys.meta_path.insert(0, Broken())
import_keras()
"""
    result = run(code)
    assert result.returncode == 1
    assert "the loader's own words" in result.stderr
    assert "MissingExtraError: Keras on TensorFlow cannot be imported: libsomething.so.1" in result.stderr


def test_import_keras__refuses_other_settings(monkeypatch):
    keras = import_keras()
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(OptionError, match=r"runs Keras with the backend 'tensorflow'. Received: 'jax'"):
        import_keras()
    monkeypatch.undo()
    monkeypatch.setattr(keras.config, "image_data_format", lambda: "channels_first")
    with pytest.raises(OptionError, match="Received: 'channels_first'"):
        import_keras()


def test_reproducible_build__leaves_no_trace():
    keras = import_keras()

    def build():
        with reproducible_build():
            layer = keras.layers.Dense(3)
            layer.build((None, 2))
            return layer.name, layer.kernel.numpy().tolist()

    random.seed(1)
    names = [keras.layers.Dense(1).name for _ in range(2)]
    state = random.getstate()
    assert build() == build() == ("dense", build()[1])
    assert random.getstate() == state
    assert keras.layers.Dense(1).name not in names


AHEAD = """
import os, sys
from fastcls.backend import import_ahead, wait_for_ahead
sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
import_ahead(lambda: print("then", "keras" in sys.modules))
print("others are heard", file=sys.stderr)
wait_for_ahead()
import_keras()
"""


def test_import_ahead__happens_in_a_thread_while_others_print():
    result = run(AHEAD)
    assert (result.returncode, result.stderr, result.stdout) == (0, "others are heard\n", "then True\n")


def test_import_ahead__its_failure_is_raised_where_keras_is_needed():
    broken = """
import sys
class Broken:
    def find_spec(self, name, *_):
        if name == "tensorflow":
            raise ImportError("libsomething.so.1 is missing")
sys.meta_path.insert(0, Broken())
"""
    result = run(broken + AHEAD)
    assert (result.returncode, result.stdout) == (1, "then False\n")
    assert "MissingExtraError: Keras on TensorFlow cannot be imported: libsomething.so.1" in result.stderr


def test_import_ahead__waits_where_what_is_printed_could_be_lost():
    result = run(
        "import sys\nfrom fastcls.backend import import_ahead\n"
        "import_ahead(lambda: None)\nprint('keras' in sys.modules)"
    )
    assert (result.returncode, result.stdout) == (0, "False\n")

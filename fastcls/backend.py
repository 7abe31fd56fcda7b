"""The one door to Keras: imports it without TensorFlow's start-up chatter and checks its settings."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Any

from fastcls import interrupts
from fastcls.errors import MissingExtraError, OptionError

_STDERR = 2  # the descriptor that code in C++ prints to
# Keras imports them where they are installed, for plots, wrappers and data frames: a third of its import.
_NEEDLESS = ("matplotlib", "pandas", "sklearn")
_ahead: list[Future[Any]] = []  # of Keras
_following: list[Future[Any]] = []
_spared: list[str] = []


def import_keras(threads: int = 0) -> ModuleType:
    """Import Keras on TensorFlow.

    Set TF_CPP_MIN_LOG_LEVEL (to 0, say) to see what TensorFlow prints while it starts, such as why it
    finds no GPU.

    Args:
        threads: How many threads one operation may use, 0 for TensorFlow's choice; it has an effect
            only where TensorFlow has not been imported before.

    Raises:
        MissingExtraError: Keras or TensorFlow cannot be imported.
        OptionError: Keras is configured for another backend or another order of dimensions.
    """
    if _ahead:
        _ahead[0].result()
    return _import(threads)


def import_tensorflow() -> ModuleType:
    """Import TensorFlow alone, without Keras, which it imports by itself where it is installed.

    Raises:
        MissingExtraError: TensorFlow cannot be imported.
    """
    if _ahead:
        _ahead[0].result()
    try:
        if not {"keras", "tensorflow"} & sys.modules.keys():
            _start(0, alone=True)
        import tensorflow
    except ImportError as error:
        raise MissingExtraError(
            f"TensorFlow cannot be imported: {error}. Install it with: pip install tensorflow"
        ) from error
    return tensorflow


def spare_imports() -> None:
    """From now on, import Keras without the packages that it only uses in functions that no command calls.

    Only for processes of fastcls alone: `keras.visualization` and `keras.wrappers` cannot be used in them.
    """
    _spared[:] = _NEEDLESS


def import_ahead(then: Callable[[], None]) -> None:
    """Begin to import Keras in a thread, for the `import_keras` that follows, which raises what that raises.

    The main thread should import nothing of its own until `wait_for_ahead`: modules that import each other
    may be seen half made by two threads.

    Args:
        then: What the thread does after that. If it fails, nothing is said.
    """
    is_there = bool({"keras", "tensorflow"} & sys.modules.keys())
    if _ahead or not (is_there or _can_print_aside()):
        return
    pool = ThreadPoolExecutor(1)
    if not is_there:
        _ahead.append(pool.submit(_import))
    _following.append(pool.submit(then))
    pool.shutdown(wait=False)


def wait_for_ahead() -> None:
    """Wait until all that was begun in the thread is done, or has failed."""
    wait([*_ahead, *_following])
    _following.clear()


def _import(threads: int = 0) -> ModuleType:
    try:
        if not {"keras", "tensorflow"} & sys.modules.keys():
            _start(threads)
        import keras
    except ImportError as error:
        raise MissingExtraError(
            f"Keras on TensorFlow cannot be imported: {error}. Install tensorflow and keras, "
            "and unset KERAS_BACKEND if it names another backend"
        ) from error
    _check("the backend", keras.config.backend(), "tensorflow")
    _check("the image data format", keras.config.image_data_format(), "channels_last")
    return keras


@contextlib.contextmanager
def reproducible_build() -> Iterator[None]:
    """Models built inside get the same layer names and random weights each time.

    Keras numbers unnamed layers over the life of the process, and draws the seeds of initializers from
    Python's random numbers. Both go on outside as if nothing had been built.
    """
    from keras.src.backend.common import global_state

    numbering = global_state.get_global_attribute("object_name_uids")
    global_state.set_global_attribute("object_name_uids", None)
    randomness = random.getstate()
    random.seed(0)
    try:
        yield
    finally:
        random.setstate(randomness)
        global_state.set_global_attribute("object_name_uids", numbering)


@contextlib.contextmanager
def computing_in(policy: str, layers: Sequence[Any]) -> Iterator[None]:
    """Layers compute in a dtype policy inside, such as "mixed_float16"; their weights stay as they are.

    It counts for what is traced or saved inside.
    """
    import keras

    before = [layer.dtype_policy for layer in layers]
    for layer in layers:
        layer.dtype_policy = keras.DTypePolicy(policy)
    try:
        yield
    finally:
        for layer, policy_before in zip(layers, before, strict=True):
            layer.dtype_policy = policy_before


def _start(threads: int, *, alone: bool = False) -> None:
    with contextlib.ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():  # the one that gets the signals
            stack.enter_context(interrupts.held())
        if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "3":
            stack.enter_context(stderr_kept_for_errors())
        stack.enter_context(_without(_spared))
        if alone:
            stack.enter_context(_hidden("keras"))
        else:
            import keras  # noqa: F401
        import tensorflow as tf

        if threads:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        for gpu in tf.config.list_physical_devices("GPU"):
            # By default the first process takes all memory of a GPU, and leaves none for the workers.
            tf.config.experimental.set_memory_growth(gpu, True)
        tf.config.list_logical_devices()  # starts them, which prints the last notices
    if _spared:
        gc.freeze()  # half a million objects that stay: no search for garbage looks at them again


@contextlib.contextmanager
def _without(packages: Sequence[str]) -> Iterator[None]:
    """Inside, packages that are not imported yet cannot be found, by this thread."""
    finder = _Missing(packages)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


@contextlib.contextmanager
def _hidden(package: str) -> Iterator[None]:
    """Inside, a package that is not imported yet is taken for one that is not installed, by all threads."""
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]


class _Missing(MetaPathFinder):
    def __init__(self, packages: Sequence[str]) -> None:
        self._packages, self._thread = packages, threading.get_ident()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """None, for others to find the module; raises ModuleNotFoundError for what is missing."""
        if name in self._packages and threading.get_ident() == self._thread:
            raise ModuleNotFoundError(f"{name} is left out here", name=name)


def _can_print_aside() -> bool:
    """Whether others can print while descriptor 2 is kept from TensorFlow."""
    try:
        return sys.stderr.fileno() != _STDERR
    except (OSError, ValueError, AttributeError):  # it is no file
        return True


@contextlib.contextmanager
def stderr_kept_for_errors() -> Iterator[None]:
    """What C++ code prints inside is shown only if an error comes out."""
    # TensorFlow's C++ code writes notices to descriptor 2 before its log level can be set.
    sys.stderr.flush()
    terminal = os.dup(_STDERR)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), _STDERR)
        try:
            yield
        except BaseException:
            kept.seek(0)
            with os.fdopen(os.dup(terminal), "wb") as shown:
                shutil.copyfileobj(kept, shown)
            raise
        finally:
            os.dup2(terminal, _STDERR)
            os.close(terminal)


def _check(what: str, received: str, expected: str) -> None:
    if received != expected:
        raise OptionError(
            f"fastcls runs Keras with {what} {expected!r}. Received: {received!r}. "
            "Unset KERAS_BACKEND, or correct ~/.keras/keras.json"
        )

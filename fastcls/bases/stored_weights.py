"""Published weights of Keras's own networks, if they are on this machine already."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastcls.backend import import_keras


@contextlib.contextmanager
def stored_weights_only() -> Iterator[list[str]]:
    """Keras downloads no weights inside: a network whose weights are not there cannot be built.

    Yields:
        The names of the files that were asked for, and are not there.
    """
    from unittest import mock  # takes long to import

    import_keras()
    from keras.src.backend.config import keras_home  # the place where `keras.utils.get_file` looks
    from keras.src.utils import file_utils  # keras.applications looks its functions up there

    missing: list[str] = []
    get_file = file_utils.get_file

    def find(fname: str, origin: str, cache_subdir: str = "datasets", **options: Any) -> Any:
        path = Path(keras_home()).expanduser() / cache_subdir / fname
        digest = options.get("file_hash") or options.get("md5_hash")
        if not path.is_file() or (digest and not file_utils.validate_file(path, digest)):
            missing.append(fname)
            raise FileNotFoundError(fname)
        return get_file(fname, origin, cache_subdir=cache_subdir, **options)

    with mock.patch.object(file_utils, "get_file", find):
        yield missing

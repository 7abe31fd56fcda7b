"""The process, or processes, that serve."""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import math
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from fastcls import files
from fastcls.errors import OptionError
from fastcls.files import PathLike
from fastcls.inference.classifier import Classifier
from fastcls.serving.application import create_app
from fastcls.serving.counters import Counters
from fastcls.specs.options import as_spec
from fastcls.specs.serving import AddressSpec, ServeSpec

_ASKED = "FASTCLS_SERVE"  # what the processes of several workers are to serve
_STARTUP_FAILURE = 3  # after which uvicorn does not start a worker again
_CONNECTIONS = 512
_GRACE_S = 5
_HEADER_S = 10  # at most
_LOOK_S = 0.1
logger = logging.getLogger(__name__)


class Protocol(H11Protocol):
    """HTTP/1.1 that answers at once, and closes a connection that sends no whole header in time."""

    def connection_made(self, transport: Any) -> None:
        """Start to watch."""
        super().connection_made(transport)
        # asyncio does so only where a socket names its protocol, and those accepted here do not. Without it
        # the body of an answer waits 40 ms until the client acknowledges the header.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._watch()

    def _watch(self, seen: object = None) -> None:
        # A request that is being read or answered has its own time limit.
        is_idle = self.cycle is None or self.cycle.response_complete
        if self.transport.is_closing():
            return
        if is_idle and seen == (True, id(self.cycle)):
            self.transport.close()
            return
        state = is_idle, id(self.cycle)
        self.loop.call_later(self.timeout_keep_alive, self._watch, state)


def serve(
    path: PathLike,
    spec: ServeSpec | Mapping[str, Any] | None = None,
    *,
    on_start: Callable[[Classifier, str], None] = lambda classifier, address: None,
    on_ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve a classifier until the process gets SIGINT or SIGTERM; what is being answered is finished.

    Args:
        path: A run folder, a classifier's file or an export.
        spec: Address, batches and limits, such as `{"address": {"port": 9000}}`.
        on_start: Called with the classifier and the address of the page, before anything is answered.
        on_ready: Called with the address, on another thread, when all processes have loaded the classifier.

    Raises:
        OptionError: There is no such classifier, it cannot be used, or the address is taken.
    """
    path, spec = files.as_path(path, "path"), as_spec(ServeSpec, spec, "spec")
    classifier = Classifier.load(path)
    if spec.address.workers > 1:
        _serve_by_several(classifier, path, spec, on_start, on_ready)
    else:
        _serve_alone(classifier, spec, on_start, on_ready)


def _serve_alone(
    classifier: Classifier,
    spec: ServeSpec,
    on_start: Callable[[Classifier, str], None],
    on_ready: Callable[[str], None],
) -> None:
    failures: list[Exception] = []

    def fail(error: Exception) -> None:
        failures.append(error)
        server.should_exit = True

    counters = Counters()
    app = create_app(classifier, spec, fail, counters)
    server = uvicorn.Server(uvicorn.Config(app, **_options(spec)))
    with _bound(spec.address) as listening:
        address = _address(spec.address, listening.getsockname()[1])
        on_start(classifier, address)
        _watch(lambda: counters.ready() == 1, lambda: on_ready(address))
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises the signal again when all is finished
            server.run(sockets=[listening])
    if failures:
        raise failures[0]


def _serve_by_several(
    classifier: Classifier,
    path: Path,
    spec: ServeSpec,
    on_start: Callable[[Classifier, str], None],
    on_ready: Callable[[str], None],
) -> None:
    if not spec.address.port:
        raise OptionError("--port 0 is for one process. Name the port that --workers listen at")
    _try_out(path)
    address = _address(spec.address, spec.address.port)
    with _bound(spec.address):  # a port that is taken is told in our words
        on_start(classifier, address)
    with tempfile.TemporaryDirectory(prefix="fastcls-serve-") as folder:
        counters = Counters(Path(folder))
        _watch(lambda: counters.ready() == spec.address.workers, lambda: on_ready(address))
        asked = {"path": str(path.absolute()), "spec": asdict(spec), "counters": folder}
        os.environ[_ASKED] = json.dumps(asked)
        try:
            uvicorn.run(
                "fastcls.serving.server:worker_app",
                factory=True,
                host=spec.address.host,
                port=spec.address.port,
                workers=spec.address.workers,
                timeout_worker_healthcheck=60,  # TensorFlow's import holds the interpreter
                **_options(spec),
            )
        finally:
            del os.environ[_ASKED]


def _watch(is_so: Callable[[], bool], tell: Callable[[], None]) -> None:
    """Call a function, on a thread of its own, as soon as something is so; never, if this process ends."""

    def watch() -> None:
        with contextlib.suppress(OSError):  # the counters are gone: it ends
            while not is_so():
                time.sleep(_LOOK_S)
            tell()

    threading.Thread(target=watch, daemon=True).start()


def _try_out(path: Path) -> None:
    """Convert the classifier for this machine, for each worker to find, and see whether it can be used."""
    classifier = Classifier.load(path)
    classifier.keep()
    classifier.predict(np.zeros((*classifier.size, 3), np.uint8))


def worker_app() -> FastAPI:
    """The application of one of several processes, made of what the environment says."""
    asked = json.loads(os.environ[_ASKED])

    def fail(error: Exception) -> None:
        logger.error("%s", error)
        sys.stderr.flush()
        os._exit(_STARTUP_FAILURE)

    # All is answered then: taking OpenVINO apart, whose threads still live, may abort.
    atexit.register(os._exit, 0)
    spec, counters = as_spec(ServeSpec, asked["spec"], "spec"), Counters(Path(asked["counters"]))
    return create_app(Classifier.load(asked["path"]), spec, fail, counters)


def _options(spec: ServeSpec) -> dict[str, Any]:
    return {
        "http": Protocol,
        "ws": "none",
        "loop": "asyncio",
        "log_config": None,
        "log_level": "error",
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        "limit_concurrency": _CONNECTIONS,
        "timeout_keep_alive": math.ceil(min(spec.limits.timeout, _HEADER_S)),
        "timeout_graceful_shutdown": math.ceil(spec.limits.timeout) + _GRACE_S,
    }


def _bound(address: AddressSpec) -> socket.socket:
    """A socket that is bound to an address.

    Raises:
        OptionError: That is not possible.
    """
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        family, _, _, _, place = min(found, key=lambda each: each[0] != socket.AF_INET)  # localhost has two
        return socket.create_server(place[:2], family=family)
    except OSError as error:
        reason = str(error.strerror or error).partition(" (while")[0]  # where is said already
        raise OptionError(
            f"The server cannot listen at {address.host}, port {address.port}: {reason}. "
            "Choose another --port, or --host"
        ) from error


def _address(address: AddressSpec, port: int) -> str:
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"http://{host}:{port}"

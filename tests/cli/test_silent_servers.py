"""Ctrl-C while web servers say nothing."""

import os
import signal
import socket
import threading
import time

import pytest


@pytest.fixture
def silent(monkeypatch):
    """Addresses of a server that takes requests and never answers, and when the user gave up."""
    monkeypatch.setenv("no_proxy", "*")
    given_up = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept():
            connection = server.accept()[0]
            connection.recv(1)
            given_up.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)
            ended.wait()
            connection.close()

        ended = threading.Event()
        threading.Thread(target=accept, daemon=True).start()
        port = server.getsockname()[1]
        yield [f"http://127.0.0.1:{port}/{number}.jpg" for number in range(30)], given_up
    ended.set()


@pytest.mark.parametrize("command", ["predict", "extract"])
def test_command__ctrl_c_does_not_wait_for_a_silent_server(command, silent, fastcls, trained, base, tmp_path):
    addresses, given_up = silent
    table = tmp_path / "table.csv"
    table.write_text("path,label\n" + "".join(f"{each},{n % 2}\n" for n, each in enumerate(addresses)))
    given = {
        "predict": (trained.run, *addresses),
        "extract": (table, "--base", base, "--cache", tmp_path / "caches"),
    }
    result = fastcls(command, *given[command])
    assert time.monotonic() - given_up[0] < 2  # it may be silent for 15 seconds
    assert result.code == 130 and result.err.splitlines()[-1].startswith("Interrupted")

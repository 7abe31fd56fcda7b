"""`fastcls serve`: a process of its own, whatever arrives, and its page in a browser."""

import contextlib
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from browser_support import FOUND, Browser

from fastcls import Classifier

TIMEOUT = 1


class Server:
    """A server in a process of its own."""

    def __init__(self, run, *arguments):
        command = [sys.executable, "-m", "fastcls", "serve", run, "--port", 0, *arguments]
        self.process = subprocess.Popen(
            [*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        line = self.process.stdout.readline()
        self.url = re.search(r"http://127.0.0.1:\d+", line)[0]
        self.port = int(self.url.rpartition(":")[2])
        for _ in range(600):
            if self.get("/ready") == 200:
                return
            time.sleep(0.05)
        raise AssertionError(line)

    def get(self, path):
        try:
            with urllib.request.urlopen(self.url + path) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    def send(self, head, body=b"", *, end=False):
        """What comes back, until the connection ends."""
        data = b""
        with (
            contextlib.suppress(ConnectionError),
            socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection,
        ):
            connection.sendall(head + body)
            if end:
                connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(65536):
                data += chunk
        return data

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


def head(length, *more):
    lines = "POST /predict HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {length}", *more, "", ""
    return "\r\n".join(lines).encode()


@pytest.fixture(scope="module")
def server(trained):
    Classifier.load(trained.run).keep()  # the process need not import Keras
    started = Server(trained.run, "--timeout", TIMEOUT, "--max-upload", 1)
    yield started
    if started.process.poll() is None:
        started.end()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if FOUND is None:
        pytest.skip("there is no Chromium")
    own = Browser(tmp_path_factory.mktemp("profile"))
    yield own
    own.close()


def test_serve__a_converted_classifier_needs_no_tensorflow(server):
    pytest.importorskip("openvino")
    loaded = Path(f"/proc/{server.process.pid}/maps")
    if not loaded.exists():
        pytest.skip("this system does not tell what a process has loaded")
    assert "/openvino/" in loaded.read_text() and "libtensorflow" not in loaded.read_text()


def test_serve__whatever_arrives_the_server_lives(server, photos):
    photo = (photos / "red" / "0.png").read_bytes()
    asked = {
        "no HTTP": (b"\x16\x03\x01 hello\r\n\r\n", b"", 400),
        "two lengths": (head(1, "Content-Length: 2"), b"", 400),
        "no number": (head("many"), b"", 400),
        "negative": (head(-1), b"", 400),
        "announces too much": (head(10**12), b"", 413),
        "sends too much": (head(1_200_000, "Connection: close"), bytes(1_200_000), 413),
        "never arrives": (head(len(photo) + 10), photo, 408),
    }
    started = time.monotonic()
    found = {name: server.send(*sent) for name, (*sent, _) in asked.items()}
    assert {name: int(data.split()[1]) for name, data in found.items()} == {
        name: status for name, (*_, status) in asked.items()
    }
    assert time.monotonic() - started < 8 * TIMEOUT
    # Whether the answer still reaches who sends a header of megabytes, or has gone, is up to the network.
    assert server.send(head(1, f"X-Long: {'a' * 5_000_000}"))[9:12] in (b"", b"400")
    assert server.send(head(1, *[f"X-{number}: a" for number in range(300_000)]))[9:12] in (b"", b"400")
    assert server.send(head(len(photo) + 10), photo, end=True)[9:12] in (b"", b"400")
    assert server.send(head(len(photo), "Connection: close"), photo).split()[1] == b"200"


def test_serve__a_connection_without_a_request_is_closed(server):
    started = time.monotonic()
    assert server.send(b"POST /predict HTTP/1.1\r\nHost: 127") == b""
    assert time.monotonic() - started < 4 * TIMEOUT


def test_serve__an_answer_does_not_wait_for_the_client_to_acknowledge_its_head(server, photos):
    photo, seconds = (photos / "red" / "0.png").read_bytes(), []
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        for _ in range(30):
            started, data = time.monotonic(), b""
            connection.sendall(head(len(photo)) + photo)
            while not data.endswith(b"}]}"):
                data += connection.recv(65536)
            seconds.append(time.monotonic() - started)
    assert statistics.median(seconds) < 0.035  # that would be 40 ms each


def test_serve__its_page_classifies_and_explains_images(server, photos, browser, tmp_path):
    browser.call("Page.navigate", url=f"{server.url}/")
    browser.wait_for("document.querySelectorAll('#facts div').length > 0")
    document = browser.call("DOM.getDocument")["root"]["nodeId"]
    node = browser.call("DOM.querySelector", nodeId=document, selector="#files")["nodeId"]
    files = [str(photos / name / "1.png") for name in ("blue", "red")]
    browser.call("DOM.setFileInputFiles", nodeId=node, files=files)
    browser.wait_for("document.querySelectorAll('.card .shares').length == 2")
    said = browser.run("[...document.querySelectorAll('.answer')].map((each) => each.textContent).join()")
    assert said == "red,blue"  # the last one first
    # By keyboard: where is it seen?
    browser.run("document.querySelector('.seen button').focus()")
    browser.press("Enter")
    browser.wait_for("document.querySelectorAll('.seen button[aria-pressed=true]').length == 1")
    assert browser.run("document.querySelector('img.picture').src.slice(0, 22)") == "data:image/jpeg;base64"
    assert browser.run("document.activeElement.textContent") == "red"
    # Dropped, and pasted.
    for kind, field in (("drop", "dataTransfer"), ("paste", "clipboardData")):
        browser.run(_given(kind, field))
    browser.wait_for("document.querySelectorAll('.card .shares').length == 4")
    assert browser.run("document.querySelectorAll('.card b').length") == 0
    browser.run("document.getElementById('clear').click()")
    assert browser.run("document.querySelectorAll('.card').length") == 0
    # Keras may be loaded for longer than an answer may take here: the page asks again.
    assert [each for each in browser.problems if "status of 503" not in json.dumps(each)] == []
    assert {url.split("/")[2] for url in browser.requests if url.startswith("http")} == {server.url[7:]}
    for width in (360, 1400):
        browser.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False
        )
        assert browser.run("document.documentElement.scrollWidth") <= width


def _given(kind, field):
    """Give the page an image, as a user does who drops or pastes it."""
    return f"""(async () => {{
        const canvas = document.createElement("canvas");
        canvas.width = canvas.height = 20;
        canvas.getContext("2d").fillRect(0, 0, 20, 20);
        const blob = await new Promise((done) => canvas.toBlob(done));
        const data = new DataTransfer();
        data.items.add(new File([blob], "<b>x</b>.png", {{ type: blob.type }}));
        const event = new Event("{kind}", {{ bubbles: true, cancelable: true }});
        Object.defineProperty(event, "{field}", {{ value: data }});
        document.dispatchEvent(event);
    }})()"""


def test_serve__ends_in_order_when_all_is_answered(server, photos):
    photo, answers = (photos / "green" / "0.png").read_bytes(), []

    def ask():
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            connection.sendall(head(len(photo)) + photo[:100])
            half.set()
            time.sleep(0.4)
            connection.sendall(photo[100:])
            data = b""
            while chunk := connection.recv(65536):  # the connection ends with the answer
                data += chunk
            answers.append(data)

    half = threading.Event()
    asking = threading.Thread(target=ask)
    asking.start()
    half.wait()
    time.sleep(0.1)
    code, out, err = server.end()
    asking.join()
    body = json.loads(answers[0].partition(b"\r\n\r\n")[2])
    assert body["images"][0]["predictions"][0]["class"] == "green"
    assert (code, err) == (0, "") and out.endswith("Ended: all requests are answered\n")


def test_serve__what_cannot_be_served_is_told_at_once(fastcls, trained, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = fastcls("serve", trained.run, "--port", port)
    assert result.code == 1 and "Address already in use" in result.err and "--port" in result.err
    for arguments, message in {
        (tmp_path,): "There is no classifier",
        (trained.run, "--host", "no.such.host.invalid"): "cannot listen",
        (trained.run, "--allow-host", "https://a.b"): "without scheme",
        (trained.run, "--max-images", 500): "--queue",
        (trained.run, "--port", 0, "--workers", 2): "Name the port",
    }.items():
        result = fastcls("serve", *arguments)
        assert result.code in (1, 2) and message in result.err and "Traceback" not in result.err
        assert os.environ.get("FASTCLS_SERVE") is None


def test_serve__names_its_extra(fastcls, trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "fastcls.serving", raising=False)
    result = fastcls("serve", trained.run)
    assert result.code == 1 and "pip install 'fastcls[serve]'" in result.err

"""A headless Chromium that a test drives through two pipes, by the DevTools protocol."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import time

FOUND = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe")
_KEYS = {"Enter": "\r", " ": " "}


class Browser:
    """One page in a browser of its own.

    Args:
        profile: A folder for what the browser keeps.
    """

    def __init__(self, profile):
        to_browser, commands = os.pipe()
        answers, from_browser = os.pipe()

        def connect():  # the browser reads from 3 and writes to 4
            os.dup2(os.dup(to_browser), 30)
            os.dup2(os.dup(from_browser), 31)
            os.dup2(30, 3)
            os.dup2(31, 4)

        self.process = subprocess.Popen(
            [FOUND, *_OPTIONS, f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=connect,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self.commands, self.answers = os.fdopen(commands, "wb"), os.fdopen(answers, "rb")
        self.numbers, self.session, self.problems, self.requests = itertools.count(1), None, [], []
        (page,) = [t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page"]
        attached = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self):
        """End the browser."""
        self.process.terminate()
        self.process.wait(20)
        self.commands.close()
        self.answers.close()

    def call(self, method, **params):
        """The result of a command; what the page complains of meanwhile is noted."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        self.commands.write(json.dumps(message).encode() + b"\0")
        self.commands.flush()
        while True:
            answer = self._read()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def _read(self):
        data = bytearray()
        while (byte := self.answers.read(1)) != b"\0":
            assert byte, "the browser has ended"
            data += byte
        message = json.loads(data)
        method, params = message.get("method"), message.get("params", {})
        is_error = method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning")
        if is_error or method in ("Runtime.exceptionThrown", "Log.entryAdded"):
            self.problems.append(params)
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        return message

    def show(self, path, *, width=1400, height=900, dark=False):
        """Open a file, in a window of a size in pixels."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)
        self.call("Page.navigate", url=path.absolute().as_uri())
        self.wait_for("document.readyState == 'complete' && !!document.getElementById('status')")

    def run(self, expression):
        """The value of an expression on the page."""
        asked = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        result = self.call("Runtime.evaluate", **asked)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait_for(self, expression):
        """Wait until an expression is true."""
        for _ in range(200):
            if self.run(expression):
                return
            time.sleep(0.05)
        raise AssertionError(f"never true: {expression}")

    def press(self, key):
        """Press a key, as a user does."""
        event = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": _code(key)}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=_KEYS.get(key, ""), **event)
        self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    def drag(self, start, end):
        """Draw with the mouse from one place of the window to another."""
        steps = [("mousePressed", start, 1), ("mouseMoved", end, 1), ("mouseReleased", end, 0)]
        for kind, (x, y), buttons in steps:
            event = {"x": x, "y": y, "button": "left", "buttons": buttons, "clickCount": 1}
            self.call("Input.dispatchMouseEvent", type=kind, **event)

    def screenshot(self, path, *, whole=False):
        """Keep what is seen as a PNG file."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))


def _code(key):
    known = {"Enter": 13, " ": 32, "Escape": 27, "Tab": 9}
    return known.get(key) or {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}[key]

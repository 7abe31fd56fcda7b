"""Images at web addresses, from a server of this machine."""

import http.server
import threading

import pytest

from fastcls import web
from fastcls.web import WebError, fetch

BODY = bytes(range(256)) * 500


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as its path says."""

    def do_GET(self):
        kind, _, rest = self.path.strip("/").partition("/")
        getattr(self, f"answer_{kind}")(rest)

    def answer_image(self, _):
        self.send(200, BODY)

    def answer_agent(self, _):
        self.send(200, self.headers["User-Agent"].encode())

    def answer_path(self, _):
        self.send(200, self.path.encode())

    def answer_missing(self, _):
        self.send(404, b"no")

    def answer_hop(self, rest):
        count = int(rest)
        self.redirect(f"/hop/{count - 1}" if count else "/image")

    def answer_file(self, _):
        self.redirect("file:///etc/hostname")

    def answer_ftp(self, _):
        self.redirect("ftp://127.0.0.1/a.jpg")

    def answer_short(self, _):
        self.send(200, BODY, told=len(BODY) + 5)

    def answer_untold(self, _):
        self.send(200, BODY, told=None)

    def answer_silent(self, _):
        self.server.release.wait(5)

    def answer_dripping(self, _):
        self.send(200, b"", told=100)
        while not self.server.release.wait(0.02):
            self.wfile.write(b"x")

    def redirect(self, place):
        self.send_response(302)
        self.send_header("Location", place)
        self.end_headers()

    def send(self, code, body, told=-1):
        self.send_response(code)
        if told is not None:
            self.send_header("Content-Length", str(len(body) if told < 0 else told))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def address():
    """The address of a server."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.release = threading.Event()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "*")
        yield f"http://127.0.0.1:{server.server_port}"
    server.release.set()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("path", ["image", "hop/4", "untold"])
def test_fetch__gives_the_bytes(path, address):
    assert fetch(f"{address}/{path}") == BODY


def test_fetch__names_itself_and_quotes_what_no_address_may_have(address):
    assert fetch(f"{address}/agent").startswith(b"fastcls/")
    assert fetch(f"{address}/path/ä b%20c.jpg?d=1") == b"/path/%C3%A4%20b%20c.jpg?d=1"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing", "the server answers 404 Not Found"),
        ("hop/9", "the server answers 302 after too many redirections: Found"),
        ("file", "Redirection to url 'file:///etc/hostname' is not allowed"),
        ("ftp", "it is redirected to 'ftp://127.0.0.1/a.jpg'"),
        ("short", "the connection ended after 128,000 of 128,005 bytes"),
    ],
)
def test_fetch__says_why_there_is_nothing(path, reason, address):
    with pytest.raises(WebError) as raised:
        fetch(f"{address}/{path}")
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("path", ["image", "untold"])
def test_fetch__is_bounded_in_bytes(path, address, monkeypatch):
    monkeypatch.setattr(web, "MOST_BYTES", len(BODY) - 1)
    with pytest.raises(WebError, match=r"it has more than 125\.0 KiB"):
        fetch(f"{address}/{path}")


@pytest.mark.parametrize(
    ("path", "reason"), [("silent", "no answer within 0.2 s"), ("dripping", "it takes longer than 0.3 s")]
)
def test_fetch__is_bounded_in_time(path, reason, address, monkeypatch):
    monkeypatch.setattr(web, "SILENCE_S", 0.2)
    monkeypatch.setattr(web, "TOTAL_S", 0.3)
    with pytest.raises(WebError, match=reason):
        fetch(f"{address}/{path}")


@pytest.mark.parametrize(
    "url",
    ["http://", "http://127.0.0.1:1/a.jpg", "http://127.0.0.1:x/", f"http://{'a' * 70}.b/", "http://[::1/a"],
)
def test_fetch__of_no_server(url):
    with pytest.raises(WebError, match=r"\w"):
        fetch(url)


def test_fetch__sends_no_password(address):
    with pytest.raises(WebError, match="with a user's name or password are not supported"):
        fetch(address.replace("://", "://user:secret@"))

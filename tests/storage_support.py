"""An S3-compatible server on this machine, which fails and waits as a test says."""

import contextlib
import os
import threading
import time

import pytest

from fastcls import storage

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "no_proxy": "*",
}


class S3Server:
    """S3 on loopback.

    Attributes:
        endpoint: Its address, which is in AWS_ENDPOINT_URL too.
        requests: Method and path with query of each request, in order; tests may clear it.
    """

    def __init__(self):
        from moto.moto_server import werkzeug_app as moto
        from werkzeug.serving import make_server

        self.requests, self._faults, self._buckets = [], [], 0
        self._application = moto.DomainDispatcherApplication(moto.create_backend_app)
        self._server = make_server(
            "127.0.0.1", 0, self._answer, threaded=True, request_handler=moto.MotoRequestHandler
        )
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def _answer(self, environ, start_response):
        request = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}?{environ['QUERY_STRING']}"
        self.requests.append(request)
        for fault in self._faults:
            if answer := fault(request):
                status, code, keep = answer
                if keep:
                    list(self._application(environ, lambda *_: None))
                else:
                    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                body = f"<Error><Code>{code}</Code><Message>{code} of the test</Message></Error>".encode()
                start_response(
                    status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
                )
                return [] if request.startswith("HEAD") else [body]
        return self._application(environ, start_response)

    @contextlib.contextmanager
    def failing(self, text="", status="503 Slow Down", code="SlowDown", *, times=1, wait_s=0.0, keep=False):
        """Within the block, requests whose method and path contain a text fail, or wait.

        Args:
            text: Part of "METHOD /bucket/key?query".
            status: What is answered; "" for the right answer after the wait.
            code: Of the error.
            times: How many of them fail; the others are answered.
            wait_s: Before the answer.
            keep: Do what was asked, and only then answer the error.
        """
        left, lock = [times], threading.Lock()

        def fault(request):
            with lock:
                if text not in request or left[0] <= 0:
                    return None
                left[0] -= 1
            time.sleep(wait_s)
            return (status, code, keep) if status else None

        self._faults.append(fault)
        try:
            yield left
        finally:
            self._faults.remove(fault)

    def bucket(self):
        """The URL of a new bucket."""
        import boto3

        self._buckets += 1
        name = f"bucket-{self._buckets}"
        boto3.client("s3", endpoint_url=self.endpoint).create_bucket(Bucket=name)
        return f"s3://{name}"

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def s3_server():
    """An S3 server, and an environment that names it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        server = S3Server()
        patch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        storage.forget()
        yield server
        storage.forget()
        server.close()


class WebServer:
    """A web server on loopback.

    Attributes:
        address: "http://HOST:PORT".
        files: Bytes by path, as it is before it is quoted.
        ranges: Whether it answers with parts of files.
        faults: The status that each of the next requests is answered with.
        waits: Seconds before an answer, by path.
        requests: Paths that were asked for.
    """

    def __init__(self):
        import http.server
        import urllib.parse

        self.files, self.ranges, self.faults, self.waits, self.requests = {}, True, [], {}, []
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                path = urllib.parse.unquote(self.path)
                owner.requests.append(path)
                time.sleep(owner.waits.get(path, 0))
                if owner.faults or path not in owner.files:
                    return self.send_error(owner.faults.pop(0) if owner.faults else 404)
                data = owner.files[path]
                if isinstance(data, str):
                    self.send_response(302)
                    self.send_header("Location", data)
                    return self.end_headers()
                self.answer(data, self.headers["Range"] if owner.ranges else None)

            def answer(self, data, wanted):
                first, _, last = (wanted or "bytes=0-").removeprefix("bytes=").partition("-")
                part = data[int(first) : int(last) + 1 if last else None]
                self.send_response(206 if wanted else 200)
                self.send_header("ETag", f'"{hash(data)}"')
                self.send_header("Content-Length", str(len(part)))
                if wanted:
                    self.send_header(
                        "Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"
                    )
                self.end_headers()
                with contextlib.suppress(ConnectionError):
                    self.wfile.write(part)

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()

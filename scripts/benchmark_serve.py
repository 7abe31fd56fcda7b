"""Load `fastcls serve` by real connections, against the same classifier called in a loop, in the same run.

    python scripts/benchmark_serve.py RUN PHOTOS
    python scripts/benchmark_serve.py RUN PHOTOS --soak 600

Each client sends an image, waits for the answer, and sends the next. All clients are one thread of this
process on plain sockets that stay open: it shares the cores with the server, and is part of what is measured.
The engine alone is `Classifier.stream` on the bytes of the same images, decoding included; both take turns.

With --soak, eight clients go on for so many seconds, and the memory of the server is printed.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np

from fastcls.data.readers.folder import list_images
from fastcls.inference.classifier import Classifier

_WARM_S = 0.4
_ROUNDS = 5
_HEAD = """| clients | images/s | engine alone | share | p50 ms | p95 ms | p99 ms | batch | clients' CPU |
|---|---|---|---|---|---|---|---|---|"""
_SAMPLES = 20
_SOAKING_CLIENTS = 8


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("photos", type=click.Path(path_type=Path))
@click.option("--clients", default="1,8,64", show_default=True, metavar="N,...", help="Clients at once.")
@click.option("--seconds", type=float, default=10, show_default=True, help="Time for each number of clients.")
@click.option("--options", default="", help='Further options of fastcls serve, such as "--max-wait 0".')
@click.option("--images", type=int, default=200, show_default=True, help="How many images are sent in turn.")
@click.option("--soak", type=float, metavar="S", help="Only watch the memory for S seconds.")
def main(
    run: Path, photos: Path, clients: str, seconds: float, options: str, images: int, soak: float | None
) -> None:
    """Measure a server of RUN with the images below PHOTOS."""
    bodies = [(photos / name).read_bytes() for name in sorted(list_images(photos).images)]
    bodies = bodies[:: max(1, len(bodies) // images)][:images]
    requests = [_request(body) for body in bodies]
    with _server(run, options) as (port, process):
        if soak:
            _soak(requests, port, process, soak)
            return
        size = sum(map(len, bodies)) / len(bodies) / 1000
        click.echo(f"{len(bodies)} images of {size:.0f} kB on average. Medians of {_ROUNDS} rounds:\n")
        click.echo(_HEAD)
        classifier = Classifier.load(run)
        classifier.keep()
        list(classifier.stream(bodies[:32]))
        for count in map(int, clients.split(",")):
            _compare(classifier, bodies, requests, port, count, seconds / _ROUNDS)
        click.echo(f"\nMemory of the server: {_resident_mb(process):.0f} MB")


def _compare(
    classifier: Classifier, bodies: list[bytes], requests: list[bytes], port: int, count: int, seconds: float
) -> None:
    """Print a row: the engine alone and the server take turns, as other work may disturb either."""
    before, alone, loads = _counts(port), [], []
    for _ in range(_ROUNDS):
        alone.append(_alone(classifier, bodies, seconds))
        loads.append(_load(requests, port, count, seconds))
    images, batches = (now - then for now, then in zip(_counts(port), before, strict=True))
    rates = [len(load.latencies) / load.seconds for load in loads]
    share = np.median([rate / own for rate, own in zip(rates, alone, strict=True)])
    times = np.median([np.percentile(load.latencies, [50, 95, 99]) for load in loads], axis=0) * 1000
    told = " | ".join(f"{value:.1f}" for value in (np.median(rates), np.median(alone)))
    shown = " | ".join(f"{value:.1f}" for value in (*times, images / batches))
    own = np.median([load.cpu_s / load.seconds for load in loads])
    click.echo(f"| {count} | {told} | {share:.2f} | {shown} | {own:.0%} of a core |")


@dataclass
class _Load:
    """Seconds of each answer, all that passed, and those in which a core worked for the clients."""

    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0
    cpu_s: float = 0.0


@dataclass
class _Client:
    connection: socket.socket
    sent: float = 0.0
    answer: bytes = b""


def _request(body: bytes) -> bytes:
    head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _alone(classifier: Classifier, bodies: list[bytes], seconds: float) -> float:
    """Images per second of the classifier called in a loop."""
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        count += sum(1 for _ in classifier.stream(bodies[:96]))
    return count / (time.perf_counter() - started)


@contextlib.contextmanager
def _server(run: Path, options: str) -> Iterator[tuple[int, int]]:
    """The port and the number of the process of a server that is ready."""
    command = [sys.executable, "-m", "fastcls", "serve", str(run), "--port", "0", *options.split()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            found = re.search(r"http://127\.0\.0\.1:(\d+)", process.stdout.readline())
            if not found:
                raise click.ClickException("The server has not started")
            port = int(found[1])
            while not _get(port, "/ready").startswith(b"HTTP/1.1 200"):
                time.sleep(0.2)
            yield port, process.pid
        finally:
            process.send_signal(signal.SIGTERM)


def _get(port: int, path: str) -> bytes:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: connection.recv(65536), b""))


def _counts(port: int) -> tuple[float, float]:
    """Images and batches that were forwarded."""
    text = _get(port, "/metrics").decode()
    images, batches = (
        re.search(rf"^fastcls_{name}_total (\S+)", text, re.MULTILINE) for name in ("images", "batches")
    )
    assert images and batches
    return float(images[1]), float(batches[1])


def _load(requests: list[bytes], port: int, count: int, seconds: float, warm_s: float = _WARM_S) -> _Load:
    """Clients that each send the next image when the last one is answered."""
    selector, following, load = selectors.DefaultSelector(), itertools.cycle(requests), _Load()
    clients = [_Client(socket.create_connection(("127.0.0.1", port))) for _ in range(count)]
    for client in clients:
        client.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(client.connection, selectors.EVENT_READ, client)
        _send(client, next(following))
    worked, started = time.process_time(), time.perf_counter() + warm_s
    while (now := time.perf_counter()) < started + seconds:
        for key, _ in selector.select(1):
            client = key.data
            client.answer += client.connection.recv(65536)
            if _is_whole(client.answer):
                if time.perf_counter() > started:
                    load.latencies.append(time.perf_counter() - client.sent)
                _send(client, next(following))
    load.seconds = now - started
    load.cpu_s = (time.process_time() - worked) * load.seconds / (load.seconds + warm_s)
    for client in clients:
        client.connection.close()
    return load


def _send(client: _Client, request: bytes) -> None:
    client.answer, client.sent = b"", time.perf_counter()
    client.connection.sendall(request)


def _is_whole(answer: bytes) -> bool:
    head, found, body = answer.partition(b"\r\n\r\n")
    if not found:
        return False
    if not head.startswith(b"HTTP/1.1 200"):
        raise click.ClickException(f"The server answered: {answer.decode(errors='replace')}")
    length = re.search(rb"content-length: (\d+)", head)
    return length is not None and len(body) >= int(length[1])


def _soak(requests: list[bytes], port: int, process: int, seconds: float) -> None:
    sizes, images = [], 0
    for _ in range(_SAMPLES):
        images += len(_load(requests, port, _SOAKING_CLIENTS, seconds / _SAMPLES, 0).latencies)
        sizes.append(_resident_mb(process))
    minutes = np.arange(_SAMPLES) * seconds / _SAMPLES / 60
    slope = np.polyfit(minutes[_SAMPLES // 4 :], sizes[_SAMPLES // 4 :], 1)[0]
    click.echo(f"{images} images in {seconds:.0f} s, {_SOAKING_CLIENTS} clients. Memory of the server in MB:")
    click.echo(" ".join(f"{size:.0f}" for size in sizes))
    click.echo(f"Growth after the first quarter: {slope:+.2f} MB a minute")


def _resident_mb(process: int) -> float:
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main()

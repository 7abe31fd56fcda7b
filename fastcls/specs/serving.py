"""How a classifier is served: the address, the batches, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fastcls.errors import OptionError, shown
from fastcls.specs.option import option
from fastcls.specs.options import described, settle

_MEGABYTE = 1_000_000


def read_hosts(value: Any) -> str:
    """Names of hosts, without ports, as "a,b" in lower case.

    Raises:
        OptionError: It is something else.

    >>> read_hosts("Photos.example.org, intern")
    'photos.example.org,intern'
    """
    names = [name.strip().lower() for name in value.split(",")] if isinstance(value, str) else [""]
    if value != "" and not all(name and not set(name) & set("/:* ") for name in names):
        raise OptionError(
            f"allow_host takes names of hosts, without scheme, port or pattern. Received: {shown(value)}. "
            "Example: photos.example.org"
        )
    return ",".join(names)


@described
@dataclass(frozen=True)
class AddressSpec:
    """Where a server listens, and for whom."""

    host: str = option(
        "127.0.0.1",
        "Address to listen at. The default is reached from this machine alone; 0.0.0.0 is reached from the "
        "network, without a password.",
        metavar="ADDRESS",
    )
    port: int = option(8000, "Port to listen at; 0 for a free one.", low=0, high=65535)
    allow_host: str = option(
        "",
        "Further names under which the server is known, such as that of a reverse proxy. Requests for other "
        "names are refused.",
        metavar="NAME,...",
        shown="localhost, and the address",
        read=read_hosts,
    )
    workers: int = option(
        1,
        "Processes that serve. Each loads the classifier and uses all cores.",
        low=1,
        high=64,
        metavar="N",
    )

    def __post_init__(self) -> None:
        settle(self)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The address, and the further names."""
        return tuple(filter(None, [self.host.lower(), *self.allow_host.split(",")]))


@described
@dataclass(frozen=True)
class BatchSpec:
    """How images of several requests are forwarded together."""

    batch_size: int = option(16, "Most images per forward pass.", low=1)
    max_wait: float = option(
        5.0,
        "Milliseconds that a forward pass waits at most for images that are being decoded, and for clients "
        "that have just been answered.",
        low=0,
        high=10_000,
        metavar="MS",
    )

    def __post_init__(self) -> None:
        settle(self)


@described
@dataclass(frozen=True)
class LimitSpec:
    """What a server refuses."""

    max_upload: float = option(32.0, "Most megabytes in a request.", above=0, metavar="MB")
    max_images: int = option(32, "Most images in a request.", low=1, metavar="N")
    max_pixels: int = option(50_000_000, "Refuse images with more than this many pixels.", low=1)
    timeout: float = option(
        30.0, "Most seconds that a request may take to arrive, and then to be answered.", above=0, metavar="S"
    )
    queue: int = option(
        256,
        "Most images that are decoded, wait or are forwarded. Further ones are refused with status 503, to "
        "be sent again later.",
        low=1,
        metavar="N",
    )

    def __post_init__(self) -> None:
        settle(self)
        if self.max_images > self.queue:
            raise OptionError(
                f"A request of --max-images {self.max_images} would never fit into --queue {self.queue}. "
                "Raise --queue, or lower --max-images"
            )

    @property
    def max_bytes(self) -> int:
        """Most bytes in a request."""
        return int(self.max_upload * _MEGABYTE)


@described
@dataclass(frozen=True)
class ServeSpec:
    """How a classifier is served."""

    address: AddressSpec = field(default_factory=AddressSpec)
    batches: BatchSpec = field(default_factory=BatchSpec)
    limits: LimitSpec = field(default_factory=LimitSpec)

    def __post_init__(self) -> None:
        settle(self)

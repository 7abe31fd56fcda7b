"""Ways to damage a file, each decided by a random generator."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path


def _flip_bit(data: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << draw.randrange(8)]) + data[place + 1 :]


def _set_high(data: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(data))
    return data[:place] + bytes([draw.randrange(0x80, 0x100)]) + data[place + 1 :]


def _truncate(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randrange(len(data))]


def _truncate_lines(data: bytes, draw: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    return b"".join(lines[: draw.randrange(len(lines))])


def _replace(data: bytes, draw: random.Random) -> bytes:
    return draw.randbytes(len(data))


def _append(data: bytes, draw: random.Random) -> bytes:
    return data + draw.randbytes(draw.randint(1, 100))


_ON_BYTES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "flip": _flip_bit,
    "high byte": _set_high,
    "truncate": _truncate,
    "truncate lines": _truncate_lines,
    "garbage": _replace,
    "append": _append,
}
DAMAGES = (*_ON_BYTES, "empty", "swap", "folder", "absent")


def inflict(damage: str, path: Path, partners: list[Path], draw: random.Random) -> str:
    """Damage a file.

    Args:
        damage: One of `DAMAGES`.
        path: The file, which must not be empty.
        partners: Files of the same kind, one of which takes its place in a swap.
        draw: Decides what is random.

    Returns:
        What was done, in words.
    """
    if damage in _ON_BYTES:
        data = path.read_bytes()
        changed = _ON_BYTES[damage](data, draw)
        path.write_bytes(changed)
        pairs = enumerate(zip(data, changed, strict=False))
        place = next((at for at, (before, after) in pairs if before != after), min(len(data), len(changed)))
        return f"{damage} at byte {place} of {len(data)}"
    if damage == "swap":
        partner = draw.choice(partners)
        shutil.copyfile(partner, path)
        return f"swap with {partner}"
    path.unlink()
    if damage == "empty":
        path.touch()
    elif damage == "folder":
        path.mkdir()
    return damage

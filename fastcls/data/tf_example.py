"""Features of a serialized `tf.train.Example`, without TensorFlow.

Parsed by hand because listing labels then skips the images without reading them: a data set of 100 GB
touches a few pages per image. Wire format: https://protobuf.dev/programming-guides/encoding
Messages: tensorflow/core/example/example.proto and feature.proto.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

# Wire types, and the bytes of those of fixed width.
_VARINT, _DELIMITED = 0, 2
_WIDTHS = {1: 8, 5: 4}
# Which list of a Feature.
_BYTES, _INT64 = 1, 3
_LISTS = {_BYTES: "bytes", 2: "floats", _INT64: "whole numbers"}


@dataclass(frozen=True)
class Example:
    """Some features of an Example, by name.

    Attributes:
        bytes_lists: Views of the strings of each.
        int64_lists: The whole numbers of each.
    """

    bytes_lists: dict[str, list[memoryview]] = field(default_factory=dict)
    int64_lists: dict[str, list[int]] = field(default_factory=dict)


def parse_example(data: memoryview, names: Collection[str]) -> Example:
    """Read the named features; others, and lists of floats, are skipped.

    Args:
        data: The serialized message.
        names: Which features.

    Raises:
        ValueError: The bytes are not such a message.
    """
    wanted = {name.encode(): name for name in names}
    example = Example()
    for features in _messages(data, 1):
        for entry in _messages(features, 1):
            key = b"".join(_messages(entry, 1))
            for feature in _messages(entry, 2) if key in wanted else ():
                _read_feature(feature, wanted[key], example)
    return example


def feature_kinds(data: memoryview) -> dict[str, str]:
    """The names of all features, sorted, and what they hold: bytes, floats or whole numbers.

    Raises:
        ValueError: The bytes are not such a message.
    """
    found = {}
    for features in _messages(data, 1):
        for entry in _messages(features, 1):
            name = b"".join(_messages(entry, 1)).decode("utf-8", "replace")
            lists = [number for feature in _messages(entry, 2) for number, _ in _fields(feature)]
            found[name] = _LISTS.get(lists[0], "unknown") if lists else "empty"
    return dict(sorted(found.items()))


def _read_feature(feature: memoryview, name: str, example: Example) -> None:
    for strings in _messages(feature, _BYTES):
        example.bytes_lists[name] = list(_messages(strings, 1))
    for numbers in _messages(feature, _INT64):
        contents = [content for number, content in _fields(numbers) if number == 1]
        example.int64_lists[name] = [value for content in contents for value in _numbers(content)]


def _numbers(content: int | memoryview) -> Iterator[int]:
    """The whole numbers of a field: one, or many packed."""
    if isinstance(content, int):
        yield _signed(content)
        return
    place = 0
    while place < len(content):
        packed, place = _varint(content, place)
        yield _signed(packed)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _messages(data: memoryview, wanted: int) -> Iterator[memoryview]:
    """The length-delimited fields of one number."""
    for number, value in _fields(data):
        if number == wanted and isinstance(value, memoryview):
            yield value


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field of a message; those of fixed width are skipped."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, place = _varint(data, place)
            yield number, value
        elif kind == _DELIMITED:
            length, place = _varint(data, place)
            if place + length > len(data):
                raise ValueError("a field extends past its message")
            yield number, data[place : place + length]
            place += length
        elif kind in _WIDTHS:
            place += _WIDTHS[kind]
        else:
            raise ValueError(f"wire type {kind}")
    if place > len(data):
        raise ValueError("a field extends past its message")


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    """A number of 7 bits per byte, lowest first, and the place after it."""
    value = shift = 0
    while place < len(data) and shift < 70:
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return value, place
        shift += 7
    raise ValueError("a number does not end")

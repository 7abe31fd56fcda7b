"""Write a data set as TFRecord files, with the keys of TensorFlow's own image scripts.

They come from `build_image_data.py` (https://github.com/tensorflow/models, research/slim): image/encoded,
image/class/label, image/class/text, image/filename.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from fastcls import files, unfinished
from fastcls.backend import import_keras
from fastcls.data import image_bytes
from fastcls.data.dataset import Dataset, Sample
from fastcls.data.readers.record_classes import LABEL, LABELS_FILE, TEXT
from fastcls.data.readers.tfrecord import GROUP
from fastcls.data.tfrecord import split_address
from fastcls.errors import DataError, OptionError
from fastcls.specs import check_at_least
from fastcls.wording import count_of

# What TensorFlow's guide to performance advises: files of 100 to 200 MB.
_SHARD_BYTES = 128 << 20
_UNSPLIT = "images"


@dataclass(frozen=True)
class WrittenShard:
    """One file.

    Attributes:
        name: Of the file.
        split: "train", "val", "test", or "".
        count: Images in it.
        bytes: Its size.
    """

    name: str
    split: str
    count: int
    bytes: int


def write_tfrecords(
    dataset: Dataset,
    out: Path,
    shards: int | None = None,
    *,
    watch: Callable[[int], Any] = lambda count: None,
) -> list[WrittenShard]:
    """Write `out`/SPLIT-00000-of-0000N.tfrecord and `labels.txt`; the folder appears whole or not at all.

    Until then it is `out`.unfinished, which one process at a time can write.

    The bytes of an image are those of its file. The order within a split is random, and the same each time.

    Args:
        dataset: The images.
        out: The folder to make.
        shards: Files per split; None for as many as hold 128 MiB each.
        watch: Called with 1 after each image.

    Raises:
        DataError: An image cannot be read, or a class name does not fit on a line.
        OptionError: `out` exists with other content, another process is making it, or there are fewer images
            than files.
    """
    if shards is not None:
        check_at_least("shards", shards, 1)
    _require_lines(dataset.class_names)
    files.require_writable(out.parent)
    parts = _parts(dataset)
    _require_enough(parts, shards)
    counts = {split: shards or _shard_count(dataset, samples) for split, samples in parts.items()}
    if not out.exists():
        with unfinished.resumable_folder(out, lambda folder: False) as folder:
            return _write(dataset, parts, counts, folder, watch)
    # The command may have been killed after its files were complete.
    _require_names(out, [LABELS_FILE, *(name for split in parts for name in _names(split, counts[split]))])
    with files.temporary_folder(out.parent) as folder:
        written = _write(dataset, parts, counts, folder, watch)
        if any(files.file_digest(out / path.name) != files.file_digest(path) for path in folder.iterdir()):
            raise files.is_taken(out)
    unfinished.unclaim(out)
    return written


def _write(
    dataset: Dataset,
    parts: Mapping[str, Sequence[Sample]],
    counts: Mapping[str, int],
    folder: Path,
    watch: Callable[[int], Any],
) -> list[WrittenShard]:
    written = []
    for split, samples in parts.items():
        ordered = sorted(samples, key=lambda sample: files.digest(sample.path.encode()))
        for number, name in enumerate(_names(split, counts[split])):
            chosen = ordered[number :: counts[split]]
            _write_shard(dataset, chosen, folder / name, watch)
            written.append(WrittenShard(name, split, len(chosen), (folder / name).stat().st_size))
    lines = (f"{label}:{name}\n" for label, name in enumerate(dataset.class_names))
    files.write_text(folder / LABELS_FILE, "".join(lines))
    return written


def _names(split: str, count: int) -> list[str]:
    return [f"{split or _UNSPLIT}-{number:05d}-of-{count:05d}.tfrecord" for number in range(count)]


def _require_names(out: Path, names: Sequence[str]) -> None:
    """Refuse a folder that holds something else, before the images are read."""
    if not out.is_dir() or {path.name for path in out.glob("[!.]*")} != set(names):
        raise files.is_taken(out)


def _require_lines(class_names: Sequence[str]) -> None:
    broken = [name for name in class_names if name.splitlines() != [name] or name != name.strip()]
    if broken:
        raise DataError(
            f"A class name must fit on one line of {LABELS_FILE}. Received: {broken[0]!r}. Rename it"
        )


def _parts(dataset: Dataset) -> dict[str, list[Sample]]:
    """The samples of each split; if some have one, the others belong to train, as everywhere."""
    parts: dict[str, list[Sample]] = {split: [] for split in dataset.splits}
    rest = "train" if parts else ""
    for sample in dataset.samples:
        parts.setdefault(sample.split or rest, []).append(sample)
    return parts


def _require_enough(parts: Mapping[str, Sequence[Sample]], shards: int | None) -> None:
    for split, samples in parts.items():
        if shards and shards > len(samples):
            part = f"The {split} split" if split else "The data set"
            raise OptionError(
                f"{part} has {count_of(len(samples), 'image')}, fewer than --shards {shards}. "
                f"Choose fewer shards"
            )


def _shard_count(dataset: Dataset, samples: Sequence[Sample]) -> int:
    holders = {split_address(str(dataset.locate(sample)))[0] for sample in samples}
    total = sum(_readable(image_bytes.stat, holder).st_size for holder in holders)
    return max(1, min(len(samples), math.ceil(total / _SHARD_BYTES)))


def _write_shard(
    dataset: Dataset, samples: Sequence[Sample], path: Path, watch: Callable[[int], Any]
) -> None:
    import_keras()  # silences TensorFlow's start-up messages
    import tensorflow as tf

    try:
        with tf.io.TFRecordWriter(str(path)) as writer:
            for sample in samples:
                data = _readable(image_bytes.read_bytes, str(dataset.locate(sample)))
                # Deterministic: the order of a message's map is otherwise left open.
                writer.write(_example(dataset, sample, data).SerializeToString(deterministic=True))
                watch(1)
    except tf.errors.OpError as error:
        number = errno.ENOSPC if isinstance(error, tf.errors.ResourceExhaustedError) else errno.EIO
        raise OSError(number, os.strerror(number), str(path)) from error
    files.sync(path)


def _readable(read: Callable[[str], Any], path: str) -> Any:
    try:
        return read(path)
    except OSError as error:
        why = error.strerror or error
        raise DataError(f"{path!r} cannot be read: {why}. Check its permissions, or remove it") from error


def _example(dataset: Dataset, sample: Sample, data: bytes) -> Any:
    from tensorflow.train import BytesList, Example, Feature, Features, Int64List

    def texts(*values: bytes) -> Any:
        return Feature(bytes_list=BytesList(value=values))

    features = {
        image_bytes.ENCODED: texts(data),
        LABEL: Feature(int64_list=Int64List(value=sample.labels)),
        TEXT: texts(*(name.encode() for name in dataset.names_of(sample))),
        "image/filename": texts(PurePosixPath(sample.path).name.encode()),
    }
    if sample.group:
        features[GROUP] = texts(sample.group.encode())
    return Example(features=Features(feature=features))

"""What takes part in the extraction: each function runs in a fresh process, from image files to HDF5."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np

from benchmarks.photos import list_photos
from fastcls.bases.normalize import IMAGENET_MEAN, IMAGENET_STD
from fastcls.bases.registry import find_architecture
from fastcls.cutter import Cut, bottleneck_model, cut
from fastcls.data.dataset import Dataset
from fastcls.errors import OptionError
from fastcls.extraction.executors.base import Executor, find_executor
from fastcls.machine import cores
from fastcls.specs import EXECUTORS, BaseSpec, CutSpec, ExtractConfig

BATCH = 32
_watch: Watch | None = None  # in the place of an executor
# The same architecture by its names in timm and torchvision.
_TORCH_NAMES = {
    "convnexttiny": ("convnext_tiny", "convnext_tiny"),
    "densenet121": ("densenet121", "densenet121"),
    "efficientnetb0": ("tf_efficientnet_b0", "efficientnet_b0"),
    "mobilenetv2": ("mobilenetv2_100", "mobilenet_v2"),
    "mobilenetv3large": ("tf_mobilenetv3_large_100", "mobilenet_v3_large"),
    "mobilenetv3small": ("tf_mobilenetv3_small_100", "mobilenet_v3_small"),
    "resnet50": ("resnet50", "resnet50"),
    "vgg16": ("vgg16", "vgg16"),
}


class Timeline:
    """When batches were done, and the rate between the first and the last."""

    def __init__(self) -> None:
        self._marks: list[tuple[float, int]] = []

    def note(self, images: int) -> None:
        """So many more images are done now."""
        self._marks.append((time.perf_counter(), images))

    def rate(self, start: float = 0.0, end: float = np.inf) -> float | None:
        """Images per second from the first batch to the last that end in a span of time."""
        marks = [mark for mark in self._marks if start <= mark[0] <= end and mark[1]]
        if len(marks) < 2:
            return None
        return sum(images for _, images in marks[1:]) / (marks[-1][0] - marks[0][0])

    def report(self) -> dict[str, Any]:
        """As a contender's report."""
        return {"images": sum(images for _, images in self._marks), "rate": self.rate()}


def keras_loop(photos: str, base: str, weights: str | None, out: str) -> dict[str, Any]:
    """The loop of the earlier systems: read, resize and normalize one by one, `predict` each batch."""
    made = _cut(base, weights)
    from keras.applications.imagenet_utils import preprocess_input

    timeline = Timeline()
    with _Features(out) as features:
        for paths in _batches(list_photos(Path(photos))):
            images = np.stack([_read(path, made.base.size) for path in paths]).astype(np.float32)
            if made.base.normalize != "none":
                images = preprocess_input(images, mode=made.base.normalize)
            features.append(made.trunk.predict(images, verbose=0))
            timeline.note(len(paths))
    return timeline.report()


def keras_pipeline(photos: str, base: str, weights: str | None, out: str) -> dict[str, Any]:
    """Keras `predict` on a tf.data pipeline that decodes in parallel and ahead."""
    made = _cut(base, weights)
    model = bottleneck_model(made)
    import keras
    import tensorflow as tf

    def decode(path: Any) -> Any:
        image = tf.image.resize(tf.io.decode_jpeg(tf.io.read_file(path), channels=3), made.base.size)
        return tf.cast(image, tf.uint8)

    paths = list_photos(Path(photos))
    files = tf.data.Dataset.from_tensor_slices(paths).map(decode, tf.data.AUTOTUNE)
    timeline = Timeline()
    done = keras.callbacks.LambdaCallback()
    done.on_predict_batch_end = lambda batch, logs=None: timeline.note(min(BATCH, len(paths) - BATCH * batch))
    with _Features(out) as features:
        batches = files.batch(BATCH).prefetch(tf.data.AUTOTUNE)
        features.append(model.predict(batches, verbose=0, callbacks=[done]))
    return timeline.report()


def torch_loop(photos: str, base: str, out: str, *, compiled: bool) -> dict[str, Any]:
    """PyTorch with channels last in bfloat16, eager or compiled; threads decode ahead."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = f"{out}/inductor"  # compiled anew, as on a first run
    import torch

    model, side, where = _torch_model(base)
    model = model.eval().to(memory_format=torch.channels_last)
    model = torch.compile(model) if compiled else model
    mean, std = (255 * torch.tensor(values).reshape(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    timeline = Timeline()
    batches = list(_batches(list_photos(Path(photos))))
    with _Features(out) as features, torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        for images, count in _decode_ahead(batches, (side, side)):
            pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
            rows = model((pixels - mean) / std)
            features.append(rows[:count].float().numpy())
            timeline.note(count)
    return {**timeline.report(), "who": f"{where}, torch {torch.__version__}"}


def fastcls_extract(
    photos: str,
    base: str,
    weights: str | None,
    out: str,
    *,
    engine: str = "auto",
    precision: str = "auto",
    workers: int | None = None,
) -> dict[str, Any]:
    """`fastcls.extract` into a fresh cache, or into one that `out` holds already."""
    from fastcls.extraction import extractor

    watch = watch_executor("processes")
    dataset = Dataset.from_folder(Path(photos))
    spec = CutSpec(BaseSpec(base, weights), precision=precision)
    config = ExtractConfig(engine=engine, workers=workers)
    cache, figures = extractor.extract(dataset, spec, Path(out), config)
    return {
        "images": figures.forwarded,
        "rate": watch.rate(),
        "seconds": figures.seconds,
        "who": f"{figures.engine} {cache.manifest.precision}, {figures.resources}",
        "cache": str(cache.folder),
        "side": cache.manifest.size[0],
        "fidelity": figures.fidelity,
        **watch.resources,
    }


def watch_executor(name: str) -> Watch:
    """Note what comes by an executor from now on."""
    global _watch
    _watch = Watch(find_executor(ExtractConfig(executor=name)))
    EXECUTORS[name] = replace(EXECUTORS[name], path=f"{__name__}:_watching")
    return _watch


def _watching(config: ExtractConfig) -> Watch | None:
    return _watch


class Watch(Executor):
    """Stands in for an executor and notes what comes by.

    The rate counts while every worker is at work: from when the last has loaded its engine to when the
    first finds no more tasks.
    """

    def __init__(self, executor: Executor) -> None:
        self.resources: dict[str, Any] = {}
        self._executor = executor
        self._timeline = Timeline()
        self._loaded: list[float] = []
        self._done: list[float] = []
        self._tasks = 0

    def run(
        self, tasks: Sequence[Any], spec: Any, workers: int, on_progress: Callable[[int], Any]
    ) -> Generator[Any, None, None]:
        """Run the tasks as the executor does."""
        self.resources = {
            "workers": workers,
            "threads": spec.threads,
            "batch_size": spec.batch_size,
            "engine": spec.engine,
        }
        self._tasks = len(tasks)

        def note(images: int) -> None:
            self._timeline.note(images)
            if not images:
                self._loaded.append(time.perf_counter())
            on_progress(images)

        for info in self._executor.run(tasks, spec, workers, note):
            self._done.append(time.perf_counter())
            yield info

    def read_ahead(self, orders: Sequence[Any]) -> None:
        """Let the executor begin."""
        self._executor.read_ahead(orders)

    def stop(self) -> None:
        """Let the executor end what it began."""
        self._executor.stop()

    def rate(self) -> float | None:
        """Images per second while every worker is at work; if that time is too short, from first to last."""
        workers = max(1, self.resources.get("workers", 1))
        if len(self._loaded) < workers or self._tasks < workers:
            return self._timeline.rate()
        full = self._timeline.rate(self._loaded[workers - 1], self._done[self._tasks - workers])
        return full or self._timeline.rate()


class _Features:
    """An HDF5 file that features are appended to."""

    def __init__(self, out: str) -> None:
        self._file = h5py.File(f"{out}/features.h5", "w")

    def __enter__(self) -> _Features:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, rows: np.ndarray) -> None:
        """Add rows (B, ...), as vectors."""
        rows = rows.mean(axis=(1, 2)) if rows.ndim == 4 else rows
        if "features" not in self._file:
            self._file.create_dataset(
                "features", (0, *rows.shape[1:]), "f4", maxshape=(None, *rows.shape[1:])
            )
        stored = self._file["features"]
        stored.resize(len(stored) + len(rows), axis=0)
        stored[-len(rows) :] = rows


def _cut(base: str, weights: str | None) -> Cut:
    from fastcls.bases.loader import load_base

    return cut(load_base(BaseSpec(base, weights)))


def _torch_model(base: str) -> tuple[Any, int, str]:
    """A network without classifier, the side of its input, and whose it is."""
    application = find_architecture(base)
    names = _TORCH_NAMES.get(application.name.lower()) if application else None
    if not application or not names:
        raise OptionError(f"the torch counterpart of {base} is not known here")
    try:
        import timm

        return timm.create_model(names[0], num_classes=0), application.side, f"timm {names[0]}"
    except ImportError:
        import torch
        import torchvision

    model = torchvision.models.get_model(names[1], weights=None)
    setattr(model, "fc" if hasattr(model, "fc") else "classifier", torch.nn.Flatten())
    return model, application.side, f"torchvision {names[1]}"


def _decode_ahead(
    batches: Sequence[Sequence[str]], size: tuple[int, int]
) -> Iterator[tuple[np.ndarray, int]]:
    """Full batches (B, H, W, 3) float32 and how many of their images count, two ahead."""
    cv2.setNumThreads(1)
    with ThreadPoolExecutor(cores()) as pool:
        waiting: list[Any] = []
        for paths in [*batches, (), ()]:
            waiting.append([pool.submit(_read, path, size) for path in paths])
            if len(waiting) > 2:
                images = [future.result() for future in waiting.pop(0)]
                padding = [images[0]] * (BATCH - len(images))  # another shape would be compiled again
                yield np.stack(images + padding).astype(np.float32), len(images)


def _read(path: str, size: tuple[int, int]) -> np.ndarray:
    image = cv2.imread(path, cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise OptionError(f"{path} cannot be read")
    return cv2.resize(image, size[::-1])


def _batches(paths: Sequence[str]) -> Iterator[Sequence[str]]:
    yield from (paths[start : start + BATCH] for start in range(0, len(paths), BATCH))

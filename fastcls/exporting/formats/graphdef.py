"""GraphDef: a frozen graph of TensorFlow 1, as older programs and OpenCV's `cv2.dnn` read it."""

from __future__ import annotations

from pathlib import Path

from fastcls import files
from fastcls.exporting.runtimes import MEMBER, RUNTIMES
from fastcls.exporting.source import Source


def write(source: Source, folder: Path) -> None:
    """Write classifier.pb into a folder, and what travels with it beside that."""
    graph = source.network.frozen.graph.as_graph_def()
    (folder / RUNTIMES["graphdef"].name).write_bytes(graph.SerializeToString(deterministic=True))
    files.write_text(folder / MEMBER, source.text)

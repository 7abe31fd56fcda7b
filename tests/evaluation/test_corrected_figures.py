"""The figures of a test with corrections, by the labels that these leave."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fastcls import files
from fastcls.cache.corrections import COLUMNS
from fastcls.data.csv_table import write_table
from fastcls.data.dataset import Dataset, Sample
from fastcls.evaluation.corrected import Corrector
from fastcls.tasks import SEVERAL_LABELS


def test_an_image_is_corrected_to_no_class_at_all(tmp_path):
    samples = tuple(Sample(f"{number}.png", (number % 2,), "test") for number in range(4))
    tested = Dataset(Path("/nowhere"), ("a", "b"), samples, task=SEVERAL_LABELS)
    digests = [files.digest(bytes([number])) for number in range(4)]
    line = {"path": "0.png", "action": "relabel", "suggested": "[]", "digest": digests[0]}
    write_table(tmp_path / "issues.csv", COLUMNS, [[line.get(name, "") for name in COLUMNS]])
    classifier = SimpleNamespace(task=SEVERAL_LABELS, class_names=("a", "b"), thresholds=(0.5, 0.5))
    corrector = Corrector.of(str(tmp_path / "issues.csv"), tested, digests, classifier)
    said = np.array([[0.1, 0.2], [0.1, 0.9], [0.9, 0.1], [0.9, 0.9]])
    corrected = corrector.judge(said, range(4))
    assert corrected.relabeled == 1
    assert corrected.figures["exact_match"] == pytest.approx(3 / 4)

"""How well images of another kind are told: flowers by a run of scenes, and the other way round, say.

    python scripts/measure_unfamiliar.py RUN OTHER_RUN

Both runs are of caches of one base and cut. New images are those that had no part in a run. Nothing is
forwarded.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from fastcls.evaluation.features import Features, features_of_run
from fastcls.evaluation.text_table import format_table
from fastcls.inference.classifier import Classifier
from fastcls.runs import Run


def features(folder: str) -> Features:
    """The rows that a run has in its cache."""
    return features_of_run(Run.open(Path(folder)))


def measure(folder: str, own: Features, others: Features) -> list[str]:
    """A line of the table: how the images of others differ from new ones of its own."""
    familiarity = Classifier.load(folder).familiarity
    if familiarity is None:
        sys.exit(f"{folder} does not know unfamiliar images: train it again")
    new = familiarity.score(own.take(np.array(own.uses) == "").rows)
    strange = familiarity.score(others.rows)
    area = roc_auc_score(np.repeat([0, 1], [len(new), len(strange)]), np.concatenate([new, strange]))
    shares = np.mean(strange > np.quantile(new, 0.95)), np.mean(new > 1), np.mean(strange > 1)
    return [folder, f"{area:.3f}", *(f"{share:.1%}" for share in shares)]


if __name__ == "__main__":
    first, second = sys.argv[1:]
    known = features(first), features(second)
    head = ["run", "AUROC", "found at 5 % false alarms", "own images marked", "others marked"]
    rows = [measure(first, *known), measure(second, *reversed(known))]
    print(format_table([head, *rows]))

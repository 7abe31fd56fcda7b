"""Numbers in messages."""

from __future__ import annotations

from collections.abc import Mapping


def count_of(number: int, one: str, many: str = "") -> str:
    """A number with the noun that is counted, in the singular or the plural.

    Args:
        number: How many.
        one: What one is called.
        many: What several are called, where that is not `one` with an s or es.

    >>> count_of(1, "epoch"), count_of(0, "image"), count_of(2200, "class")
    ('1 epoch', '0 images', '2,200 classes')
    """
    plural = many or f"{one}{'es' if one.endswith('s') else 's'}"
    return f"{number:,} {one if number == 1 else plural}"


# Of a row of a history, in the order in which they are told.
_FIGURES = ("loss", "accuracy", "val_loss", "val_accuracy", "val_auroc", "cv_loss", "cv_accuracy", "cv_auroc")


def figures_of(row: Mapping[str, float], digits: int = 4) -> str:
    """The figures in a row of the history of a training.

    >>> figures_of({"epoch": 3, "val_accuracy": 0.85, "loss": 0.06612, "seconds": 0.1})
    'loss 0.0661, val_accuracy 0.8500'
    """
    return ", ".join(f"{name} {row[name]:.{digits}f}" for name in _FIGURES if name in row)

"""Numbers in messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


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


def some_of(names: Sequence[str], most: int = 10) -> str:
    """The first of some names, and how many more there are: a message with thousands tells nothing.

    Args:
        names: All of them.
        most: How many are listed; one more would take no less room than to count it.

    >>> some_of(["daisy", "rose", "tulip"]), some_of([f"c{n}" for n in range(1000)], 3)
    ('daisy, rose, tulip', 'c0, c1, c2 and 997 more')
    """
    more = len(names) - most
    return ", ".join(names if more < 2 else names[:most]) + (f" and {more:,} more" if more > 1 else "")


def on_one_line(name: str) -> str:
    """A name that changes nothing but its own place on a terminal.

    >>> print(on_one_line("red rose"), on_one_line("two\\nlines"))
    red rose 'two\\nlines'
    """
    return name if name.isprintable() else repr(name)


def told_apart(ours: Sequence[str], theirs: Sequence[str], their: str) -> str:
    """Two lists of names in a message, and where they are long, the names that only one of them has.

    Args:
        ours: Those of what the sentence is about.
        theirs: Those of something else.
        their: What that is called.

    >>> told_apart(["a", "b"], ["a", "c"], "the cache")
    'a, b; the cache has a, c'
    """
    apart = sorted({*ours} ^ {*theirs})
    is_long = max(len(ours), len(theirs)) > 10
    more = f". Only one of them has {some_of(apart)}" if is_long and apart else ""
    return f"{some_of(ours)}; {their} has {some_of(theirs)}{more}"


# Of a row of a history, in the order in which they are told.
_FIGURES = ("loss", "accuracy", "val_loss", "val_accuracy", "val_auroc", "cv_loss", "cv_accuracy", "cv_auroc")


def figures_of(row: Mapping[str, float], digits: int = 4) -> str:
    """The figures in a row of the history of a training.

    >>> figures_of({"epoch": 3, "val_accuracy": 0.85, "loss": 0.06612, "seconds": 0.1})
    'loss 0.0661, val_accuracy 0.8500'
    """
    return ", ".join(f"{name} {row[name]:.{digits}f}" for name in _FIGURES if name in row)

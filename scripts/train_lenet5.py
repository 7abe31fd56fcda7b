"""Train LeNet-5 on a folder of handwritten digits and save it as a base.

The geometry is the one published by LeCun, Bottou, Bengio and Haffner in "Gradient-based learning applied to
document recognition" (1998), with its tanh and average pooling. Simplified, as is usual today: C3 sees all
maps of S2, pooling has no weights, and the output is a softmax. The model takes RGB and normalizes inside.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fastcls.backend import import_keras

keras = import_keras()
layers = keras.layers

SIZE = (32, 32)
BATCH_SIZE = 32


def main() -> None:
    """Train on 80 % of the images, print the accuracy on the rest, save."""
    args = _parse_arguments()
    keras.utils.set_random_seed(args.seed)
    train, held_out = load_digits(args.digits, seed=args.seed)
    model = build_lenet5(class_count=len(train.class_names))
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(train, epochs=args.epochs, shuffle=False, verbose=0)
    _, accuracy = model.evaluate(held_out, verbose=0)
    _save(model, args.out)
    print(f"{args.out}: accuracy {accuracy:.4f} on {len(held_out.file_paths)} held-out images")


def load_digits(folder: Path, *, seed: int) -> tuple[Any, Any]:
    """Read the images of a class folder tree in two parts, 80 % and 20 %."""
    return keras.utils.image_dataset_from_directory(
        folder,
        image_size=SIZE,
        batch_size=BATCH_SIZE,
        validation_split=0.2,
        subset="both",
        seed=seed,
        verbose=False,
    )


def build_lenet5(class_count: int) -> Any:
    """Build LeNet-5; its layers bear the names of the paper."""
    images = keras.Input((*SIZE, 3), name="images")  # RGB 0-255
    x = layers.Rescaling(1 / 255, name="rescaling")(images)
    x = layers.Conv2D(6, 5, activation="tanh", name="c1")(x)  # (28, 28, 6)
    x = layers.AveragePooling2D(2, name="s2")(x)  # (14, 14, 6)
    x = layers.Conv2D(16, 5, activation="tanh", name="c3")(x)  # (10, 10, 16)
    x = layers.AveragePooling2D(2, name="s4")(x)  # (5, 5, 16)
    x = layers.Conv2D(120, 5, activation="tanh", name="c5")(x)  # (1, 1, 120)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(84, activation="tanh", name="f6")(x)
    classes = layers.Dense(class_count, activation="softmax", name="output")(x)
    return keras.Model(images, classes, name="lenet5")


def _save(model: Any, out: Path) -> None:
    """Write aside and rename: a file with the final name is complete."""
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = out.with_suffix(".partial.keras")
    model.save(beside)
    beside.replace(out)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train LeNet-5 on a folder of handwritten digits.")
    parser.add_argument("digits", type=Path, metavar="DIGITS", help="images, in a folder per digit")
    parser.add_argument("out", type=Path, metavar="OUT", help="file to write, ending in .keras")
    parser.add_argument("--epochs", type=int, default=20, help="passes over the images (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random (%(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()

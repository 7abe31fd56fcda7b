"""Write scikit-learn's handwritten digits as PNG files, a folder per digit.

The 1,797 images of `sklearn.datasets.load_digits` are real: 13 people wrote them, for the test part of the
UCI data set "Optical Recognition of Handwritten Digits". Each has 8x8 pixels of value 0..16. A file holds
the gray values round(pixel * 255 / 16), from which round(gray * 16 / 255) gives back the pixels. The images
stay 8x8: whoever reads them enlarges them.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from sklearn.datasets import load_digits


def main() -> None:
    """Write the chosen digits and say how many."""
    args = _parse_arguments()
    images = encode_digits(args.digits)
    if args.out.exists() and any(args.out.iterdir()):
        _check_same(args.out, images)
    else:
        _write(args.out, images)
    print(f"{args.out}: {len(images)} images of {len(args.digits)} digits")


def encode_digits(digits: range) -> dict[str, bytes]:
    """Encode the images of some digits as PNG files.

    Returns:
        The bytes of each file by its relative path, the label and the index in the data set: "1/0042.png".
    """
    samples = load_digits()
    return {
        f"{label}/{index:04d}.png": _encode_png(pixels)
        for index, (label, pixels) in enumerate(zip(samples.target, samples.images, strict=True))
        if label in digits
    }


def _encode_png(pixels: np.ndarray) -> bytes:
    _, encoded = cv2.imencode(".png", np.rint(pixels * 255 / 16).astype(np.uint8))
    return encoded.tobytes()


def _check_same(out: Path, images: dict[str, bytes]) -> None:
    """Accept a folder from an earlier run; never mix with other files."""
    present = {path.relative_to(out).as_posix(): path for path in out.rglob("*") if path.is_file()}
    if present.keys() != images.keys() or any(present[name].read_bytes() != images[name] for name in images):
        sys.exit(f"{out} holds other files than these digits. Remove it or choose another folder.")


def _write(out: Path, images: dict[str, bytes]) -> None:
    """Write aside and rename: a folder with the final name is complete."""
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        for name, png in images.items():
            (beside / name).parent.mkdir(exist_ok=True)
            (beside / name).write_bytes(png)
        beside.chmod(0o755)  # mkdtemp makes a folder that nobody else may read
        beside.rename(out)
    except BaseException:
        shutil.rmtree(beside)
        raise


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Write scikit-learn's handwritten digits as PNG files.")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write, with a folder per digit")
    parser.add_argument(
        "--digits", type=_parse_digits, default="0-9", help="first and last digit (default: %(default)s)"
    )
    return parser.parse_args()


def _parse_digits(text: str) -> range:
    """Parse a range such as 5-9.

    >>> list(_parse_digits("5-9"))
    [5, 6, 7, 8, 9]
    """
    if not re.fullmatch("[0-9]-[0-9]", text) or text[0] > text[2]:
        raise argparse.ArgumentTypeError(f"expected a range such as 5-9, received {text!r}")
    return range(int(text[0]), int(text[2]) + 1)


if __name__ == "__main__":
    main()

"""A window with the frames of videos and cameras, and what is said of them."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import cv2
import numpy as np

from fastcls.data.video import Frame
from fastcls.errors import OptionError
from fastcls.inference.inputs import Images, Single, each

_LARGEST = 1280, 720  # pixels of a frame, width and height
_LEAST_TEXT = 320  # pixels, its width
_REMEDY = "Leave --show away: the lines that are printed say the same"


class Window:
    """Shows frames one by one. The user ends it with q, Escape or by closing it.

    Args:
        title: What stands above it.

    Attributes:
        is_open: Whether it is still there.

    Raises:
        OptionError: There is no display, or this Python has no Tk.
    """

    def __init__(self, title: str) -> None:
        tk = _tkinter()
        try:
            self._root = tk.Tk(className="fastcls")
        except tk.TclError as error:
            raise OptionError(f"--show needs a display ({error}). {_REMEDY}") from error
        self._tk, self.is_open = tk, True
        self._pixels: dict[str, np.ndarray] = {}
        self._root.title(title)
        self._root.resizable(width=False, height=False)  # it is as large as the frames
        self._root.protocol("WM_DELETE_WINDOW", self._end)
        for key in ("<Escape>", "q"):
            self._root.bind(key, self._end)
        self._picture = tk.Label(self._root, borderwidth=0)
        self._text = tk.Label(
            self._root, font=("TkDefaultFont", 16), justify="left", anchor="w", padx=12, pady=8
        )
        self._picture.pack()
        self._text.pack(fill="x")

    def kept(self, images: Images) -> Iterator[Single]:
        """The single images, of which frames are kept until they are shown."""
        for image in each(images):
            if isinstance(image, Frame) and image.pixels is not None:
                self._pixels[image.name] = image.pixels
            yield image

    def show(self, name: str, text: str) -> None:
        """Show a frame that was kept, and a text below it; other images are not shown."""
        pixels = self._pixels.pop(name, None)
        if pixels is not None:
            frame = self._tk.PhotoImage(data=_ppm(pixels), format="PPM")
            self._picture.configure(image=frame)
            self._picture.image = frame  # Tk does not hold it
            self._text.configure(text=text, wraplength=max(_LEAST_TEXT, frame.width()))
        self._root.update()  # which may close it

    def close(self) -> None:
        """Remove the window."""
        if self.is_open:
            self._end()

    def _end(self, _event: Any = None) -> None:
        self.is_open = False
        self._root.destroy()


def _tkinter() -> ModuleType:
    try:
        import tkinter
    except ImportError as error:
        raise OptionError(
            f"--show needs tkinter, which this Python lacks ({error}). Install it (python3-tk on Debian and "
            f"Ubuntu). {_REMEDY}"
        ) from error
    return tkinter


def _ppm(pixels: np.ndarray) -> bytes:
    """RGB pixels as an image file that Tk reads, no larger than the largest frame."""
    height, width = pixels.shape[:2]
    scale = min(_LARGEST[0] / width, _LARGEST[1] / height, 1)
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    height, width = pixels.shape[:2]
    return b"P6 %d %d 255 " % (width, height) + np.ascontiguousarray(pixels).tobytes()

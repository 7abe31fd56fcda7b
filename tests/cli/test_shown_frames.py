"""`fastcls predict --show`: frames in a window, by a Tk that has no display."""

import sys
import types

import cv2
import numpy as np
import pytest
from video_support import COLORS, FRAME


def fake_tk(ends_after=None):
    """Tkinter, as far as a window needs it, with what was shown; the user ends it after some pictures."""
    module = types.ModuleType("tkinter")
    module.shown, module.is_there = [], True
    now, keys = {}, {}

    class Widget:
        def __init__(self, *_parent, **_options):
            pass

        def pack(self, **_options):
            pass

        def configure(self, *, image=None, text=None, wraplength=0):
            now.update({"image": image} if image else {"text": text})

    class Tk(Widget):
        def title(self, text):
            now["title"] = text

        def resizable(self, **_which):
            pass

        def protocol(self, name, function):
            keys[name] = function

        bind = protocol

        def update(self):
            assert module.is_there
            module.shown.append((now["image"].pixels, now["text"], now["title"]))
            if len(module.shown) == ends_after:
                keys["q"](None)

        def destroy(self):
            assert module.is_there
            module.is_there = False

    class PhotoImage:
        def __init__(self, *, data, format):
            assert format == "PPM"
            self.pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)

        def width(self):
            return self.pixels.shape[1]

    module.TclError = type("TclError", (Exception,), {})
    module.Label, module.Tk, module.PhotoImage = Widget, Tk, PhotoImage
    return module


@pytest.mark.parametrize("ends_after", [None, 3])
def test_show__each_frame_with_its_classes_until_the_user_ends_it(
    ends_after, fastcls, trained, clip, monkeypatch
):
    tk = fake_tk(ends_after)
    monkeypatch.setitem(sys.modules, "tkinter", tk)
    asked = ("predict", trained.run, clip, "--top-k", 2)
    result = fastcls(*asked, "--show")
    lines = fastcls(*asked).out.splitlines()[:ends_after]
    assert result.code == 0 and result.err == "" and not tk.is_there
    assert result.out.splitlines() == lines and len(tk.shown) == len(lines) == (ends_after or 6)
    for number, ((pixels, text, title), line) in enumerate(zip(tk.shown, lines, strict=True)):
        bgr = list(COLORS.values())[number // 2]
        assert pixels.shape == FRAME and np.abs(pixels.mean((0, 1)) - bgr[::-1]).max() < 3
        assert line == f"{clip}#frame={number}: {text}".replace("\n", ", ") and str(trained.run) in title


def test_show__large_frames_are_made_smaller():
    from fastcls.inference.window import _ppm

    pixels = np.zeros((2160, 3840, 3), np.uint8)
    assert _ppm(pixels).startswith(b"P6 1280 720 255 ")
    assert _ppm(pixels[:, :1000]).startswith(b"P6 333 720 255 ")


def test_show__needs_a_display_tk_and_frames(fastcls, clip, photos, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    tk = fake_tk()

    def fail(**_options):
        raise tk.TclError("no display name")

    tk.Tk = fail
    monkeypatch.setitem(sys.modules, "tkinter", tk)
    blind = fastcls("predict", "no such run", clip, "--show")
    assert blind.code == 1 and "--show needs a display (no display name). Leave --show away" in blind.err
    monkeypatch.setitem(sys.modules, "tkinter", None)
    without = fastcls("predict", "no such run", clip, "--show")
    assert without.code == 1 and "--show needs tkinter, which this Python lacks" in without.err
    still = fastcls("predict", "no such run", photos, "--show")
    assert still.code == 1 and "--show has no effect with images: it is for videos and cameras" in still.err

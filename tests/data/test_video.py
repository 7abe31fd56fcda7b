"""Frames of videos and cameras."""

import re

import cv2
import numpy as np
import pytest

from fastcls.data import video
from fastcls.data.video import Camera, Video, is_video
from fastcls.errors import DataError, OptionError

COLORS = [(200, 30, 40), (20, 210, 30), (30, 40, 190)]  # RGB
LENGTH = 9


def write(path, colors, fps=10):
    """Frames of one color each, given as RGB."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), fps, (64, 48))
    for color in colors:
        writer.write(np.full((48, 64, 3), color[::-1], np.uint8))
    writer.release()


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "clip.avi"
    write(path, [COLORS[number % 3] for number in range(LENGTH)])
    return path


@pytest.mark.parametrize("every", [1, 2, 4, 100])
def test_video__gives_every_nth_frame_in_rgb_with_its_time(clip, every):
    frames = list(Video(clip, every))
    numbers = range(0, LENGTH, every)
    assert [frame.name for frame in frames] == [f"{clip}#frame={number}" for number in numbers]
    assert [frame.seconds for frame in frames] == pytest.approx([number / 10 for number in numbers])
    for number, frame in zip(numbers, frames, strict=True):
        assert frame.pixels.shape == (48, 64, 3) and frame.pixels.dtype == np.uint8 and not frame.reason
        np.testing.assert_allclose(frame.pixels.mean((0, 1)), COLORS[number % 3], atol=6)


def test_video__that_cannot_be_read_is_one_frame_with_the_reason(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video\n" * 500)
    for name, reason in (("empty.mp4", "no frame"), ("text.mp4", "no frame"), ("none.mp4", "No such file")):
        (frame,) = Video(tmp_path / name)
        assert frame.pixels is None and reason in frame.reason and frame.name == str(tmp_path / name)


def test_video__that_ends_early_is_told(tmp_path, caplog):
    path = tmp_path / "clip.avi"
    write(path, [(0, 0, 200)] * 60)
    assert len([*Video(path)]) == 60 and not caplog.text
    next(iter(Video(path)))  # who stops early is told nothing
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert 0 < len([*Video(path)]) < 40
    assert re.fullmatch(r".*clip\.avi ends after \d\d of about 60 frames: .*\n", caplog.text)


def test_is_video__goes_by_the_suffix():
    assert [is_video(name) for name in ("a.MP4", "b/c.webm", "d.gif", "mp4")] == [True, True, False, False]


class FakeCapture:
    """A camera that ends after some frames, as one that is unplugged."""

    def __init__(self, source, count=5):
        self.left, self.is_released, self.is_there = count, False, source == 0

    def isOpened(self):  # noqa: N802
        return self.is_there

    def grab(self):
        self.left -= 1
        return self.left >= 0

    def retrieve(self):
        return True, np.full((4, 6, 3), (1, 2, 3), np.uint8)

    def release(self):
        self.is_released = True


def test_camera__gives_frames_until_it_ends(monkeypatch):
    monkeypatch.setattr(video.cv2, "VideoCapture", FakeCapture)
    camera = Camera(0, every=2)
    *frames, end = camera
    assert [frame.name for frame in frames] == ["camera:0#frame=0", "camera:0#frame=2", "camera:0#frame=4"]
    assert all(frame.pixels[0, 0].tolist() == [3, 2, 1] and frame.seconds is None for frame in frames)
    assert (end.name, end.pixels, end.reason) == ("camera:0", None, "the camera gives no more pictures")
    assert camera._capture.is_released


def test_camera__that_is_not_there(monkeypatch):
    monkeypatch.setattr(video.cv2, "VideoCapture", FakeCapture)
    with pytest.raises(DataError, match="Camera 3 cannot be opened"):
        Camera(3)
    with pytest.raises(OptionError, match="every must be a whole number, 1 or more"):
        Camera(0, every=0)

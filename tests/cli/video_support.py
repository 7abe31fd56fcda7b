"""A video of plain frames."""

import cv2
import numpy as np

COLORS = {"blue": (200, 90, 90), "green": (90, 200, 90), "red": (90, 90, 200)}  # BGR
FRAME = (48, 32, 3)


def write_clip(path):
    """Six frames: two blue, two green, two red."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (FRAME[1], FRAME[0]))
    for color in COLORS.values():
        for _ in range(2):
            writer.write(np.full(FRAME, color, np.uint8))
    writer.release()
    return path

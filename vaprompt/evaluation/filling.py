"""Where windows end when some frames have no picture, and where those frames' values come from.

Axes: F frames of a video, N frames with a picture, W windows; the last axis 2 is valence, arousal.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64

from vaprompt.windows import TOLERANCE, grid_ends, interpolate

Fill = Literal["interpolate", "previous", "nearest"]
"""From both neighbours that have a picture, by time; from the one before; from the nearest in time."""


def picture_ends(
    image_time_N: Float64[np.ndarray, "N"], last: float, *, seconds: float, stride: float, every: int | None
) -> Float64[np.ndarray, "W"]:
    """Return windows' ends, all of them at frames with a picture, the first and the last such frame included.

    Args:
        image_time_N: seconds, ascending, of the frames that have a picture.
        last: time of the video's last frame.
        seconds: a window's length.
        stride: seconds between ends, where `every` is None; an end moves back to the last picture before it.
        every: every so many frames that have a picture.
    """
    rows = np.arange(len(image_time_N))
    if every is not None:
        chosen = rows[::every]
    else:
        grid_W = grid_ends(last, seconds=seconds, stride=stride, padded=True)
        chosen = np.maximum(np.searchsorted(image_time_N, grid_W + TOLERANCE, side="right") - 1, 0)
    return image_time_N[np.union1d(chosen, rows[[0, -1]])]


def fill_frames(
    time_N: Float64[np.ndarray, "N"], value_N2: Float32[np.ndarray, "N 2"], time_F: Float64[np.ndarray, "F"], fill: Fill
) -> Float32[np.ndarray, "F 2"]:
    """Return a value for every frame from those of the frames that have one.

    Before the first frame with a picture, its value is held.
    """
    if fill == "interpolate":
        return interpolate(time_N, value_N2, time_F)
    before_F = np.clip(np.searchsorted(time_N, time_F + TOLERANCE, side="right") - 1, 0, len(time_N) - 1)
    if fill == "previous":
        return value_N2[before_F]
    after_F = np.minimum(before_F + 1, len(time_N) - 1)
    nearer_F = np.abs(time_N[after_F] - time_F) < np.abs(time_F - time_N[before_F])
    return value_N2[np.where(nearer_F, after_F, before_F)]

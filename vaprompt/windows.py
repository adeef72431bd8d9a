"""Training and test windows as index arrays into a video's cached features.

A window is causal: it ends at a time `end` and looks back `seconds`. Its label is that of the frame on screen
at its end, never of one after it. Image steps are taken among the frames that exist; sound is the last cached
audio window that ends at or before `end`.

Axes: W windows, T image steps of a window, F frames of the video, N image embeddings, A cached audio windows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64
from pydantic import Field

from vaprompt.recipes import Recipe

TOLERANCE = 1e-6
"""Seconds by which two times may differ and still be the same; far below any frame's duration."""


class WindowRecipe(Recipe):
    """How much of the past one prediction sees."""

    seconds: float = Field(10.0, gt=0, le=600)
    """Length of a window (paper: 10 s)."""
    stride: float = Field(3.0, gt=0, le=600)
    """Time between the ends of successive windows, in seconds (released code: 3 s)."""
    frames: int = Field(20, ge=1, le=2000)
    """Image steps in a window, evenly spaced over the frames that exist in it (released code: 20)."""


@dataclass(frozen=True)
class Windows:
    """Windows of one video."""

    end_W: Float64[np.ndarray, "W"]
    """When each window ends, in seconds from the first frame."""
    target_W: Int64[np.ndarray, "W"]
    """Index (from 0) of the frame on screen at the end: row of the label."""
    image_WT: Int64[np.ndarray, "W T"]
    """Rows of the image embeddings, ascending."""
    audio_W: Int64[np.ndarray, "W"]
    """Row of the audio embeddings."""
    whole_W: Bool[np.ndarray, "W"]
    """True where the window begins at or after the first frame, and holds at least one image."""

    def keep(self, wanted_W: Bool[np.ndarray, "W"]) -> Windows:
        """Return only the windows that are wanted."""
        return Windows(
            self.end_W[wanted_W],
            self.target_W[wanted_W],
            self.image_WT[wanted_W],
            self.audio_W[wanted_W],
            self.whole_W[wanted_W],
        )


def grid_ends(last: float, *, seconds: float, stride: float, padded: bool) -> Float64[np.ndarray, "W"]:
    """Return the ends `seconds + k * stride` up to `last`, in seconds.

    Args:
        last: time of the video's last frame.
        seconds: a window's length.
        stride: time between ends.
        padded: also the ends before `seconds`, the first frame's time 0 and `last` itself, so that every
            frame lies between two ends.
    """
    first = int(np.ceil((-seconds + TOLERANCE) / stride)) if padded else 0
    count = int(np.floor((last - seconds + TOLERANCE) / stride))
    end_W = seconds + stride * np.arange(first, count + 1, dtype=np.float64)
    if padded:
        end_W = np.unique(np.concatenate(([0.0], end_W[end_W > TOLERANCE], [last])))
        end_W = end_W[np.diff(end_W, prepend=-np.inf) > TOLERANCE]
    return end_W


def dense_ends(
    time_F: Float64[np.ndarray, "F"], *, seconds: float, stride: float, every: int | None
) -> Float64[np.ndarray, "W"]:
    """Return where windows end so that every frame has a prediction or lies between two.

    Args:
        time_F: every frame's time in seconds.
        seconds: a window's length.
        stride: seconds between ends, where `every` is None.
        every: 1 ends a window at every frame, n at every nth; the last frame always has one.
    """
    if every is None:
        return grid_ends(float(time_F[-1]), seconds=seconds, stride=stride, padded=True)
    chosen_W: np.ndarray = time_F[np.union1d(np.arange(0, len(time_F), every), [len(time_F) - 1])]
    return chosen_W


def describe_ends(stride: float, every: int | None, unit: str = "frame") -> str:
    """Return in words where windows end and what fills the frames between, `every` counting so many units."""
    if every is None:
        return f"windows end every {stride:g} s; frames between by time"
    if every == 1:
        return f"a window ends at every {unit}" + ("; nothing is interpolated" if unit == "frame" else "")
    return f"windows end every {every} {unit}s; frames between by time"


def cut_windows(
    end_W: Float64[np.ndarray, "W"],
    *,
    time_F: Float64[np.ndarray, "F"],
    image_time_N: Float64[np.ndarray, "N"],
    audio_end_A: Float64[np.ndarray, "A"],
    seconds: float,
    frames: int,
) -> Windows:
    """Return the windows that end at the given times.

    Where a window holds no image, the last one before it (or the video's first) is repeated; where it begins
    before 0 s, the first image fills the missing part at the video's mean rate. Rounding is to the even neighbour.

    Args:
        end_W: ends in seconds, none before the first frame.
        time_F: every frame's time, ascending from 0.
        image_time_N: times of the frames that have an embedding, ascending; at least one.
        audio_end_A: ends of the cached audio windows, ascending, the first at or before 0.
        seconds: a window's length.
        frames: T.
    """
    target_W = np.searchsorted(time_F, end_W + TOLERANCE, side="right") - 1
    low_W = np.searchsorted(image_time_N, end_W - seconds + TOLERANCE, side="right")
    high_W = np.searchsorted(image_time_N, end_W + TOLERANCE, side="right")
    begin_W = end_W - seconds
    duration = float(time_F[-1] - time_F[0]) if len(time_F) > 1 else 0.0
    rate = (len(image_time_N) - 1) / duration if duration > 0 else 0.0
    padding_W = np.rint(np.maximum(-begin_W, 0) * rate).astype(np.int64)

    count_W = high_W - low_W
    share_T = np.linspace(0, 1, frames) if frames > 1 else np.ones(1)
    position_WT = np.rint(share_T * np.maximum(count_W + padding_W - 1, 0)[:, None]).astype(np.int64)
    image_WT = low_W[:, None] + np.maximum(position_WT - padding_W[:, None], 0)
    image_WT = np.clip(image_WT, 0, np.maximum(high_W - 1, 0)[:, None])

    audio_W = np.maximum(np.searchsorted(audio_end_A, end_W + TOLERANCE, side="right") - 1, 0)
    whole_W = (begin_W >= -TOLERANCE) & (count_W > 0)
    return Windows(end_W, target_W.astype(np.int64), image_WT.astype(np.int64), audio_W.astype(np.int64), whole_W)


def interpolate(
    end_W: Float64[np.ndarray, "W"], prediction_W2: np.ndarray, time_F: Float64[np.ndarray, "F"]
) -> np.ndarray:
    """Return a prediction for every frame: linear in time between the nearest windows' ends, held beyond them.

    The nearer neighbour gets the greater weight.
    """
    columns = [np.interp(time_F, end_W, prediction_W2[:, axis].astype(np.float64)) for axis in (0, 1)]
    return np.stack(columns, axis=1).astype(np.float32)

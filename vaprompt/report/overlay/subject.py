"""What a prediction says of one person at one moment.

Axes: F frames of a video, W windows, K regions, D looks at a face, P points; the last axis 2 is valence, arousal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64

from vaprompt.prediction.predict import PredictedVideo

TAIL = 3.0
"""Seconds of the tail behind a point on the plane."""
TAIL_POINTS = 40


@dataclass(frozen=True)
class Subject:
    """A person whose face was found, or the whole picture."""

    video: PredictedVideo
    name: str
    mark: str
    """The short text that tells people apart; empty where there is one."""
    colour: str

    @cached_property
    def there_F(self) -> Bool[np.ndarray, "F"]:
        """For each frame whether the face is there; whole pictures always are."""
        if self.video.track is None or self.video.face_F is None:
            return np.ones(len(self.video.time_F), dtype=np.bool_)
        return self.video.face_F

    def regions_K(self, time: float) -> Float32[np.ndarray, "K"]:
        """Return each region's probability, between the ends of windows on a straight line."""
        end_W, region_WK = self.video.end_W, self.video.windows.region_WK
        low = int(np.clip(np.searchsorted(end_W, time, side="right") - 1, 0, len(end_W) - 1))
        high = min(low + 1, len(end_W) - 1)
        span = end_W[high] - end_W[low]
        share = 0.0 if span <= 0 else min(max((time - end_W[low]) / span, 0.0), 1.0)
        between_K: Float32[np.ndarray, "K"] = (1 - share) * region_WK[low] + share * region_WK[high]
        return between_K.astype(np.float32)

    def tail_P2(self, index: int) -> Float[np.ndarray, "P 2"]:
        """Return where the point was in the last seconds, the oldest first, its own place last."""
        time_F = self.video.time_F
        first = int(np.searchsorted(time_F, time_F[index] - TAIL))
        step = max(1, (index - first) // TAIL_POINTS)
        # From the end, so that the tail does not jump from frame to frame.
        return self.video.value_F2[first : index + 1][::-1][::step][::-1]

    def corners_42(self, time: float) -> Float64[np.ndarray, "4 2"] | None:
        """Return the corners of what the network saw of the face, in widths of the picture; None for whole frames."""
        if self.video.track is None:
            return None
        x, y, size, angle = self.video.track.placement(time)
        half = math.exp(size) * self.video.margin / 2
        turn = half * complex(math.cos(angle), math.sin(angle))
        corner_4 = complex(x, y) + turn * np.array([-1 - 1j, 1 - 1j, 1 + 1j, -1 + 1j])
        return np.stack((corner_4.real, corner_4.imag), axis=1)

"""The two time grids of a store: where audio windows end, and which frames are encoded.

Axes: W audio windows, N frames, M frames that are encoded.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float64, Int64


def audio_ends(last: float, *, window: float, hop: float) -> Float64[np.ndarray, "W"]:
    """Return where audio windows end, in seconds from the first frame, ascending.

    The ends are `window + k * hop` for whole k; the first is the greatest that is not after 0 s (pure silence, what
    is known at the first frame), the last the greatest that is not after the last frame. So every frame has a
    window that ends at or before it: sound is causal.

    Args:
        last: time of the video's last frame, in seconds.
        window: length of a window in seconds.
        hop: seconds from one end to the next.
    """
    tolerance = 1e-9  # ends such as 10 - 100 * 0.1 are 0 but for rounding
    first = math.floor(-window / hop + tolerance)
    count = math.floor((last - window) / hop + tolerance) - first + 1
    return np.round(window + (first + np.arange(count, dtype=np.float64)) * hop, 9)


def frames_at_rate(time_N: Float64[np.ndarray, "N"], rate: float) -> Int64[np.ndarray, "M"]:
    """Return the indices of the frames nearest to 0, 1/rate, 2/rate, ... seconds, ascending, each once.

    Args:
        time_N: the frames' times in seconds, ascending, at least one.
        rate: frames wanted a second; where the video has fewer, all of them are taken.
    """
    point_M = np.arange(math.floor(float(time_N[-1]) * rate + 1e-9) + 1) / rate
    after_M = np.clip(np.searchsorted(time_N, point_M), 1, max(1, len(time_N) - 1))
    before_M = after_M - 1
    after_M = np.minimum(after_M, len(time_N) - 1)
    # Halfway between two frames the earlier is taken: it is the one that is known by then.
    nearer_M = np.where(time_N[after_M] - point_M < point_M - time_N[before_M], after_M, before_M)
    return np.unique(nearer_M)

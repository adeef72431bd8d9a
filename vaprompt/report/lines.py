"""Lines over time in pictures: no peak and no single frame of them is lost.

Axes: F frames of a video, C columns of a picture, P points of a line.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64
from matplotlib.axes import Axes

from vaprompt.report.pages import packing

COLUMNS = 900
"""Least and greatest value of each make a line's points: more than a printed column has dots."""
MOST_POINTS = 2 * COLUMNS
SINGLE = 1.0
"""Seconds that the axis of a single frame shows."""


def draw_line(
    panel: Axes, time_F: Float64[np.ndarray, "F"], value_F: Float[np.ndarray, "F"], *, color: str, linewidth: float
) -> None:
    """Draw a line over time from the left edge of a panel to its right one.

    Args:
        panel: to draw on.
        time_F: seconds from the first frame, ascending.
        value_F: nan where there is nothing. What has nothing on both sides would be no line, and is a dot.
        color: of line and dots.
        linewidth: in points.
    """
    time_P, value_P = thinned(time_F, value_F)
    panel.plot(time_P, value_P, color=color, linewidth=linewidth)
    lone_P = _lone(value_P, places=2 if len(value_F) > MOST_POINTS else 1)
    # A dot at the edge is whole and before the axis; the layout makes no room for it, least of all where there is none.
    size = max(2.0, 1.4 * linewidth)
    looks: dict[str, Any] = {"markersize": size, "markeredgewidth": 0, "clip_on": False, "zorder": 3}
    panel.plot(time_P[lone_P], value_P[lone_P], "o", color=color, in_layout=False, **looks)
    panel.margins(x=0)
    if time_F[0] == time_F[-1]:
        panel.set_xlim(0, max(SINGLE, time_F[-1]))


def thinned(time_F: np.ndarray, value_F: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a trace of no more points than can be told apart, least and greatest of each place, so no peak is lost."""
    if len(value_F) <= MOST_POINTS:
        return time_F, value_F
    low_C, high_C = packing.extremes(value_F, COLUMNS)
    first_C = -(-np.arange(COLUMNS) * len(value_F) // COLUMNS)
    return np.repeat(time_F[first_C], 2), np.stack((low_C, high_C), axis=1).ravel()


def _lone(value_P: Float[np.ndarray, "P"], places: int) -> Bool[np.ndarray, "P"]:
    """Return which points have nothing on either side, where every `places` of them are of the same frames."""
    known_C = np.isfinite(value_P[::places])
    padded_C = np.concatenate(([False], known_C, [False]))
    return np.repeat(known_C & ~padded_C[:-2] & ~padded_C[2:], places)

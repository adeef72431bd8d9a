"""The times of a file's rows: those of its frames or, where it holds sound alone, so many a second.

Labels and predictions are told row by row. A video has a row for each frame; sound has no frames, so that whoever
annotated it has decided how many rows a second there are.

Axes: F rows of a file.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from vaprompt.errors import MediaError
from vaprompt.media.audio import sound_extent
from vaprompt.media.container import has_moving_pictures, opened
from vaprompt.media.limits import MOST_FRAMES
from vaprompt.media.patience import Pulse, patiently
from vaprompt.media.video import frame_times

FEW_ROWS, FEW_SHARE = 10, 0.01
"""Counts that differ by no more than one of these still belong together (conventions of Aff-Wild2)."""


def has_picture(path: Path) -> bool:
    """Say whether a file has moving pictures; the cover of a piece of music is none.

    Raises:
        MediaError: the file is missing or is not media.
    """

    def work(pulse: Pulse) -> bool:
        with opened(path) as container:
            return has_moving_pictures(container)

    return patiently(path, work)


def row_times(
    path: Path,
    rate: float | None = None,
    reached: Callable[[float], None] = lambda seconds: None,
    annotated: int | None = None,
) -> Float64[np.ndarray, "F"]:
    """Return the time of every row of a file, in seconds from the first.

    Args:
        path: a video, whose frames say it, or a file of sound alone.
        rate: rows a second of sound alone.
        reached: told how far it is, in seconds, in another thread.
        annotated: rows of an annotation that has one for each; sound has as many, if it is about so long.

    Raises:
        MediaError: the file cannot be decoded, or holds sound alone and no rate is given.
    """
    if has_picture(path):
        return frame_times(path, reached)
    if rate is None:
        fault = "has no moving pictures, so it is not known at which times its rows are"
        raise MediaError(path, fault=fault, remedy="give a video, or set `rate` in the data set's description")
    extent = sound_extent(path)
    if extent is None:
        raise MediaError(path, fault="holds neither pictures nor sound", remedy="give a file that holds one of them")
    reached(extent[1])
    return steady_times(rows_of(extent[1], rate, path, annotated), rate)


def rows_of(seconds: float, rate: float, path: Path, annotated: int | None = None) -> int:
    """Return how many rows sound of this length has: as many as are annotated, if that is about right.

    Else there is one at 0 and at every step before its end.

    Raises:
        MediaError: more than a video may have.
    """
    rows = max(1, math.ceil(seconds * rate - 1e-6))
    if rows > MOST_FRAMES:
        fault = f"has {rows} rows at {rate:g} a second; {MOST_FRAMES} are allowed"
        raise MediaError(path, fault=fault, remedy="cut it into pieces, or lower the rate")
    return rows if annotated is None or abs(rows - annotated) > max(FEW_ROWS, FEW_SHARE * rows) else annotated


def steady_times(rows: int, rate: float) -> Float64[np.ndarray, "F"]:
    """Return the times of so many rows at so many a second, in seconds from the first."""
    return np.arange(rows, dtype=np.float64) / rate

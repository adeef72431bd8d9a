"""Predictions smoothed over time, with a width in seconds, and the choice of filter on the training split alone.

Filters look to both sides, which suits recorded videos; a live prediction could not use them. Beyond a video's
ends its first and last value are held.

Axes: F frames of a video, G steps of a regular grid; the last axis 2 is valence, arousal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float, Float32, Float64
from scipy import ndimage

from vaprompt.errors import RecipeError
from vaprompt.evaluation.protocols import Judged, official
from vaprompt.progress import Task

Kind = Literal["none", "mean", "gaussian", "median"]
WIDTHS = (0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0)
"""Widths in seconds that are tried; the +-50 frames that a strong entry used are 3.4 s at 30 frames a second."""
WIDEST = 600.0
FWHM = 2 * np.sqrt(2 * np.log(2))
"""A Gaussian's full width at half maximum, in standard deviations."""
CUT = 4.0
"""Standard deviations from its middle where a Gaussian ends."""


@dataclass(frozen=True)
class Smoothing:
    """A filter over time."""

    kind: Kind = "none"
    """`mean`: moving average; `gaussian`; `median`: of valence and of arousal apart."""
    seconds: float = 0.0
    """Full width of the window; of the Gaussian, at half of its maximum."""

    def __str__(self) -> str:
        """Return it as the command line takes it: `gaussian:3`."""
        return "none" if self.kind == "none" else f"{self.kind}:{self.seconds:g}"

    @property
    def looks_ahead(self) -> float:
        """Seconds by which a value depends on later ones."""
        return float(CUT * self.seconds / FWHM) if self.kind == "gaussian" else self.seconds / 2


NONE = Smoothing()


def parse_smoothing(text: str) -> Smoothing:
    """Return the filter that a text such as `median:2` names.

    Raises:
        RecipeError: it is none of the kinds, or the width is not a number of seconds above 0.
    """
    kind, _, width = text.partition(":")
    if text == "none":
        return NONE
    try:
        seconds = float(width)
    except ValueError:
        seconds = 0.0
    if kind in get_args(Kind) and kind != "none" and 0 < seconds <= WIDEST:
        return Smoothing(kind, seconds)  # type: ignore[arg-type]
    raise RecipeError(
        f"smoothing '{text}'",
        fault=f"is not none, nor mean, gaussian or median with a width above 0 and up to {WIDEST:g} seconds",
        remedy="write for example gaussian:3",
    )


def smooth(
    time_F: Float64[np.ndarray, "F"], value_F2: Float[np.ndarray, "F 2"], smoothing: Smoothing
) -> Float32[np.ndarray, "F 2"]:
    """Return the values smoothed over time.

    At a steady frame rate the filter runs over the frames themselves: an odd number of them, whose outermost two
    are as far apart as the width, to the nearest frame on each side. At a varying rate it runs over as many steps,
    evenly spaced in time, and the frames take their values from there.

    Args:
        time_F: seconds, ascending.
        value_F2: valence and arousal in [-1, 1].
        smoothing: kind and width.
    """
    duration = float(time_F[-1] - time_F[0])
    if smoothing.kind == "none" or duration <= 0:
        return value_F2.astype(np.float32)
    step = duration / (len(time_F) - 1)
    grid_G = time_F[0] + step * np.arange(len(time_F))
    columns = []
    for axis in (0, 1):
        value_G = np.interp(grid_G, time_F, value_F2[:, axis].astype(np.float64))
        columns.append(np.interp(time_F, grid_G, _filtered(value_G, smoothing, step)))
    return np.stack(columns, axis=1).astype(np.float32)


def _filtered(value_G: Float64[np.ndarray, "G"], smoothing: Smoothing, step: float) -> Float64[np.ndarray, "G"]:
    if smoothing.kind == "gaussian":
        deviation = smoothing.seconds / FWHM / step
        if CUT * deviation < 0.5:  # it ends before the next step; of a far narrower one scipy makes 0 * infinity
            return value_G
        return np.asarray(ndimage.gaussian_filter1d(value_G, deviation, mode="nearest", truncate=CUT))
    half = round(smoothing.seconds / 2 / step)
    size = 2 * half + 1
    if smoothing.kind == "mean":
        return np.asarray(ndimage.uniform_filter1d(value_G, size, mode="nearest"))
    # Padded here, as a window may be longer than the video.
    return np.asarray(ndimage.median_filter(np.pad(value_G, half, mode="edge"), size))[half : half + len(value_G)]


def smoothed(video: Judged, smoothing: Smoothing) -> Judged:
    """Return a video's predictions smoothed; the paper's subset then takes its frames from the smoothed trace."""
    if smoothing.kind == "none":
        return video
    value_F2 = smooth(video.time_F, video.prediction_F2, smoothing)
    return replace(video, prediction_F2=value_F2, subset_prediction_P2=value_F2[video.subset_index_P])


def candidates() -> list[Smoothing]:
    """Return what `tune` tries: no smoothing, and each kind at each width."""
    return [NONE, *(Smoothing(kind, width) for kind in ("mean", "gaussian", "median") for width in WIDTHS)]


def tune(training: Sequence[Judged], task: Task | None = None) -> tuple[Smoothing, list[dict[str, Any]]]:
    """Return the filter with the best official mean CCC on the training split, and what each reached there.

    Of equals the first is taken, so that no filter stays unless one gains.

    Args:
        training: the training split's videos; other splits must not be given, or their scores mean nothing any more.
        task: is advanced by one for each candidate.
    """
    best, reached, table = NONE, -np.inf, []
    for candidate in candidates():
        mean = official([smoothed(video, candidate) for video in training])["mean"]
        table.append({"kind": candidate.kind, "seconds": candidate.seconds, "mean": mean})
        if mean is not None and mean > reached:
            best, reached = candidate, mean
        if task is not None:
            task.advance(1, str(candidate))
    return best, table

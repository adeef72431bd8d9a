"""How far a score would move with other videos: percentile bootstrap over videos, not over frames.

Frames of one video resemble each other, so that resampling frames would give an interval that is far too narrow.
The two people of one video (`X_left`, `X_right`) are drawn together.

Axes: F frames of a video, G source videos, R resamples; the last axis 2 is valence, arousal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from jaxtyping import Float, Float64, Int64

LEVEL = 0.95
RESAMPLES = 2000
SIDES = ("_left", "_right")
DIMENSIONS = ("valence", "arousal", "mean")


class Interval(TypedDict):
    """Between which values the CCC lies; None where it is undefined, as it is with a single source video."""

    valence: list[float] | None
    arousal: list[float] | None
    mean: list[float] | None
    level: float
    """Share of the resamples between the two ends."""
    resamples: int
    videos: int
    """Source videos that were drawn from."""


def source_video(name: str) -> str:
    """Return the video that an annotated person is in: the name less a trailing `_left` or `_right`."""
    for side in SIDES:
        if name.endswith(side) and name != side:
            return name[: -len(side)]
    return name


def interval(
    series: Sequence[tuple[str, Float[np.ndarray, "_ 2"], Float[np.ndarray, "_ 2"]]],
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Return the percentile interval of the pooled CCC over resampled source videos (Efron 1979).

    Args:
        series: name, predictions and labels of each video's scored frames; a name may have no frames.
        level: share of the resamples that the interval holds.
        resamples: how often as many source videos as there are, are drawn with replacement.
        seed: of the drawing; the same gives the same interval.
    """
    resampled, videos = resampled_scores(series, resamples=resamples, seed=seed)
    ends = {dimension: percentiles(ccc_R, level) for dimension, ccc_R in resampled.items()}
    return Interval(
        valence=ends["valence"],
        arousal=ends["arousal"],
        mean=ends["mean"],
        level=level,
        resamples=resamples,
        videos=videos,
    )


def resampled_scores(
    series: Sequence[tuple[str, Float[np.ndarray, "_ 2"], Float[np.ndarray, "_ 2"]]],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[dict[str, Float64[np.ndarray, "R"]], int]:
    """Return the pooled CCC of each resample, nan where undefined, and how many source videos were drawn from.

    The same names, numbers of frames and seed draw the same videos, so that two models' resamples can be compared one
    by one. With fewer than two source videos all is nan.

    Args:
        series: name, predictions and labels of each video's scored frames; a name may have no frames.
        resamples: how often as many source videos as there are, are drawn with replacement.
        seed: of the drawing.
    """
    kept = [(name, prediction_F2, truth_F2) for name, prediction_F2, truth_F2 in series if len(truth_F2)]
    sources = sorted({source_video(name) for name, _, _ in kept})
    if len(sources) < 2:
        return {dimension: np.full(resamples, np.nan) for dimension in DIMENSIONS}, len(sources)
    row = {source: index for index, source in enumerate(sources)}
    drawn_RG = np.random.default_rng(seed).multinomial(len(row), np.full(len(row), 1 / len(row)), size=resamples)
    found = {}
    for axis, dimension in enumerate(DIMENSIONS[:2]):
        pairs = [(row[source_video(name)], x[:, axis], y[:, axis]) for name, x, y in kept]
        found[dimension] = _resampled_ccc(drawn_RG, *_moments(pairs, len(row)))
    found["mean"] = (found["valence"] + found["arousal"]) / 2
    return found, len(sources)


def percentiles(value_R: Float64[np.ndarray, "R"], level: float) -> list[float] | None:
    """Return between which values the middle `level` of the defined resamples lies; None where none is defined."""
    defined = value_R[np.isfinite(value_R)]
    if not len(defined):
        return None
    tail = (1 - level) / 2
    low, high = np.quantile(defined, (tail, 1 - tail)).tolist()
    return [low, high]


def _moments(
    pairs: Sequence[tuple[int, np.ndarray, np.ndarray]], groups: int
) -> tuple[Float64[np.ndarray, "G 6"], float]:
    """Return each group's count and sums of x, y, xx, yy and xy, and the distance of the two centres.

    Both are measured from their means over all frames, so that a large offset costs no digits.
    """
    count = sum(len(x) for _, x, _ in pairs)
    x_centre = sum(float(x.sum(dtype=np.float64)) for _, x, _ in pairs) / count
    y_centre = sum(float(y.sum(dtype=np.float64)) for _, _, y in pairs) / count
    sums_G6 = np.zeros((groups, 6))
    for group, x_raw, y_raw in pairs:
        x, y = x_raw.astype(np.float64) - x_centre, y_raw.astype(np.float64) - y_centre
        sums_G6[group] += (len(x), x.sum(), y.sum(), x @ x, y @ y, x @ y)
    return sums_G6, x_centre - y_centre


def _resampled_ccc(
    drawn_RG: Int64[np.ndarray, "R G"], sums_G6: Float64[np.ndarray, "G 6"], distance: float
) -> Float64[np.ndarray, "R"]:
    """Return the CCC of each resample from the sums alone; nan where it is 0/0."""
    count, x, y, xx, yy, xy = (drawn_RG @ sums_G6).T
    x, y = x / count, y / count
    shared = xy / count - x * y
    spread = (xx / count - x**2) + (yy / count - y**2) + (x - y + distance) ** 2
    # Below this, what is left of two equal constants is rounding.
    return np.where(spread > 1e-15, 2 * shared / np.maximum(spread, 1e-15), np.nan)

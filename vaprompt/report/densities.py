"""Where on the valence-arousal plane truth, predictions and errors lie, and where the truth's places are sent to.

Axes: N frames, B bins of an axis; the last axis 2 is valence, arousal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

BINS = 61
"""Odd, so that zero is in the middle of a bin."""
CELLS = 11
"""Places from which arrows start, along each axis."""
FEWEST = 20
"""Frames that a place needs for its arrow to mean something."""


@dataclass(frozen=True)
class Densities:
    """Counts on the plane; rows are arousal from low to high, columns valence from low to high."""

    truth_BB: Int64[np.ndarray, "B B"]
    prediction_BB: Int64[np.ndarray, "B B"]
    error_BB: Int64[np.ndarray, "B B"]
    """Of prediction less truth, on a plane from -`reach` to `reach`; what is further off is counted at the edge."""
    reach: float
    arrows: list[tuple[float, float, float, float, int]]
    """Mean truth (valence, arousal) of a place, mean prediction there, and how many frames."""
    bias: tuple[float, float]
    spread: tuple[float, float]
    """Mean and standard deviation of the error, in valence and in arousal."""


def densities(prediction_N2: Float[np.ndarray, "N 2"], truth_N2: Float[np.ndarray, "N 2"]) -> Densities:
    """Return the counts of pooled frames; at least one frame."""
    error_N2 = prediction_N2.astype(np.float64) - truth_N2
    reach = float(np.clip(np.ceil(np.percentile(np.abs(error_N2), 99.5) * 10) / 10, 0.2, 2.0))
    return Densities(
        counted(truth_N2, 1.0),
        counted(prediction_N2, 1.0),
        counted(error_N2, reach),
        reach,
        _arrows(prediction_N2, truth_N2),
        (float(error_N2[:, 0].mean()), float(error_N2[:, 1].mean())),
        (float(error_N2[:, 0].std()), float(error_N2[:, 1].std())),
    )


def counted(value_N2: Float[np.ndarray, "N 2"], reach: float) -> Int64[np.ndarray, "B B"]:
    """Return how many points fall in each bin of the plane from -reach to reach; those beyond count at its edge."""
    index_N2 = np.floor((np.clip(value_N2.astype(np.float64), -reach, reach) / reach + 1) / 2 * BINS).astype(np.int64)
    index_N2 = np.minimum(index_N2, BINS - 1)
    flat = np.bincount(index_N2[:, 1] * BINS + index_N2[:, 0], minlength=BINS * BINS)
    return flat.reshape(BINS, BINS).astype(np.int64)


def _arrows(
    prediction_N2: Float[np.ndarray, "N 2"], truth_N2: Float[np.ndarray, "N 2"]
) -> list[tuple[float, float, float, float, int]]:
    cell_N2 = np.minimum(np.floor((np.clip(truth_N2, -1, 1) + 1) / 2 * CELLS).astype(np.int64), CELLS - 1)
    cell_N = cell_N2[:, 1] * CELLS + cell_N2[:, 0]
    count = np.bincount(cell_N, minlength=CELLS * CELLS)
    means = [
        np.bincount(cell_N, weights=value_N2[:, axis].astype(np.float64), minlength=CELLS * CELLS)
        / np.maximum(count, 1)
        for value_N2 in (truth_N2, prediction_N2)
        for axis in (0, 1)
    ]
    return [
        (*(round(float(mean[cell]), 4) for mean in means), int(count[cell]))  # type: ignore[misc]
        for cell in np.flatnonzero(count >= FEWEST)
    ]

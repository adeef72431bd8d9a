"""The concordance correlation coefficient, as the ABAW challenges score it.

Axes: N samples, F frames pooled over all videos.
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from jaxtyping import Float, Shaped

from vaprompt.errors import VapromptError


class MetricError(VapromptError):
    """A score is undefined for what was given."""


class Scores(TypedDict):
    """CCC of valence and arousal over pooled frames; None where it is undefined."""

    valence: float | None
    arousal: float | None
    mean: float | None
    frames: int


def ccc(prediction_N: Shaped[np.ndarray, "..."], truth_N: Shaped[np.ndarray, "..."]) -> float:
    """Return Lin's concordance correlation coefficient (Biometrics 1989), with population variances (ddof 0).

    A constant prediction scores 0 against a truth that varies.

    Args:
        prediction_N: predictions, any real dtype; computed in float64.
        truth_N: what they are compared with, of the same length.

    Raises:
        MetricError: the two differ in length, hold nothing or something not finite, or are both the same
            constant (0/0).
    """
    x_N, y_N = np.asarray(prediction_N, np.float64), np.asarray(truth_N, np.float64)
    if x_N.ndim != 1 or x_N.shape != y_N.shape or not x_N.size:
        raise MetricError(
            None, fault=f"CCC of shapes {x_N.shape} and {y_N.shape}", remedy="give two equally long, non-empty series"
        )
    if not (np.isfinite(x_N).all() and np.isfinite(y_N).all()):
        raise MetricError(None, fault="CCC of values that are not finite", remedy="leave out or mend those frames")
    x_mean, y_mean = x_N.mean(), y_N.mean()
    # A constant's variance is exactly zero, not the rounding error of subtracting its mean.
    x_var = 0.0 if np.ptp(x_N) == 0 else x_N.var()
    y_var = 0.0 if np.ptp(y_N) == 0 else y_N.var()
    if x_var == y_var == 0 and x_N[0] == y_N[0]:
        raise MetricError(
            None, fault="CCC is undefined (0/0): prediction and truth are the same constant", remedy="score more frames"
        )
    covariance = 0.0 if x_var == 0 or y_var == 0 else float(np.mean((x_N - x_mean) * (y_N - y_mean)))
    distance = x_N[0] - y_N[0] if x_var == y_var == 0 else x_mean - y_mean
    return float(2 * covariance / (x_var + y_var + distance**2))


def scores(prediction_F2: Float[np.ndarray, "F 2"], truth_F2: Float[np.ndarray, "F 2"]) -> Scores:
    """Return the CCC of valence (column 0) and arousal (column 1) and their mean, the challenge's P.

    Where a CCC is undefined it is None, and so is the mean: never 1.0 or nan.
    """
    valence, arousal = (_defined(prediction_F2[:, axis], truth_F2[:, axis]) for axis in (0, 1))
    mean = None if valence is None or arousal is None else (valence + arousal) / 2
    return Scores(valence=valence, arousal=arousal, mean=mean, frames=len(truth_F2))


def _defined(prediction_N: np.ndarray, truth_N: np.ndarray) -> float | None:
    if not len(truth_N):
        return None
    try:
        return ccc(prediction_N, truth_N)
    except MetricError as error:
        if "undefined" in error.fault:
            return None
        raise

"""Which frames are scored: all of them, as the challenge does, or the paper's subset.

- `official`: every valid frame of every video, pooled; frames between windows by interpolation in time.
- `paper_subset`: the frames on screen every 3 s from 10 s on, as the authors' released evaluation scores.

Axes: F frames of a video, W windows, P frames pooled over videos; the last axis 2 is valence, arousal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from vaprompt.metrics import Scores, scores
from vaprompt.windows import TOLERANCE, dense_ends, grid_ends, interpolate

SUBSET_FIRST = 10.0
"""Seconds that the paper's subset skips at the start of each video: its window's length."""
SUBSET_STRIDE = 3.0
"""Seconds between the frames that it scores."""

PredictAt = Callable[[Float64[np.ndarray, "W"]], Float[np.ndarray, "W 2"]]
"""Gives predictions for windows that end at the given seconds."""


@dataclass(frozen=True)
class Judged:
    """One video's predictions beside its labels."""

    name: str
    time_F: Float64[np.ndarray, "F"]
    prediction_F2: Float[np.ndarray, "F 2"]
    truth_F2: Float[np.ndarray, "F 2"]
    valid_F: Bool[np.ndarray, "F"]
    subset_prediction_P2: Float[np.ndarray, "P 2"]
    subset_truth_P2: Float[np.ndarray, "P 2"]
    subset_index_P: Int64[np.ndarray, "P"]
    """Which frames, from 0, the subset is of."""


def judge(
    name: str,
    predict_at: PredictAt,
    *,
    time_F: Float64[np.ndarray, "F"],
    truth_F2: Float[np.ndarray, "F 2"],
    valid_F: Bool[np.ndarray, "F"],
    seconds: float,
    stride: float,
    every: int | None = None,
) -> Judged:
    """Predict one video at every stride (or nth frame) and at the subset's frames, and put the labels beside it.

    Args:
        name: the video's.
        predict_at: the model.
        time_F: every frame's time in seconds.
        truth_F2: labels; those that are not valid are ignored.
        valid_F: which labels count.
        seconds: the model's window, which fixes the grid of ends.
        stride: seconds between the ends that are predicted; between them lies interpolation.
        every: frames between those ends, in place of the stride.
    """
    dense_W = dense_ends(time_F, seconds=seconds, stride=stride, every=every)
    subset_W = grid_ends(float(time_F[-1]), seconds=SUBSET_FIRST, stride=SUBSET_STRIDE, padded=False)
    prediction_W2 = predict_at(np.concatenate((dense_W, subset_W)))
    target_W = np.searchsorted(time_F, subset_W + TOLERANCE, side="right") - 1
    scored_W = valid_F[target_W]
    return Judged(
        name,
        time_F,
        interpolate(dense_W, prediction_W2[: len(dense_W)], time_F),
        truth_F2,
        valid_F,
        prediction_W2[len(dense_W) :][scored_W],
        truth_F2[target_W[scored_W]],
        target_W[scored_W],
    )


def official(videos: list[Judged]) -> Scores:
    """Return the CCC over every valid frame of all videos, pooled."""
    return _pooled(official_series(videos))


def paper_subset(videos: list[Judged]) -> Scores:
    """Return the CCC over the paper's subset of frames, pooled."""
    return _pooled(subset_series(videos))


Series = list[tuple[str, np.ndarray, np.ndarray]]
"""Name, predictions and labels of each video's scored frames."""


def official_series(videos: list[Judged]) -> Series:
    """Return each video's valid frames."""
    return [(video.name, video.prediction_F2[video.valid_F], video.truth_F2[video.valid_F]) for video in videos]


def subset_series(videos: list[Judged]) -> Series:
    """Return each video's frames of the paper's subset."""
    return [(video.name, video.subset_prediction_P2, video.subset_truth_P2) for video in videos]


def _pooled(series: Series) -> Scores:
    _, predictions, truths = zip(*series, strict=True)
    return scores(np.concatenate(predictions), np.concatenate(truths))

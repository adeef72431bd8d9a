"""Which frames are scored: all of them, as the challenge does, or the paper's subset.

- `official`: every valid frame of every video, pooled; frames between windows by interpolation in time.
- `paper_subset`: the frames on screen every 3 s from 10 s on, as the authors' released evaluation scores.

Axes: F frames of a video, W windows, P frames pooled over videos; the last axis 2 is valence, arousal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64

from vaprompt.metrics import Scores, scores
from vaprompt.windows import TOLERANCE, grid_ends, interpolate

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


def judge(
    name: str,
    predict_at: PredictAt,
    *,
    time_F: Float64[np.ndarray, "F"],
    truth_F2: Float[np.ndarray, "F 2"],
    valid_F: Bool[np.ndarray, "F"],
    seconds: float,
    stride: float,
) -> Judged:
    """Predict one video at every stride and at the subset's frames, and put the labels beside it.

    Args:
        name: the video's.
        predict_at: the model.
        time_F: every frame's time in seconds.
        truth_F2: labels; those that are not valid are ignored.
        valid_F: which labels count.
        seconds: the model's window, which fixes the grid of ends.
        stride: seconds between the ends that are predicted; between them lies interpolation.
    """
    last = float(time_F[-1])
    dense_W = grid_ends(last, seconds=seconds, stride=stride, padded=True)
    subset_W = grid_ends(last, seconds=SUBSET_FIRST, stride=SUBSET_STRIDE, padded=False)
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
    )


def official(videos: list[Judged]) -> Scores:
    """Return the CCC over every valid frame of all videos, pooled."""
    return _pooled([(video.prediction_F2[video.valid_F], video.truth_F2[video.valid_F]) for video in videos])


def paper_subset(videos: list[Judged]) -> Scores:
    """Return the CCC over the paper's subset of frames, pooled."""
    return _pooled([(video.subset_prediction_P2, video.subset_truth_P2) for video in videos])


def _pooled(pairs: list[tuple[np.ndarray, np.ndarray]]) -> Scores:
    predictions, truths = zip(*pairs, strict=True)
    return scores(np.concatenate(predictions), np.concatenate(truths))

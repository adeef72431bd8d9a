"""Errors under conditions: while a voice is heard, in silence, where no face is seen.

Axes: F frames of a video, G source videos, R resamples; the last axis 2 is valence, arousal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from vaprompt.evaluation.bootstrap import LEVEL, RESAMPLES, percentiles, source_video
from vaprompt.evaluation.protocols import Judged
from vaprompt.metrics import Scores, scores

Flags = Mapping[str, Bool[np.ndarray, "F"]]
"""Of each video for which a condition is known: in which frames it holds."""


@dataclass(frozen=True)
class ConditionError:
    """How far off predictions are in the frames of one condition."""

    name: str
    frames: int
    """Valid frames in which it holds."""
    share: float
    """Of all valid frames of the videos for which the condition is known."""
    rmse: tuple[float, float] | None
    """Root mean squared error of valence and arousal; None without frames."""
    interval: tuple[list[float] | None, list[float] | None]
    """95 % bootstrap interval of each over source videos; None with fewer than two."""
    bias: tuple[float, float] | None
    """Mean of prediction less truth."""
    scores: Scores
    """CCC over these frames, pooled. Its value depends on how much the truth varies in them: RMSE compares better."""


def condition_error(name: str, videos: Sequence[Judged], flags: Flags) -> ConditionError:
    """Return the error in the valid frames in which a condition holds, of the videos for which it is known."""
    groups, errors, truths, predictions, known = [], [], [], [], 0
    for video in videos:
        if video.name not in flags:
            continue
        known += int(video.valid_F.sum())
        chosen_F = video.valid_F & flags[video.name]
        groups.append(source_video(video.name))
        truths.append(video.truth_F2[chosen_F].astype(np.float64))
        predictions.append(video.prediction_F2[chosen_F].astype(np.float64))
        errors.append(predictions[-1] - truths[-1])
    empty = np.zeros((0, 2))
    error_F2 = np.concatenate([empty, *errors])
    frames = len(error_F2)
    found = scores(np.concatenate([empty, *predictions]), np.concatenate([empty, *truths]))
    if not frames:
        return ConditionError(name, 0, 0.0, None, (None, None), None, found)
    rmse_2, bias_2 = np.sqrt(np.mean(error_F2**2, axis=0)), error_F2.mean(axis=0)
    return ConditionError(
        name,
        frames,
        frames / known,
        (float(rmse_2[0]), float(rmse_2[1])),
        _intervals(groups, errors),
        (float(bias_2[0]), float(bias_2[1])),
        found,
    )


def _intervals(groups: Sequence[str], errors: Sequence[np.ndarray]) -> tuple[list[float] | None, list[float] | None]:
    """Return the percentile interval of each dimension's RMSE over resampled source videos that have such frames."""
    names = sorted({group for group, error_F2 in zip(groups, errors, strict=True) if len(error_F2)})
    if len(names) < 2:
        return None, None
    row = {name: index for index, name in enumerate(names)}
    sums_G3 = np.zeros((len(names), 3))
    for group, error_F2 in zip(groups, errors, strict=True):
        if len(error_F2):
            sums_G3[row[group]] += (len(error_F2), *np.square(error_F2).sum(axis=0))
    drawn_RG = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES)
    count, valence, arousal = (drawn_RG @ sums_G3).T
    return percentiles(np.sqrt(valence / count), LEVEL), percentiles(np.sqrt(arousal / count), LEVEL)

"""Whether one model is better than another: both scored on the same frames, over the same resampled videos.

Two models' scores move together when other videos are drawn, since what is hard for one is hard for the other. So the
difference has a far narrower interval than the two scores would suggest.

Axes: F frames of a video, R resamples; the last axis 2 is valence, arousal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np
from jaxtyping import Float, Float64

from vaprompt.errors import RunError
from vaprompt.evaluation.bootstrap import DIMENSIONS, LEVEL, RESAMPLES, percentiles, resampled_scores
from vaprompt.metrics import scores

Scored = Sequence[tuple[str, Float[np.ndarray, "_ 2"], Float[np.ndarray, "_ 2"]]]
"""Name, predictions and labels of each video's scored frames."""


class Contrast(TypedDict):
    """One score of the second model less that of the first."""

    difference: float | None
    """None where a score is undefined."""
    interval: list[float] | None
    """Percentile interval over resampled source videos; None with fewer than two of them."""
    above: float | None
    """Share of the resamples in which the second is better, equal ones counted by half."""


class Contrasts(TypedDict):
    """The differences in pooled CCC."""

    valence: Contrast
    arousal: Contrast
    mean: Contrast
    level: float
    resamples: int
    videos: int
    """Source videos that were drawn from."""


def paired_difference(
    first: Scored, second: Scored, *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> Contrasts:
    """Return by how much the second model's pooled CCC is above the first's, with paired bootstrap intervals.

    Args:
        first: the model that is compared with.
        second: the other one, on the same frames of the same videos.
        level: share of the resamples that an interval holds.
        resamples: how often as many source videos as there are, are drawn with replacement.
        seed: of the drawing.

    Raises:
        RunError: the two were not scored on the same frames, or against other labels; it says where.
    """
    reason = why_not_comparable(first, second)
    if reason is not None:
        raise RunError(None, fault=f"the runs cannot be compared: {reason}", remedy="evaluate both on one store")
    order = {name: index for index, (name, _, _) in enumerate(first)}
    second = sorted(second, key=lambda item: order[item[0]])
    drawn = [resampled_scores(model, resamples=resamples, seed=seed) for model in (first, second)]
    pooled = [pooled_scores(model) for model in (first, second)]
    return contrasts_of([ccc for ccc, _ in drawn], pooled, level=level, resamples=resamples, videos=drawn[0][1])


def contrasts_of(
    drawn: Sequence[Mapping[str, Float64[np.ndarray, "R"]]],
    ends: Sequence[Mapping[str, float | None]],
    *,
    level: float,
    resamples: int,
    videos: int,
) -> Contrasts:
    """Return by how much the second of two models is better than the first.

    Args:
        drawn: of each model, the CCC of each dimension in each of R resamples; nan where it is undefined.
        ends: of each model, the CCC of each dimension over all; None where it is undefined.
        level: share of the resamples that an interval holds.
        resamples: R.
        videos: source videos that were drawn from.
    """
    found = {}
    for dimension in DIMENSIONS:
        change_R = drawn[1][dimension] - drawn[0][dimension]
        known_R = change_R[np.isfinite(change_R)]
        before, after = (one[dimension] for one in ends)
        found[dimension] = Contrast(
            difference=None if before is None or after is None else after - before,
            interval=percentiles(change_R, level),
            above=float(np.mean(known_R > 0) + np.mean(known_R == 0) / 2) if len(known_R) else None,
        )
    return Contrasts(
        valence=found["valence"],
        arousal=found["arousal"],
        mean=found["mean"],
        level=level,
        resamples=resamples,
        videos=videos,
    )


def why_not_comparable(first: Scored, second: Scored) -> str | None:
    """Return in words why two models' scores are not about the same frames; None where they are."""
    one = {name: truth_F2 for name, _, truth_F2 in first}
    other = {name: truth_F2 for name, _, truth_F2 in second}
    alone = sorted(set(one) ^ set(other))
    if alone:
        return f"{len(alone)} videos are scored in one of them only, such as '{alone[0]}'"
    for name, truth_F2 in one.items():
        if len(truth_F2) != len(other[name]):
            return f"{len(truth_F2)} frames of '{name}' are scored in one and {len(other[name])} in the other"
        if not np.array_equal(truth_F2, other[name]):
            return f"the labels of '{name}' differ"
    return None


def pooled_scores(series: Scored) -> dict[str, float | None]:
    """Return the CCC over all frames of a model's videos, pooled."""
    if not series:
        return dict.fromkeys(DIMENSIONS)
    _, predictions, truths = zip(*series, strict=True)
    found = scores(np.concatenate(predictions), np.concatenate(truths))
    return {"valence": found["valence"], "arousal": found["arousal"], "mean": found["mean"]}

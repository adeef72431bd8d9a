"""Several runs of one variant, which differ in the seed alone: their mean and spread, and whether two variants differ.

A difference counts if it is more than what other videos and other seeds would make of it: both are drawn again with
replacement, the same videos for both variants.

Axes: S seeds, R resamples; the last axis 2 is valence, arousal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from jaxtyping import Float64

from vaprompt.errors import RunError
from vaprompt.evaluation.bootstrap import DIMENSIONS, LEVEL, RESAMPLES, resampled_scores
from vaprompt.evaluation.paired import Contrast, Contrasts, Scored, contrasts_of, pooled_scores, why_not_comparable


class Spread(TypedDict):
    """Scores of several seeds."""

    mean: float | None
    """None where no seed's score is defined."""
    deviation: float | None
    """Standard deviation over the seeds, as of a sample; None with fewer than two of them."""
    seeds: int
    """With a defined score."""


def spread(values: Sequence[float | None]) -> Spread:
    """Return mean and standard deviation of one score over seeds."""
    known = [value for value in values if value is not None]
    return Spread(
        mean=float(np.mean(known)) if known else None,
        deviation=float(np.std(known, ddof=1)) if len(known) > 1 else None,
        seeds=len(known),
    )


def difference_of_variants(
    first: Sequence[Scored],
    second: Sequence[Scored],
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Contrasts:
    """Return by how much the second variant's CCC, the mean over its seeds, is above the first's.

    Each resample draws source videos, the same for all runs, and as many of each variant's seeds as there are. With one
    seed a side this is `paired_difference`. A handful of seeds tells their spread only roughly, and rather too small.

    Args:
        first: each seed of the variant that is compared with.
        second: each seed of the other one, on the same frames of the same videos.
        level: share of the resamples that an interval holds.
        resamples: how many.
        seed: of the drawing.

    Raises:
        RunError: the runs were not scored on the same frames, or against other labels; it says where.
    """
    reference = first[0]
    for other in (*first[1:], *second):
        reason = why_not_comparable(reference, other)
        if reason is not None:
            raise RunError(None, fault=f"the runs cannot be compared: {reason}", remedy="evaluate both on one store")
    order = {name: index for index, (name, _, _) in enumerate(reference)}
    generator = np.random.default_rng((seed, 1))
    drawn: list[dict[str, Float64[np.ndarray, "R"]]] = []
    means: list[dict[str, float | None]] = []
    videos = 0
    for variant in (first, second):
        models = [sorted(model, key=lambda item: order[item[0]]) for model in variant]
        found = [resampled_scores(model, resamples=resamples, seed=seed) for model in models]
        videos = found[0][1]
        seed_RS = generator.integers(len(models), size=(resamples, len(models)))
        drawn.append({name: _mean_of_drawn(seed_RS, [ccc[name] for ccc, _ in found]) for name in DIMENSIONS})
        pooled = [pooled_scores(model) for model in models]
        means.append({name: spread([one[name] for one in pooled])["mean"] for name in DIMENSIONS})
    return contrasts_of(drawn, means, level=level, resamples=resamples, videos=videos)


def differ(contrast: Contrast) -> bool | None:
    """Say whether a difference is more than chance would make: its interval lies off 0; None where there is none."""
    interval = contrast["interval"]
    return None if interval is None else interval[0] > 0 or interval[1] < 0


def _mean_of_drawn(seed_RS: np.ndarray, ccc_of_seed: Sequence[np.ndarray]) -> Float64[np.ndarray, "R"]:
    ccc_SR = np.stack(ccc_of_seed)
    mean_R: Float64[np.ndarray, "R"] = np.take_along_axis(ccc_SR.T, seed_RS, axis=1).mean(axis=1)
    return mean_R

"""Whether raw media give what the cache gave: the same windows, predicted both ways before anything is trained.

With frozen encoders in the recipe's own number format the two differ by what a store's float16 rounds away: half of the
last of 11 bits in each channel. Heads make less than 0.001 of it in valence and arousal, a bound that is tested.
Encoders in another number format, or resizing on another device, make some more.

Axes: W windows; the last axis 2 is valence, arousal.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from vaprompt.store import FeatureStore
from vaprompt.training.inputs import read_inputs
from vaprompt.training.runs import Run

BOUND = 0.001
"""Largest difference in valence or arousal that the float16 of a store makes."""
REMARKABLE = 0.02
"""Difference that is worth a remark: more than other number formats and devices make."""


def cached_predictions(run: Run, store: FeatureStore, videos: Sequence[str]) -> Float[np.ndarray, "W 2"]:
    """Return what a run predicts from a store's features at the end of every labelled window of some videos.

    Raises:
        StoreError: a video is not in the store, or damaged.
    """
    values = []
    for video in videos:
        known = read_inputs(store, video, run.recipe.model.modalities)
        windows = known.labelled(run.recipe.window)
        if len(windows.end_W):
            values.append(run.predict_at(windows.end_W, *known.arrays))
    return np.concatenate(values)


def largest_difference(one_W2: Float[np.ndarray, "W 2"], two_W2: Float[np.ndarray, "W 2"]) -> float:
    """Return by how much two predictions of the same windows differ at most, in valence or arousal."""
    return float(np.abs(one_W2.astype(np.float64) - two_W2).max())


def remark(split: str, difference: float) -> str | None:
    """Return what is to be said of such a difference before the first step; None where it is as expected."""
    if difference <= REMARKABLE:
        return None
    return (
        f"before the first step, predictions of {split} windows from raw media differ from those from the store by "
        f"{difference:.3f}: pictures or sound are not prepared alike, or are of other files"
    )

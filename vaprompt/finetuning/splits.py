"""The windows of a run's splits with their labels, and the raw media that they are of.

Axes: W windows, T image steps; the last axis 2 is valence, arousal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vaprompt.datasets.base import Video
from vaprompt.errors import StoreError
from vaprompt.finetuning.material import VideoWindows, video_windows
from vaprompt.store import FeatureStore
from vaprompt.training.data import LabelledWindows
from vaprompt.training.inputs import read_timing
from vaprompt.training.recipe import TrainRecipe


@dataclass(frozen=True)
class RawSplit:
    """The windows of one split."""

    parts: list[VideoWindows]
    windows: LabelledWindows
    """The same windows' labels; their rows of cached features are of no meaning here."""


def raw_split(
    store: FeatureStore, videos: Sequence[Video], split: str, recipe: TrainRecipe, device: torch.device
) -> RawSplit:
    """Return the windows that a training on the store's features would have, in the same order.

    Args:
        store: the frames' times and labels.
        videos: those of the split, in the store's order.
        split: its name, for the error.
        recipe: how windows are cut.
        device: where the labels are kept.

    Raises:
        StoreError: a video is not in the store, or there are fewer than two windows.
    """
    parts, labels = [], []
    for index, video in enumerate(videos):
        timing = read_timing(store, video.name, recipe.model.modalities)
        known = timing.labels
        windows = timing.labelled(recipe.window)
        parts.append(video_windows(timing, video, windows))
        value_W2 = known.value_F2[windows.target_W]
        step_WT = timing.image_frame_N[windows.image_WT] - 1
        soft_WK = recipe.targets(value_W2)
        video_W = np.full(len(value_W2), index, np.int64)
        arrays = (
            windows.image_WT,
            windows.audio_W,
            value_W2,
            soft_WK,
            known.value_F2[step_WT],
            known.valid_F[step_WT],
            video_W,
        )
        labels.append([torch.from_numpy(np.ascontiguousarray(array)) for array in arrays])
    joined = LabelledWindows(*(torch.cat(pieces).to(device) for pieces in zip(*labels, strict=True)))
    if len(joined) < 2:
        raise StoreError(
            store.location,
            fault=f"holds {len(joined)} windows of the run's {len(parts)} {split} videos, and 2 are needed",
            remedy="give the store that the run was trained on with --store",
        )
    return RawSplit(parts, joined)

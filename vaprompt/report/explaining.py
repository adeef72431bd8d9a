"""What a run's network did, window by window: how much sound its gate let in, which regions it saw, where it listened.

Axes: F frames of a video, W windows, K regions, T image steps, S audio steps, H attention heads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64

from vaprompt.regions import soft_labels
from vaprompt.store import FeatureStore
from vaprompt.training.inputs import read_inputs
from vaprompt.training.runs import Run
from vaprompt.windows import grid_ends

BATCH = 64
MOST_STEPS = 50
"""Audio steps that an attention map keeps: neighbours are added up, as what is looked at is a share."""


@dataclass(frozen=True)
class Explained:
    """One video, at the ends of its windows."""

    end_W: Float64[np.ndarray, "W"]
    """Seconds from the first frame."""
    region_WK: Float32[np.ndarray, "W K"]
    """Probability of each region."""
    soft_WK: Float32[np.ndarray, "W K"]
    """Soft target of the same moment's label; nan where that is not valid."""
    gate_W: Float32[np.ndarray, "W"] | None
    """Mean of the gate over steps and channels: 0 lets only the picture through, 1 only the attended sound."""
    attention_WTS: Float32[np.ndarray, "W T S"] | None
    """Share of each audio step in what each image step heard, mean over the heads; None without attention."""
    image_WT: Float64[np.ndarray, "W T"]
    """When each image step was, in seconds."""
    audio_end_W: Float64[np.ndarray, "W"]
    """When the window of sound ended that was heard."""
    seen_F: Bool[np.ndarray, "F"] | None
    """Whether there is a face; None where pictures are whole frames."""


def explain(run: Run, store: FeatureStore, video: str) -> Explained:
    """Return what the network did with one video of a store.

    Windows end at every stride of the run's recipe, at the first and at the last frame.

    Raises:
        StoreError: the video is not in the store, or damaged.
    """
    recipe = run.recipe
    known = read_inputs(store, video, recipe.model.modalities)
    labels = known.labels
    end_W = grid_ends(float(labels.time_F[-1]), seconds=recipe.window.seconds, stride=recipe.window.stride, padded=True)
    windows = known.windows(end_W, recipe.window)
    regions, gates, attentions = [], [], []
    with torch.inference_mode():
        for first in range(0, len(end_W), BATCH):
            rows = slice(first, first + BATCH)
            image_BTI, audio_BSA = (
                None if given is None else torch.from_numpy(given[row]).to(run.device).float()
                for given, row in ((known.image_NI, windows.image_WT[rows]), (known.audio_ASC, windows.audio_W[rows]))
            )
            estimate = run.estimator(image_BTI, audio_BSA)
            regions.append(estimate.region_BK.softmax(dim=1).cpu().numpy())
            if estimate.gate_BTD is not None:
                gates.append(estimate.gate_BTD.mean(dim=(1, 2)).cpu().numpy())
            if estimate.attention_BHTS is not None:
                attentions.append(summed_steps(estimate.attention_BHTS.mean(dim=1).cpu().numpy()))
    value_W2, valid_W = labels.value_F2[windows.target_W], labels.valid_F[windows.target_W]
    soft_WK = soft_labels(value_W2, recipe.regions.centres_K2(), recipe.regions.sigma).astype(np.float32)
    soft_WK[~valid_W] = np.nan
    return Explained(
        end_W,
        np.concatenate(regions),
        soft_WK,
        np.concatenate(gates) if gates else None,
        np.concatenate(attentions) if attentions else None,
        known.image_time_N[windows.image_WT],
        known.audio_end_A[windows.audio_W],
        seen_frames(store, video, labels.time_F),
    )


def seen_frames(store: FeatureStore, video: str, time_F: Float64[np.ndarray, "F"]) -> Bool[np.ndarray, "F"] | None:
    """Return in which frames there is a face: those that have an embedding.

    Where only so many frames a second were encoded, a frame is taken to have one if the next encoded one is not further
    away than that rate's step. None where pictures are whole frames, or none, which says nothing of faces.
    """
    if store.dataset.get("faces") == "frames" or "image" not in store.streams:
        return None
    frame_N, time_N = store.image_times(video)
    rate = store.fingerprint("image").get("frames", "all")
    if isinstance(rate, str):
        seen_F = np.zeros(len(time_F), bool)
        seen_F[frame_N[frame_N <= len(time_F)].astype(np.int64) - 1] = True
        return seen_F
    after_F = np.searchsorted(time_N, time_F)
    before = time_N[np.maximum(after_F - 1, 0)]
    after = time_N[np.minimum(after_F, len(time_N) - 1)]
    seen: Bool[np.ndarray, "F"] = np.minimum(np.abs(time_F - before), np.abs(after - time_F)) <= 1 / float(rate) + 1e-6
    return seen


def summed_steps(attention_WTS: Float32[np.ndarray, "W T S"]) -> Float32[np.ndarray, "W T S2"]:
    """Return attention over no more than `MOST_STEPS` audio steps, neighbours added up."""
    steps = attention_WTS.shape[2]
    if steps <= MOST_STEPS:
        return attention_WTS
    first_S: Int64[np.ndarray, "S2"] = np.arange(MOST_STEPS) * steps // MOST_STEPS
    return np.add.reduceat(attention_WTS, first_S, axis=2).astype(np.float32)

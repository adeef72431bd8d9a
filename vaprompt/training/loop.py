"""One epoch of training, and the validation behind it.

Axes: B windows in the batch, T image steps; the last axis 2 is valence, arousal.
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from vaprompt.metrics import Scores, scores
from vaprompt.model.estimator import Estimate, Estimator
from vaprompt.training.data import LabelledWindows, ResidentSplit
from vaprompt.training.losses import ccc_loss, masked, region_loss
from vaprompt.training.recipe import TrainRecipe

EVALUATION_BATCH = 64


class EpochLosses(TypedDict):
    """Means over an epoch's steps."""

    loss: float
    ccc: float
    kl: float


def window_loss(
    estimate: Estimate, windows: LabelledWindows, row_B: Tensor, recipe: TrainRecipe
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the loss of a batch and its two parts, CCC's and KL's (paper, equation 6)."""
    if recipe.model.head.output == "window":
        ccc = ccc_loss(estimate.value, windows.value_W2[row_B])
    else:
        ccc = ccc_loss(*masked(estimate.value, windows.step_value_WT2[row_B], windows.step_valid_WT[row_B]))
    kl = region_loss(estimate.region_BK, windows.soft_WK[row_B])
    return ccc + recipe.loss.kl * kl, ccc, kl


def train_epoch(
    estimator: Estimator, optimizer: torch.optim.Optimizer, data: ResidentSplit, recipe: TrainRecipe, *, seed: int
) -> EpochLosses:
    """Train on every window once, in an order given by `seed`, and return the mean losses.

    Nothing leaves the device before the epoch ends. A last batch of a single window is left out, as its CCC
    says nothing.
    """
    torch.manual_seed(seed)
    order_W = torch.randperm(len(data.windows), generator=torch.Generator().manual_seed(seed)).to(
        data.windows.audio_W.device
    )
    estimator.train()
    sums: list[Tensor] = []
    for row_B in torch.split(order_W, recipe.batch):
        if len(row_B) < 2:
            continue
        batch = data.features.batch(data.windows.image_WT[row_B], data.windows.audio_W[row_B])
        loss, ccc, kl = window_loss(estimator(*batch), data.windows, row_B, recipe)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        sums.append(torch.stack((loss.detach(), ccc.detach(), kl.detach())))
    loss_mean, ccc_mean, kl_mean = torch.stack(sums).mean(dim=0).tolist()
    return EpochLosses(loss=loss_mean, ccc=ccc_mean, kl=kl_mean)


def validate(estimator: Estimator, data: ResidentSplit) -> Scores:
    """Return the CCC of the predictions at the windows' ends, pooled over all of them."""
    prediction_W2 = predict_windows(estimator, data)
    return scores(prediction_W2, data.windows.value_W2.cpu().numpy())


def predict_windows(estimator: Estimator, data: ResidentSplit) -> Float32[np.ndarray, "W 2"]:
    """Return valence and arousal at each window's end, clipped to [-1, 1]."""
    estimator.eval()
    parts = []
    with torch.inference_mode():
        for first in range(0, len(data.windows), EVALUATION_BATCH):
            rows = slice(first, first + EVALUATION_BATCH)
            batch = data.features.batch(data.windows.image_WT[rows], data.windows.audio_W[rows])
            parts.append(end_values(estimator(*batch)))
    return torch.cat(parts).float().cpu().numpy()


def end_values(estimate: Estimate) -> Tensor:
    """Return (B, 2): the prediction for each window's end, the last step's in a sequence, clipped to [-1, 1]."""
    value_B2 = estimate.value if estimate.value.ndim == 2 else estimate.value[:, -1]
    return value_B2.clamp(-1, 1)

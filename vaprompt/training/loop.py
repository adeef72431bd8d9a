"""One epoch of training, and the predictions behind it.

Axes: W windows, B windows in the batch, N steps of an epoch; the last axis 2 is valence, arousal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from vaprompt.lanes import lanes
from vaprompt.model.estimator import Estimate, Estimator
from vaprompt.training.data import ResidentSplit
from vaprompt.training.step import Step

EVALUATION_BATCH = 64
"""Windows that a core predicts at once."""
EVALUATION_SOUNDS = 48
"""Sounds that they hear, at most, where windows share them."""
ACCELERATOR_BATCH = 1024
"""Windows that an accelerator predicts at once."""


class EpochLosses(TypedDict):
    """Means over an epoch's steps."""

    loss: float
    ccc: float
    kl: float


@dataclass(frozen=True)
class Epoch:
    """What an epoch's training gave."""

    loss_N3: Float32[np.ndarray, "N 3"]
    """The loss of each step, and its two parts, CCC's and KL's."""
    row_NB: list[Int64[np.ndarray, "_"]]
    """The training windows of each step."""

    def means(self) -> EpochLosses:
        """Return the means over the steps."""
        loss, ccc, kl = self.loss_N3.mean(axis=0, dtype=np.float64).tolist()
        return EpochLosses(loss=loss, ccc=ccc, kl=kl)

    def broken(self) -> int | None:
        """Return the first step, from 0, whose loss is not a number; None where all are."""
        wrong_N = ~np.isfinite(self.loss_N3).all(axis=1)
        return int(np.argmax(wrong_N)) if wrong_N.any() else None


def train_epoch(estimator: Estimator, step: Step, windows: int, batch: int, *, seed: int, kl: float) -> Epoch:
    """Train on every window once, in an order given by `seed`.

    Nothing leaves the device before the epoch ends. A last batch of a single window is left out, as its CCC
    says nothing.

    Args:
        estimator: the network.
        step: trains it on one batch.
        windows: how many there are.
        batch: windows of a step.
        seed: of the order and of dropout.
        kl: the weight of the KL term.
    """
    order_W = torch.randperm(windows, generator=torch.Generator().manual_seed(seed))
    rows = [row_B for row_B in torch.split(order_W, batch) if len(row_B) > 1]
    estimator.train()
    step.begin(seed, kl)
    order_W = order_W.to(step.device)
    losses = [step(row_B) for row_B in torch.split(order_W, batch)[: len(rows)]]
    return Epoch(torch.stack(losses).cpu().numpy(), [row_B.numpy() for row_B in rows])


def predict_windows(estimator: Estimator, data: ResidentSplit) -> Float32[np.ndarray, "W 2"]:
    """Return valence and arousal at each window's end, clipped to [-1, 1]."""
    estimator.eval()
    features = data.features

    @torch.inference_mode()
    def predict(row_B: Tensor) -> Tensor:
        return end_values(estimator(*data.batch(row_B)))

    every = torch.arange(len(data.windows), device=features.place)
    if features.device.type == "cpu":
        parts = lanes().map(predict, torch.split(every, EVALUATION_BATCH))
    else:
        parts = [predict(row_B) for row_B in torch.split(every, ACCELERATOR_BATCH)]
    return torch.cat(parts).float().cpu().numpy()


def end_values(estimate: Estimate) -> Tensor:
    """Return (B, 2): the prediction for each window's end, the last step's in a sequence, clipped to [-1, 1]."""
    value_B2 = estimate.value if estimate.value.ndim == 2 else estimate.value[:, -1]
    return value_B2.clamp(-1, 1)

"""What is minimised: CCC over the batch, and the KL divergence from the soft region labels (paper, section 3.5).

Axes: N samples, B windows in the batch, K regions; the last axis 2 is valence, arousal.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

TINY = 1e-8
"""Keeps the CCC's quotient finite where a batch's predictions and labels are the same constant."""


def ccc_loss(
    prediction_N2: Float[Tensor, "*N 2"], truth_N2: Float[Tensor, "*N 2"], valid_N: Bool[Tensor, "*N"] | None = None
) -> Float[Tensor, ""]:
    """Return (1 - CCC of valence) + (1 - CCC of arousal), population variances, over all samples.

    Args:
        prediction_N2: predictions.
        truth_N2: labels.
        valid_N: which of them count (None: all). Their number stays on the device, so that nothing waits for it.
    """
    prediction_N2, truth_N2 = prediction_N2.reshape(-1, 2), truth_N2.reshape(-1, 2)
    weight_N1 = torch.ones_like(truth_N2[:, :1]) if valid_N is None else valid_N.reshape(-1, 1).to(truth_N2.dtype)
    weight_N1 = weight_N1 / weight_N1.sum().clamp(min=1)

    def mean(value_N2: Tensor) -> Tensor:
        return (weight_N1 * value_N2).sum(dim=0)

    x_mean_2, y_mean_2 = mean(prediction_N2), mean(truth_N2)
    x_N2, y_N2 = prediction_N2 - x_mean_2, truth_N2 - y_mean_2
    spread_2 = mean(x_N2.square()) + mean(y_N2.square()) + (x_mean_2 - y_mean_2).square()
    return (1 - 2 * mean(x_N2 * y_N2) / (spread_2 + TINY)).sum()


def region_loss(
    region_BK: Float[Tensor, "B K"], soft_BK: Float[Tensor, "B K"], temperature: float = 1.0
) -> Float[Tensor, ""]:
    """Return KL(soft labels || softmax of the region logits), the mean over the batch.

    At a temperature T the logits are divided by it, and the loss is multiplied by T^2, so that its gradients stay as
    large (Hinton et al. 2015); the soft labels must be those of the same temperature.
    """
    log_BK = (region_BK / temperature).log_softmax(dim=-1)
    belonging_BK = torch.xlogy(soft_BK, soft_BK) - soft_BK * log_BK
    return temperature**2 * (belonging_BK.sum() / len(region_BK))

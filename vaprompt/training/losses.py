"""What is minimised: CCC over the batch, and the KL divergence from the soft region labels (paper, section 3.5).

Axes: N samples, B windows in the batch, K regions; the last axis 2 is valence, arousal.
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

TINY = 1e-8
"""Keeps the CCC's quotient finite where a batch's predictions and labels are the same constant."""


def ccc_loss(prediction_N2: Float[Tensor, "N 2"], truth_N2: Float[Tensor, "N 2"]) -> Float[Tensor, ""]:
    """Return (1 - CCC of valence) + (1 - CCC of arousal), population variances, over all samples."""
    x_mean_2, y_mean_2 = prediction_N2.mean(dim=0), truth_N2.mean(dim=0)
    x_N2, y_N2 = prediction_N2 - x_mean_2, truth_N2 - y_mean_2
    covariance_2 = (x_N2 * y_N2).mean(dim=0)
    spread_2 = x_N2.square().mean(dim=0) + y_N2.square().mean(dim=0) + (x_mean_2 - y_mean_2).square()
    return (1 - 2 * covariance_2 / (spread_2 + TINY)).sum()


def region_loss(region_BK: Float[Tensor, "B K"], soft_BK: Float[Tensor, "B K"]) -> Float[Tensor, ""]:
    """Return KL(soft labels || softmax of the region logits), the mean over the batch."""
    return F.kl_div(region_BK.log_softmax(dim=-1), soft_BK, reduction="batchmean")


def masked(
    prediction_BT2: Float[Tensor, "B T 2"], truth_BT2: Float[Tensor, "B T 2"], valid_BT: Bool[Tensor, "B T"]
) -> tuple[Float[Tensor, "N 2"], Float[Tensor, "N 2"]]:
    """Return the predictions and labels of the valid steps only, flattened."""
    return prediction_BT2[valid_BT], truth_BT2[valid_BT]

"""Hierarchical fusion: sound is aligned to the picture by attention, then let in by a gate (paper, section 3.4).

Axes: B windows in the batch, T image steps, S audio steps, D channels.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from vaprompt.recipes import Recipe


class FusionRecipe(Recipe):
    """How the two modalities meet."""

    kind: Literal["attention", "gated", "attention+gated"] = "attention+gated"
    """Table 2's three strategies; the last is the paper's."""
    heads: int = Field(4, ge=1, le=64)
    """Attention heads; must divide the model's width."""
    feedforward: int = Field(1024, ge=1, le=16384)
    """Hidden units of the feed-forward part behind the attention."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout in the attention and the feed-forward part."""


class Fused(NamedTuple):
    """What fusion gives: the sequence, and how much sound was let in (None without a gate)."""

    sequence_BTD: Float[Tensor, "B T D"]
    gate_BTD: Float[Tensor, "B T D"] | None


class CrossModalAttention(nn.Module):
    """The picture asks, the sound answers (paper, equation 3): attention and feed-forward, each residual and normed."""

    def __init__(self, width: int, recipe: FusionRecipe) -> None:
        """Build it for `width` channels."""
        super().__init__()
        self.attention = nn.MultiheadAttention(width, recipe.heads, dropout=recipe.dropout, batch_first=True)
        self.attention_norm = nn.LayerNorm(width)
        self.feedforward = nn.Sequential(
            nn.Linear(width, recipe.feedforward),
            nn.ReLU(),
            nn.Dropout(recipe.dropout),
            nn.Linear(recipe.feedforward, width),
        )
        self.feedforward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(recipe.dropout)

    def forward(self, image_BTD: Float[Tensor, "B T D"], audio_BSD: Float[Tensor, "B S D"]) -> Float[Tensor, "B T D"]:
        """Return the image steps, each enriched with the sound that it attends to."""
        heard_BTD, _ = self.attention(image_BTD, audio_BSD, audio_BSD, need_weights=False)
        attended_BTD = self.attention_norm(image_BTD + self.dropout(heard_BTD))
        fed_BTD: Tensor = self.feedforward_norm(attended_BTD + self.dropout(self.feedforward(attended_BTD)))
        return fed_BTD


class GatedFusion(nn.Module):
    """Mixes the attended sound with the picture, dimension by dimension (paper, equations 4 and 5)."""

    def __init__(self, width: int) -> None:
        """Build it for `width` channels."""
        super().__init__()
        self.gate = nn.Linear(2 * width, width)

    def forward(
        self, attended_BTD: Float[Tensor, "B T D"], image_BTD: Float[Tensor, "B T D"]
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B T D"]]:
        """Return the fused sequence and the gate in [0, 1]; 1 lets only the attended sound through."""
        gate_BTD = self.gate(torch.cat((attended_BTD, image_BTD), dim=-1)).sigmoid()
        return torch.lerp(image_BTD, attended_BTD, gate_BTD), gate_BTD


class Fusion(nn.Module):
    """One of Table 2's strategies."""

    def __init__(self, width: int, recipe: FusionRecipe) -> None:
        """Build it for `width` channels."""
        super().__init__()
        self.attention = CrossModalAttention(width, recipe) if "attention" in recipe.kind else None
        self.gated = GatedFusion(width) if "gated" in recipe.kind else None

    def forward(self, image_BTD: Float[Tensor, "B T D"], audio_BSD: Float[Tensor, "B S D"]) -> Fused:
        """Return the fused sequence, one step for each image step, and the gate where there is one."""
        if self.attention is not None:
            heard_BTD = self.attention(image_BTD, audio_BSD)
        else:
            # The gate alone needs one audio step for each image step: the mean of those that it covers.
            heard_BTD = F.adaptive_avg_pool1d(audio_BSD.transpose(1, 2), image_BTD.shape[1]).transpose(1, 2)
        if self.gated is None:
            return Fused(heard_BTD, None)
        return Fused(*self.gated(heard_BTD, image_BTD))

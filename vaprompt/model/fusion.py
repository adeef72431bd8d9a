"""Hierarchical fusion: sound is aligned to the picture by attention, then let in by a gate (paper, section 3.4).

Axes: T image steps, S audio steps, B windows in the batch, U sounds that they hear, D channels, H attention heads,
C = D / H channels of a head. Inside the network time stands before the windows, as recurrences read it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from vaprompt.model.dropout import Dropout
from vaprompt.recipes import Recipe


class FusionRecipe(Recipe):
    """How the two modalities meet."""

    kind: Literal["attention", "gated", "attention+gated"] = "attention+gated"
    """Table 2's three strategies; the last is the paper's."""
    gate: Literal["linear", "projected"] = "linear"
    """`linear`: one layer on both sides (paper, equation 4). `projected`: the released code's, of two layers on both
    sides projected, with a projection behind the mix."""
    heads: int = Field(4, ge=1, le=64)
    """Attention heads; must divide the model's width."""
    feedforward: int = Field(1024, ge=1, le=16384)
    """Hidden units of the feed-forward part behind the attention."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout in the attention and the feed-forward part."""


class Fused(NamedTuple):
    """What fusion gives: the sequence, and how it came about."""

    sequence_TBD: Float[Tensor, "T B D"]
    gate_TBD: Float[Tensor, "T B D"] | None
    """How much sound was let in; None without a gate."""
    attention_BHTS: Float[Tensor, "B H T S"] | None
    """How much of each audio step each image step took; None without attention."""


class MultiheadAttention(nn.Module):
    """Scaled dot-product attention with several heads, in torch's form, weights and start of learning."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        """Build it for `width` channels."""
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(3 * width, width)))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.zeros_(self.out_proj.bias)
        self.dropout = Dropout(dropout, windows=0)

    def forward(
        self,
        asking_TBD: Float[Tensor, "T B D"],
        answering_SUD: Float[Tensor, "S U D"],
        clip_B: Int64[Tensor, "B"] | None = None,
    ) -> tuple[Float[Tensor, "T B D"], Float[Tensor, "B H T S"]]:
        """Return what each asking step gathers from the answering ones, and in which shares, before dropout."""
        width = asking_TBD.shape[-1]
        query_TBD = F.linear(asking_TBD, self.in_proj_weight[:width], self.in_proj_bias[:width])
        query_TBD = query_TBD * (width // self.heads) ** -0.5
        if clip_B is None:
            gathered_TBD, share_BHTS = self._of_their_own(query_TBD, answering_SUD)
        else:
            gathered_TBD, share_BHTS = self._of_shared(query_TBD, answering_SUD, clip_B)
        return self.out_proj(gathered_TBD), share_BHTS

    def _of_shared(self, query_TBD: Tensor, answering_SUD: Tensor, clip_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is gathered where windows share sounds: each sound's keys and values are computed once."""
        width = query_TBD.shape[-1]
        both_SU2D = F.linear(answering_SUD, self.in_proj_weight[width:], self.in_proj_bias[width:])
        key_SBD, value_SBD = _heard(both_SU2D, clip_B).chunk(2, dim=-1)
        query_BHTC, key_BHSC, value_BHSC = (self._by_head(part) for part in (query_TBD, key_SBD, value_SBD))
        share_BHTS = (query_BHTC @ key_BHSC.mT).softmax(dim=-1)
        gathered_BHTC = self.dropout(share_BHTS) @ value_BHSC
        return gathered_BHTC.permute(2, 0, 1, 3).flatten(2), share_BHTS

    def _of_their_own(self, query_TBD: Tensor, answering_SBD: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is gathered where each window has a sound of its own, of which no keys and values are made.

            q (K x + k) = (q K) x + q k        of which q k is the same for all steps, and changes no share;
            sum of a (V x + v) = V (sum of a x) + v sum of a

        There are several times as many audio steps as image steps: half the arithmetic.
        """
        (steps, windows, width), heads = query_TBD.shape, self.heads
        _, key_HCD, value_HCD = (part.view(heads, -1, width) for part in self.in_proj_weight.chunk(3))
        query_HRC = query_TBD.reshape(steps * windows, heads, -1).transpose(0, 1)
        asked_HTBD = (query_HRC @ key_HCD).view(heads, steps, windows, width)
        asked_BQD = asked_HTBD.permute(2, 0, 1, 3).flatten(1, 2)
        share_BHTS = (asked_BQD @ answering_SBD.permute(1, 2, 0)).softmax(dim=-1).view(windows, heads, steps, -1)
        dropped_BHTS = self.dropout(share_BHTS)
        heard_BQD = dropped_BHTS.flatten(1, 2) @ answering_SBD.transpose(0, 1)
        heard_HRD = heard_BQD.view(windows, heads, steps, width).permute(1, 2, 0, 3).flatten(1, 2)
        gathered_TBHC = (heard_HRD @ value_HCD.mT).view(heads, steps, windows, -1).permute(1, 2, 0, 3)
        bias_HC = self.in_proj_bias[2 * width :].view(heads, -1)
        share_TBH1 = dropped_BHTS.sum(dim=-1, keepdim=True).permute(2, 0, 1, 3)
        return (gathered_TBHC + share_TBH1 * bias_HC).flatten(2), share_BHTS

    def _by_head(self, sequence_TBD: Tensor) -> Tensor:
        steps, windows, width = sequence_TBD.shape
        return sequence_TBD.reshape(steps, windows, self.heads, width // self.heads).permute(1, 2, 0, 3)


class CrossModalAttention(nn.Module):
    """The picture asks, the sound answers (paper, equation 3): attention and feed-forward, each residual and normed."""

    def __init__(self, width: int, recipe: FusionRecipe) -> None:
        """Build it for `width` channels."""
        super().__init__()
        self.attention = MultiheadAttention(width, recipe.heads, recipe.dropout)
        self.attention_norm = nn.LayerNorm(width)
        self.feedforward = nn.Sequential(
            nn.Linear(width, recipe.feedforward),
            nn.ReLU(),
            Dropout(recipe.dropout),
            nn.Linear(recipe.feedforward, width),
        )
        self.feedforward_norm = nn.LayerNorm(width)
        self.attention_dropout, self.feedforward_dropout = Dropout(recipe.dropout), Dropout(recipe.dropout)

    def forward(
        self,
        image_TBD: Float[Tensor, "T B D"],
        audio_SUD: Float[Tensor, "S U D"],
        clip_B: Int64[Tensor, "B"] | None = None,
    ) -> tuple[Float[Tensor, "T B D"], Float[Tensor, "B H T S"]]:
        """Return the image steps, each enriched with the sound that it attends to, and how much of it that is."""
        heard_TBD, share_BHTS = self.attention(image_TBD, audio_SUD, clip_B)
        attended_TBD = self.attention_norm(image_TBD + self.attention_dropout(heard_TBD))
        fed_TBD = self.feedforward_dropout(self.feedforward(attended_TBD))
        normed_TBD: Tensor = self.feedforward_norm(attended_TBD + fed_TBD)
        return normed_TBD, share_BHTS


class GatedFusion(nn.Module):
    """Mixes the attended sound with the picture, dimension by dimension (paper, equations 4 and 5)."""

    def __init__(self, width: int) -> None:
        """Build it for `width` channels."""
        super().__init__()
        self.gate = nn.Linear(2 * width, width)

    def forward(
        self, attended_TBD: Float[Tensor, "T B D"], image_TBD: Float[Tensor, "T B D"]
    ) -> tuple[Float[Tensor, "T B D"], Float[Tensor, "T B D"]]:
        """Return the fused sequence and the gate in [0, 1]; 1 lets only the attended sound through."""
        gate_TBD = self.gate(torch.cat((attended_TBD, image_TBD), dim=-1)).sigmoid()
        return _mixed(image_TBD, attended_TBD, gate_TBD), gate_TBD


class ProjectedGatedFusion(nn.Module):
    """The released code's gate: two layers on both sides, projected, and a projection behind the mix.

    What is wrong with it: it is not the paper's equations 4 and 5, and has three times their weights. Ours, where its
    hidden layer is not known: as wide as the model, with ReLU.
    """

    def __init__(self, width: int) -> None:
        """Build it for `width` channels."""
        super().__init__()
        self.attended, self.image = nn.Linear(width, width), nn.Linear(width, width)
        self.gate = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, width))
        self.out = nn.Linear(width, width)

    def forward(
        self, attended_TBD: Float[Tensor, "T B D"], image_TBD: Float[Tensor, "T B D"]
    ) -> tuple[Float[Tensor, "T B D"], Float[Tensor, "T B D"]]:
        """Return the fused sequence and the gate in [0, 1]; 1 lets only the attended sound through."""
        attended_TBD, image_TBD = self.attended(attended_TBD), self.image(image_TBD)
        gate_TBD = self.gate(torch.cat((attended_TBD, image_TBD), dim=-1)).sigmoid()
        return self.out(_mixed(image_TBD, attended_TBD, gate_TBD)), gate_TBD


class Fusion(nn.Module):
    """One of Table 2's strategies."""

    def __init__(self, width: int, recipe: FusionRecipe) -> None:
        """Build it for `width` channels."""
        super().__init__()
        self.attention = CrossModalAttention(width, recipe) if "attention" in recipe.kind else None
        gate = GatedFusion if recipe.gate == "linear" else ProjectedGatedFusion
        self.gated = gate(width) if "gated" in recipe.kind else None

    def forward(
        self,
        image_TBD: Float[Tensor, "T B D"],
        audio_SUD: Float[Tensor, "S U D"],
        clip_B: Int64[Tensor, "B"] | None = None,
    ) -> Fused:
        """Return the fused sequence, one step for each image step, with the gate and the attention where there are.

        Args:
            image_TBD: what was seen in each window.
            audio_SUD: what was heard.
            clip_B: which of the sounds each window hears; None: each its own.
        """
        share_BHTS = None
        if self.attention is not None:
            heard_TBD, share_BHTS = self.attention(image_TBD, audio_SUD, clip_B)
        else:
            # The gate alone needs one audio step for each image step: the mean of those that it covers.
            pooled_UDT = F.adaptive_avg_pool1d(audio_SUD.permute(1, 2, 0), len(image_TBD))
            heard_TBD = _heard(pooled_UDT.permute(2, 0, 1), clip_B)
        if self.gated is None:
            return Fused(heard_TBD, None, share_BHTS)
        fused_TBD, gate_TBD = self.gated(heard_TBD, image_TBD)
        return Fused(fused_TBD, gate_TBD, share_BHTS)


def _mixed(image_TBD: Tensor, attended_TBD: Tensor, gate_TBD: Tensor) -> Tensor:
    """Return the two sides' weighted mean, in the attended one's precision: a norm keeps more than a product."""
    dtype = attended_TBD.dtype
    return torch.lerp(image_TBD.to(dtype), attended_TBD, gate_TBD.to(dtype))


def _heard(sound_SUD: Tensor, clip_B: Tensor | None) -> Tensor:
    """Return the sound that each window hears."""
    return sound_SUD if clip_B is None else sound_SUD.index_select(1, clip_B)

"""Distance-aware soft prompts: how like each region's words a window looks (paper, section 3.3).

Axes: T image steps, B windows in the batch, D channels, E CLIP's joint space, K regions.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from vaprompt.recipes import Recipe


class PromptRecipe(Recipe):
    """What is compared with the text prototypes."""

    semantic: Literal["fused", "clip"] = "fused"
    """`fused`: the fused representation, so that the KL term trains GRUs, attention and gate. `clip`: the frozen
    image embedding, as released; no gradient reaches any parameter."""
    scale: float = Field(10.0, gt=0, le=100)
    """Factor on the cosine: where learning starts (`fused`), or constant (`clip`)."""


class FusedRegionHead(nn.Module):
    """Cosine between the fused representation, taken into CLIP's joint space, and each prototype, times a scale."""

    def __init__(self, width: int, prototype_KE: Float[Tensor, "K E"], recipe: PromptRecipe) -> None:
        """Build it for a fused representation of `width` channels and unit prototypes."""
        super().__init__()
        self.project = nn.Linear(width, prototype_KE.shape[1])
        self.log_scale = nn.Parameter(torch.tensor(math.log(recipe.scale)))
        self.prototype_KE: Tensor
        self.register_buffer("prototype_KE", prototype_KE.clone())

    def forward(
        self, fused_TBD: Float[Tensor, "T B D"], image_TBE: Float[Tensor, "T B E"] | None
    ) -> Float[Tensor, "B K"]:
        """Return region logits; the raw image embeddings are not used."""
        semantic_BE = F.normalize(self.project(fused_TBD.mean(dim=0)), dim=-1)
        return self.log_scale.exp() * semantic_BE @ self.prototype_KE.T


class ClipRegionHead(nn.Module):
    """Cosine between the frozen image embedding and each prototype, times a constant: as released, nothing to learn."""

    def __init__(self, prototype_KE: Float[Tensor, "K E"], recipe: PromptRecipe) -> None:
        """Build it for unit prototypes."""
        super().__init__()
        self.scale = recipe.scale
        self.prototype_KE: Tensor
        self.register_buffer("prototype_KE", prototype_KE.clone())

    def forward(
        self, fused_TBD: Float[Tensor, "T B D"], image_TBE: Float[Tensor, "T B E"] | None
    ) -> Float[Tensor, "B K"]:
        """Return region logits of the window's mean image embedding; the fused sequence is not used."""
        if image_TBE is None:
            raise ValueError("semantic = 'clip' compares image embeddings, and there are none")
        semantic_BE = F.normalize(F.normalize(image_TBE, dim=-1).mean(dim=0), dim=-1)
        return self.scale * semantic_BE @ self.prototype_KE.T

"""Distance-aware soft prompts: how like each region's words a window looks (paper, section 3.3).

Axes: T image steps, B windows in the batch, D channels, E CLIP's joint space, K regions; M context
vectors, whose channels are called D, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from vaprompt.lanes import alone
from vaprompt.recipes import Recipe


class PromptRecipe(Recipe):
    """What is compared with the text prototypes."""

    semantic: Literal["fused", "clip"] = "fused"
    """`fused`: the fused representation, so that the KL term trains GRUs, attention and gate. `clip`: the frozen
    image embedding, as released; no gradient reaches any parameter."""
    words: Literal["templates", "learned_context"] = "templates"
    """What the prototypes are made of: each phrase in fixed templates, or behind a context that learns (CoOp)."""
    context: str = Field("a photo of a person who looks", min_length=1)
    """Words that a learned context starts as; it has as many vectors as they have tokens."""
    weights: str | None = None
    """Where the weights of the store's CLIP lie here, whose text tower a learned context goes through; left out: where
    the extraction recipe has them."""
    scale: float = Field(10.0, gt=0, le=100)
    """Factor on the cosine: where learning starts (`fused`), or constant (`clip`)."""


class Context(NamedTuple):
    """A context that learns, and what embeds phrases behind it."""

    start_MD: Float[Tensor, "M D"]
    embed: Callable[[Float[Tensor, "M D"]], Float[Tensor, "K E"]] | None
    """Gives unit prototypes; None: they stay as they were learned."""


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
        self, fused_TBD: Float[Tensor, "T B D"], image_TBE: Float[Tensor, "T B E"] | None, *, steps: bool = False
    ) -> Float[Tensor, "*T B K"]:
        """Return region logits, of windows or of each of their steps; the raw image embeddings are not used."""
        fused = fused_TBD if steps else fused_TBD.mean(dim=0)
        semantic = F.normalize(self.project(fused), dim=-1)
        return self.log_scale.exp() * semantic @ self.prototypes().T

    def prototypes(self) -> Float[Tensor, "K E"]:
        """Return what the windows are compared with."""
        return self.prototype_KE


class ContextRegionHead(FusedRegionHead):
    """As `FusedRegionHead`, with prototypes of phrases behind a context that learns (Zhou et al. 2022).

    The text tower is no part of the network's weights. What it makes of the latest context is kept as prototypes
    whenever training pauses, so that a run predicts without it.
    """

    def __init__(self, width: int, prototype_KE: Float[Tensor, "K E"], recipe: PromptRecipe, context: Context) -> None:
        """Build it for a fused representation of `width` channels, and a context to start with."""
        super().__init__(width, prototype_KE, recipe)
        self.context_MD = nn.Parameter(context.start_MD.clone())
        self._embed = context.embed

    def prototypes(self) -> Float[Tensor, "K E"]:
        """Return the prototypes of the context as it is, in training; else those that are kept."""
        return self._embed(self.context_MD) if self.training and self._embed is not None else self.prototype_KE

    def train(self, mode: bool = True) -> ContextRegionHead:
        """Begin to train, or pause and keep the prototypes."""
        if self.training and not mode and self._embed is not None:
            self.prototype_KE.copy_(alone(self._latest))
        super().train(mode)
        return self

    @torch.no_grad()
    def _latest(self) -> Float[Tensor, "K E"]:
        assert self._embed is not None
        return self._embed(self.context_MD)


class ClipRegionHead(nn.Module):
    """Cosine between the frozen image embedding and each prototype, times a constant: as released, nothing to learn."""

    def __init__(self, prototype_KE: Float[Tensor, "K E"], recipe: PromptRecipe) -> None:
        """Build it for unit prototypes."""
        super().__init__()
        self.scale = recipe.scale
        self.prototype_KE: Tensor
        self.register_buffer("prototype_KE", prototype_KE.clone())

    def forward(
        self, fused_TBD: Float[Tensor, "T B D"], image_TBE: Float[Tensor, "T B E"] | None, *, steps: bool = False
    ) -> Float[Tensor, "*T B K"]:
        """Return region logits of the window's mean image embedding, or each step's; the fused sequence is not used."""
        if image_TBE is None:
            raise ValueError("semantic = 'clip' compares image embeddings, and there are none")
        unit_TBE = F.normalize(image_TBE, dim=-1)
        semantic = unit_TBE if steps else F.normalize(unit_TBE.mean(dim=0), dim=-1)
        return self.scale * semantic @ self.prototype_KE.T

"""From the fused sequence to valence and arousal.

Axes: T steps, B windows in the batch, D channels; the last axis 2 is valence, arousal.
"""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from vaprompt.model.dropout import Dropout
from vaprompt.recipes import Recipe


class HeadRecipe(Recipe):
    """The regression head."""

    output: Literal["window", "sequence"] = "window"
    """`window`: one prediction, for the window's end (the paper's). `sequence`: one for each image step (ours)."""
    hidden: int = Field(128, ge=1, le=4096)
    """Hidden units."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Dropout between the two layers."""


class RegressionHead(nn.Module):
    """Two linear layers on the mean over time, or on each step."""

    def __init__(self, width: int, recipe: HeadRecipe) -> None:
        """Build it for `width` channels."""
        super().__init__()
        self.over_time = recipe.output == "window"
        self.layers = nn.Sequential(
            nn.Linear(width, recipe.hidden),
            nn.ReLU(),
            Dropout(recipe.dropout, windows=0 if self.over_time else 1),
            nn.Linear(recipe.hidden, 2),
        )

    def forward(self, fused_TBD: Float[Tensor, "T B D"]) -> Float[Tensor, "B *T 2"]:
        """Return (B, 2), or (B, T, 2) for `sequence`; not limited to [-1, 1]."""
        value: Tensor = self.layers(fused_TBD.mean(dim=0) if self.over_time else fused_TBD)
        return value if self.over_time else value.transpose(0, 1)

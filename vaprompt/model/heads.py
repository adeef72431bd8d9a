"""From the fused sequence to valence and arousal.

Axes: T steps, B windows in the batch, D channels, K regions; the last axis 2 is valence, arousal.
"""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from vaprompt.model.dropout import Dropout
from vaprompt.recipes import Recipe


class HeadRecipe(Recipe):
    """The head that predicts."""

    kind: Literal["regression", "expectation"] = "regression"
    """`regression`: two layers (the paper's). `expectation`: the sum of each region's probability times its centre,
    plus a residual from two layers (ours)."""
    output: Literal["window", "sequence"] = "window"
    """`window`: one prediction, for the window's end (the paper's). `sequence`: one for each image step (ours)."""
    hidden: int = Field(128, ge=1, le=4096)
    """Hidden units."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Dropout between the two layers."""


class RegressionHead(nn.Module):
    """Two linear layers on the mean over time, or on each step."""

    uses_regions = False

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

    def forward(
        self, fused_TBD: Float[Tensor, "T B D"], region_BK: Float[Tensor, "*T B K"] | None = None
    ) -> Float[Tensor, "B *T 2"]:
        """Return (B, 2), or (B, T, 2) for `sequence`; not limited to [-1, 1]. Regions are not looked at."""
        value: Tensor = self.layers(fused_TBD.mean(dim=0) if self.over_time else fused_TBD)
        return value if self.over_time else value.transpose(0, 1)


class ExpectationHead(RegressionHead):
    """Where the regions' probabilities expect the window in the plane, and two layers for what the grid leaves open."""

    uses_regions = True

    def __init__(self, width: int, recipe: HeadRecipe, centre_K2: Float[Tensor, "K 2"]) -> None:
        """Build it for `width` channels and regions with these centres; its residual begins at zero."""
        super().__init__(width, recipe)
        last = self.layers[-1]
        nn.init.zeros_(last.weight)  # type: ignore[arg-type]
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.centre_K2: Tensor
        self.register_buffer("centre_K2", centre_K2.clone())

    def forward(
        self, fused_TBD: Float[Tensor, "T B D"], region_BK: Float[Tensor, "*T B K"] | None = None
    ) -> Float[Tensor, "B *T 2"]:
        """Return (B, 2), or (B, T, 2) for `sequence`, whose regions are those of each step."""
        assert region_BK is not None
        expected = region_BK.softmax(dim=-1) @ self.centre_K2
        residual = super().forward(fused_TBD)
        return residual + (expected if self.over_time else expected.transpose(0, 1))

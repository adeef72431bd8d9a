"""The training recipe: everything that stage 2 can be told, assembled from its parts' recipes.

The defaults are the paper's recipe, as `train/paper.toml` spells it out.

Axes: N points, K regions; the last axis 2 is valence, arousal.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field, model_validator

from vaprompt.model.estimator import ModelRecipe
from vaprompt.recipes import Recipe
from vaprompt.regions import RegionRecipe, soft_labels
from vaprompt.store.streams import STREAM_NAME
from vaprompt.training.optimiser import OptimiserRecipe
from vaprompt.windows import WindowRecipe


class LossRecipe(Recipe):
    """What is minimised: (1 - CCC valence) + (1 - CCC arousal) + kl * KL (paper, equation 6)."""

    kl: float = Field(0.2, ge=0, le=100)
    """Weight of the KL term, the paper's lambda."""
    kl_end: float | None = Field(None, ge=0, le=100)
    """Its weight in the last of `epochs`, towards which it goes from `kl` in the first; left out: it stays."""
    kl_course: Literal["linear", "cosine"] = "linear"
    """How it goes there: evenly, or slowly at both ends."""
    temperature: float = Field(1.0, ge=0.1, le=100)
    """Of the KL term: what both its distributions are softened by (Hinton et al. 2015); 1: not at all."""

    def kl_at(self, epoch: int, epochs: int) -> float:
        """Return the KL term's weight in an epoch, counted from 0, of so many."""
        if self.kl_end is None:
            return self.kl
        share = min(epoch / max(epochs - 1, 1), 1.0)
        if self.kl_course == "cosine":
            share = (1 - math.cos(math.pi * share)) / 2
        return self.kl + share * (self.kl_end - self.kl)


class ComputeRecipe(Recipe):
    """How a step is computed."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """`bf16`: products in half of the bits, sums and weights in single precision."""
    graph: bool = True
    """On a GPU, record a step once and replay it, so that the processor need not start each of its operations."""
    at_once: int | None = Field(None, ge=2, le=65536)
    """Windows in the network at once; left out: the whole batch. Fewer take less memory, and go through it twice, so
    that CCC is that of the whole batch all the same."""


class TrainRecipe(Recipe):
    """Stage 2."""

    stream: str | None = Field(None, pattern=f"^{STREAM_NAME}$")
    """The name that the features were extracted under (`extract --stream NAME`); left out: those under no name."""
    window: WindowRecipe = WindowRecipe()
    regions: RegionRecipe = RegionRecipe()
    model: ModelRecipe = ModelRecipe()
    loss: LossRecipe = LossRecipe()
    optimiser: OptimiserRecipe = OptimiserRecipe()
    compute: ComputeRecipe = ComputeRecipe()
    batch: int = Field(16, ge=2, le=65536)
    """Windows a step; CCC is computed over them (paper: 16)."""
    epochs: int = Field(15, ge=1, le=100_000)
    """Passes over the training windows, at most (paper: 15)."""
    patience: int = Field(5, ge=1, le=100_000)
    """Stop after so many epochs without gain in the mean validation CCC (released code: 5)."""
    min_gain: float = Field(1e-4, ge=0, le=1)
    """What counts as a gain (released code: 1e-4)."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Of the weights' start, the order of windows and dropout."""

    @model_validator(mode="after")
    def _consistent(self) -> TrainRecipe:
        steps = self.window.frames
        if self.model.head.output == "sequence" and steps < 2:
            raise ValueError("head.output = 'sequence' needs window.frames of 2 or more")
        return self

    def targets(self, value_N2: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N K"]:
        """Return the soft region labels that the KL term is computed with, at its temperature.

        Of a Gaussian of the distance, p^(1/T) normalised again is the Gaussian that is sqrt(T) as wide.
        """
        regions = self.regions
        soft_NK = soft_labels(value_N2, regions.centres_K2(), regions.sigma * math.sqrt(self.loss.temperature))
        return soft_NK.astype(np.float32)

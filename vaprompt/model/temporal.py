"""What turns a sequence of frozen embeddings into a sequence that knows its past (and, within the window, its future).

Axes: T steps, B windows in the batch, D channels. Inside the network time stands before the windows, as recurrences
read it.
"""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from vaprompt.model.direction import Weights
from vaprompt.model.dropout import Dropout
from vaprompt.model.recurrence import bidirectional
from vaprompt.recipes import Recipe


class TemporalRecipe(Recipe):
    """The encoder that each modality's sequence goes through."""

    kind: Literal["gru", "tcn"] = "gru"
    """Table 2's two kinds; the GRU is the paper's."""
    layers: int = Field(1, ge=1, le=8)
    """Layers of the bidirectional GRU."""
    units: int = Field(256, ge=1, le=4096)
    """GRU units in each direction."""
    levels: int = Field(2, ge=1, le=10)
    """Levels of the TCN; level i has dilation 2^i."""
    kernel: int = Field(3, ge=2, le=31)
    """Kernel of the TCN's convolutions, in steps."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout inside the TCN, and between layers of a GRU with more than one."""


class GRUEncoder(nn.Module):
    """Bidirectional GRU, then back to the model's width (paper, equation 1)."""

    def __init__(self, width: int, recipe: TemporalRecipe) -> None:
        """Build it for sequences of `width` channels."""
        super().__init__()
        # It holds the weights, and computes on accelerators that run one network alone.
        self.gru = nn.GRU(width, recipe.units, recipe.layers, bidirectional=True)
        self.out = nn.Linear(2 * recipe.units, width)
        self.dropouts = nn.ModuleList(Dropout(recipe.dropout) for _ in range(recipe.layers - 1))

    def forward(self, sequence_TBD: Float[Tensor, "T B D"]) -> Float[Tensor, "T B D"]:
        """Return the encoded sequence, of the same shape."""
        for layer in range(self.gru.num_layers):
            if layer > 0:
                sequence_TBD = self.dropouts[layer - 1](sequence_TBD)
            sequence_TBD = bidirectional(sequence_TBD, self._weights(layer), self._weights(layer, "_reverse"))
        encoded_TBD: Tensor = self.out(sequence_TBD)
        return encoded_TBD

    def _weights(self, layer: int, direction: str = "") -> Weights:
        kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return Weights(*(getattr(self.gru, f"{kind}_l{layer}{direction}") for kind in kinds))


class CausalBlock(nn.Module):
    """Two dilated causal convolutions with a residual connection (Bai et al. 2018)."""

    def __init__(self, width: int, kernel: int, dilation: int, dropout: float) -> None:
        """Build it for `width` channels."""
        super().__init__()
        self.padding = (kernel - 1) * dilation
        self.first = nn.Conv1d(width, width, kernel, dilation=dilation)
        self.second = nn.Conv1d(width, width, kernel, dilation=dilation)
        self.dropouts = nn.ModuleList(Dropout(dropout, windows=0) for _ in range(2))

    def forward(self, sequence_BDT: Float[Tensor, "B D T"]) -> Float[Tensor, "B D T"]:
        """Return the convolved sequence plus its input; step t sees no step after t."""
        hidden_BDT = sequence_BDT
        for convolution, dropout in zip((self.first, self.second), self.dropouts, strict=True):
            hidden_BDT = dropout(convolution(F.pad(hidden_BDT, (self.padding, 0))).relu())
        return (hidden_BDT + sequence_BDT).relu()


class TCNEncoder(nn.Module):
    """Temporal convolutional network: causal blocks with dilation 1, 2, 4, ... (Table 2's alternative)."""

    def __init__(self, width: int, recipe: TemporalRecipe) -> None:
        """Build it for sequences of `width` channels."""
        super().__init__()
        blocks = (CausalBlock(width, recipe.kernel, 2**level, recipe.dropout) for level in range(recipe.levels))
        self.blocks = nn.Sequential(*blocks)

    def forward(self, sequence_TBD: Float[Tensor, "T B D"]) -> Float[Tensor, "T B D"]:
        """Return the encoded sequence, of the same shape."""
        encoded_BDT: Tensor = self.blocks(sequence_TBD.permute(1, 2, 0))
        return encoded_BDT.permute(2, 0, 1)


def temporal_encoder(width: int, recipe: TemporalRecipe) -> nn.Module:
    """Return the encoder that the recipe names, for sequences of `width` channels."""
    return GRUEncoder(width, recipe) if recipe.kind == "gru" else TCNEncoder(width, recipe)
